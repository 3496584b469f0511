//! Two connections that talk to each other in memory, and peers that break the rules.

use super::core::{Core, Fatal, Options, Role};
use super::frame::{Reason, flag, kind, put_header, put_number, put_settings, setting};
use super::message::Limits;
use super::streams::Broken;
use crate::http::h1::Framing;
use engine::Head;
use proptest::prelude::*;
use std::task::{Context, Poll, Waker};

const OPTIONS: Options = Options {
    stream_window: 65_535,
    connection_window: 100_000,
    max_streams: 10,
    limits: Limits { bytes: 4096, fields: 50 },
    extended_connect: true,
};

fn request() -> Head {
    let mut head = Head::default();
    head.set_method(b"POST");
    head.set_scheme(b"http");
    head.set_path(b"/a");
    head.set_authority(b"shop");
    head.push(b"x-team", b"blue");
    head
}

fn answer() -> Head {
    let mut head = Head::default();
    head.status = 200;
    head.push(b"server", b"test");
    head
}

/// Moves what `from` gathered to `to`, in pieces of at most `piece` bytes.
fn deliver(from: &mut Core, to: &mut Core, carry: &mut Vec<u8>, piece: usize) -> Result<(), Fatal> {
    for part in from.out.bytes.clone().chunks(piece) {
        carry.extend_from_slice(part);
        let taken = to.receive(carry)?;
        carry.drain(..taken);
    }
    from.out.emptied();
    from.call_next();
    Ok(())
}

struct Pair {
    client: Core,
    server: Core,
    carries: (Vec<u8>, Vec<u8>),
    piece: usize,
}

impl Pair {
    fn new(piece: usize) -> Self {
        let (client, server) = (Core::new(Role::Client, OPTIONS), Core::new(Role::Server, OPTIONS));
        Pair { client, server, carries: Default::default(), piece }
    }

    fn pump(&mut self) {
        while !self.client.out.bytes.is_empty() || !self.server.out.bytes.is_empty() {
            deliver(&mut self.client, &mut self.server, &mut self.carries.0, self.piece).expect("a good client");
            deliver(&mut self.server, &mut self.client, &mut self.carries.1, self.piece).expect("a good server");
        }
    }
}

/// The byte at `at` of the body of stream `id`.
fn body_byte(id: u32, at: usize) -> u8 {
    (at as u32).wrapping_mul(31).wrapping_add(id) as u8
}

/// One direction of a stream under test.
#[derive(Clone, Copy, Default)]
struct Flow {
    sent: usize,
    received: usize,
    length: usize,
    ended: bool,
}

/// Sends some of the flow's body, and ends it when all is sent.
fn push(core: &mut Core, place: u32, id: u32, flow: &mut Flow, most: usize) {
    let cx = Context::from_waker(Waker::noop());
    if flow.sent < flow.length {
        let count = most.min(flow.length - flow.sent);
        let data: Vec<u8> = (flow.sent..flow.sent + count).map(|at| body_byte(id, at)).collect();
        if let Poll::Ready(taken) = core.poll_data(place, &cx, &data) {
            flow.sent += taken.expect("the stream is open");
        }
    }
    if flow.sent == flow.length && !flow.ended {
        core.finish(place, None).expect("the stream is open");
        flow.ended = true;
    }
}

/// Takes some of what came.
fn pull(core: &mut Core, place: u32, id: u32, flow: &mut Flow, most: usize) {
    let stream = core.streams.at(place);
    assert_eq!(stream.broken, None);
    let count = most.min(stream.received.len());
    for byte in stream.received.drain(..count) {
        assert_eq!(byte, body_byte(id, flow.received));
        flow.received += 1;
    }
    core.consume(place, count);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Bodies of any size arrive as they were sent, whatever the order of events, within the windows.
    #[test]
    fn bodies_arrive(lengths in prop::collection::vec((0usize..300_000, 0usize..300_000), 1..8), seed: u64, piece in 1usize..20_000) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new(piece.max(50));
        let mut streams = Vec::new();
        for (up, down) in lengths {
            let place = pair.client.open(&request(), Framing::Chunked, false).expect("room");
            pair.client.streams.at(place).handles = 1;
            let id = pair.client.streams.at(place).id;
            pair.pump();
            let at_server = pair.server.accepted.pop_front().expect("a stream");
            pair.server.streams.at(at_server).handles = 1;
            pair.server.answer(at_server, &answer(), false).expect("open");
            streams.push((id, place, at_server, Flow { length: up, ..Flow::default() }, Flow { length: down, ..Flow::default() }));
        }
        let mut rounds = 0;
        while streams.iter().any(|(_, _, _, up, down)| up.received < up.length || down.received < down.length) {
            rounds += 1;
            prop_assert!(rounds < 100_000, "it does not end");
            let at = random.usize(..streams.len());
            let (id, here, there, up, down) = &mut streams[at];
            match random.u8(..5) {
                0 => push(&mut pair.client, *here, *id, up, random.usize(1..40_000)),
                1 => push(&mut pair.server, *there, *id, down, random.usize(1..40_000)),
                2 => pull(&mut pair.server, *there, *id, up, random.usize(1..100_000)),
                3 => pull(&mut pair.client, *here, *id, down, random.usize(1..100_000)),
                _ => pair.pump(),
            }
        }
        for (id, here, there, up, down) in &mut streams {
            push(&mut pair.client, *here, *id, up, 1);
            push(&mut pair.server, *there, *id, down, 1);
        }
        pair.pump();
        for (_, here, there, ..) in &streams {
            prop_assert!(pair.client.streams.at(*here).ended && pair.server.streams.at(*there).ended);
        }
        prop_assert_eq!((pair.client.streams.open(), pair.server.streams.open()), (0, 0));
    }

    /// Whatever arrives, nothing panics, and an error ends it.
    #[test]
    fn nothing_panics(frames in prop::collection::vec((0u8..12, any::<u8>(), 0u32..8, prop::collection::vec(any::<u8>(), 0..40)), 0..40)) {
        let mut server = greeted();
        let mut bytes = Vec::new();
        for (kind, flags, stream, payload) in frames {
            put_header(&mut bytes, payload.len(), kind, flags, stream);
            bytes.extend_from_slice(&payload);
        }
        let mut taken = 0;
        while taken < bytes.len() {
            match server.receive(&bytes[taken..]) {
                Ok(0) => break,
                Ok(count) => taken += count,
                Err(fatal) => {
                    server.fail(fatal);
                    break;
                }
            }
        }
    }
}

/// A server past the preface.
fn greeted() -> Core {
    let mut server = Core::new(Role::Server, OPTIONS);
    let mut bytes = super::frame::PREFACE.to_vec();
    put_settings(&mut bytes, &[]);
    assert_eq!(server.receive(&bytes), Ok(bytes.len()));
    server.out.emptied();
    server
}

fn get(out: &mut Vec<u8>, id: u32, flags: u8) {
    let block = [0x82, 0x86, 0x84, 0x01, 1, b'a'];
    put_header(out, block.len(), kind::HEADERS, flags, id);
    out.extend_from_slice(&block);
}

const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

fn fed(server: &mut Core, bytes: &[u8]) -> Result<(), Fatal> {
    let mut taken = 0;
    while taken < bytes.len() {
        match server.receive(&bytes[taken..])? {
            0 => return Ok(()),
            count => taken += count,
        }
    }
    Ok(())
}

#[test]
fn the_last_data_frame_ends_the_stream() {
    let mut pair = Pair::new(usize::MAX);
    let place = pair.client.open(&request(), Framing::Chunked, false).unwrap();
    pair.pump();
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(pair.client.poll_data(place, &cx, b"body"), Poll::Ready(Ok(4)));
    let before = pair.client.out.bytes.len();
    pair.client.finish(place, None).unwrap();
    assert_eq!(pair.client.out.bytes.len(), before, "no frame of its own");
    pair.pump();
    let at = pair.server.accepted.pop_front().unwrap();
    assert!(pair.server.streams.at(at).ended);
}

#[test]
fn streams_take_turns() {
    let mut pair = Pair::new(usize::MAX);
    pair.pump();
    let cx = Context::from_waker(Waker::noop());
    let places: Vec<u32> = (0..3).map(|_| pair.client.open(&request(), Framing::Chunked, false).unwrap()).collect();
    let data = vec![0; 16_384];
    let mut sent = [0; 3];
    // What is short is the room for output.
    pair.client.send_window = 1 << 30;
    pair.client.streams.each().for_each(|stream| stream.send_window = 1 << 30);
    // Each goes on until it must wait; then whoever is called, as a task that was woken.
    let run = |client: &mut Core, at: usize, sent: &mut [usize; 3]| {
        while let Poll::Ready(count) = client.poll_data(places[at], &cx, &data) {
            sent[at] += count.unwrap();
        }
    };
    for round in 0..40 {
        (0..3).filter(|_| round == 0).for_each(|at| run(&mut pair.client, at, &mut sent));
        pair.client.out.emptied();
        while let Some(next) = pair.client.waiting.front().copied() {
            let at = places.iter().position(|place| *place == next).unwrap();
            run(&mut pair.client, at, &mut sent);
            if pair.client.waiting.front() == Some(&next) {
                break;
            }
        }
    }
    let (most, least) = (sent.iter().max().unwrap(), sent.iter().min().unwrap());
    assert!(*least > 0 && most - least <= 6 * data.len(), "{sent:?}");
}

#[test]
fn a_stream_that_pauses_holds_up_nobody() {
    let mut pair = Pair::new(usize::MAX);
    pair.pump();
    let cx = Context::from_waker(Waker::noop());
    let (a, b) = (
        pair.client.open(&request(), Framing::Chunked, false).unwrap(),
        pair.client.open(&request(), Framing::Chunked, false).unwrap(),
    );
    pair.client.send_window = 0;
    assert!(pair.client.poll_data(a, &cx, b"x").is_pending());
    assert!(pair.client.poll_data(b, &cx, b"x").is_pending());
    pair.client.send_window = 100;
    assert!(pair.client.poll_data(b, &cx, b"x").is_pending(), "it is not its turn");
    pair.client.leave_queue(a);
    assert_eq!(pair.client.poll_data(b, &cx, b"x"), Poll::Ready(Ok(1)));
}

#[test]
fn lengths_must_be_kept() {
    for (length, data, good) in [("4", 4, true), ("4", 3, false), ("4", 5, false)] {
        let mut server = greeted();
        let mut bytes = Vec::new();
        let block = [&[0x83, 0x86, 0x84, 0x01, 1, b'a', 0x0f, 13, 1][..], length.as_bytes()].concat();
        put_header(&mut bytes, block.len(), kind::HEADERS, flag::END_HEADERS, 1);
        bytes.extend(block);
        put_header(&mut bytes, data, kind::DATA, flag::END_STREAM, 1);
        bytes.extend(vec![0; data]);
        fed(&mut server, &bytes).unwrap();
        assert_eq!(server.accepted.len() == 1, good, "{length} bytes told, {data} sent");
    }
}

#[test]
fn a_reset_before_the_answer_counts() {
    let mut server = greeted();
    let mut bytes = Vec::new();
    for number in 0..2000u32 {
        get(&mut bytes, number * 2 + 1, WHOLE);
        put_number(&mut bytes, kind::RST_STREAM, number * 2 + 1, Reason::CANCEL.0);
    }
    assert_eq!(fed(&mut server, &bytes), Err(Fatal(Reason::ENHANCE_YOUR_CALM)));
    assert!(server.accepted.is_empty() && server.streams.open() == 0);
}

#[test]
fn goaway_tells_what_was_not_processed() {
    let mut pair = Pair::new(usize::MAX);
    pair.pump();
    let places: Vec<u32> = (0..3).map(|_| pair.client.open(&request(), Framing::None, false).unwrap()).collect();
    let mut bytes = Vec::new();
    super::frame::put_goaway(&mut bytes, 3, Reason::NO_ERROR);
    fed(&mut pair.client, &bytes).unwrap();
    let broken: Vec<_> = places.iter().map(|place| pair.client.streams.at(*place).broken).collect();
    assert_eq!(broken, [None, None, Some(Broken::Unprocessed)]);
    assert!(!pair.client.can_open());
}

#[test]
fn draining_finishes_what_is_under_way() {
    let mut pair = Pair::new(usize::MAX);
    let place = pair.client.open(&request(), Framing::None, false).unwrap();
    pair.client.streams.at(place).handles = 1;
    pair.pump();
    let served = pair.server.accepted.pop_front().unwrap();
    pair.server.streams.at(served).handles = 1;
    pair.server.drain();
    pair.pump();
    assert!(!pair.server.is_over() && !pair.client.can_open());
    pair.server.answer(served, &answer(), true).unwrap();
    pair.pump();
    assert!(pair.server.is_over());
    assert_eq!(pair.client.streams.at(place).broken, None);
    assert!(pair.client.streams.at(place).ended);
}

#[test]
fn frames_that_break_the_rules() {
    let settings = |id: u16, value: u32| {
        let mut bytes = Vec::new();
        put_settings(&mut bytes, &[(id, value)]);
        bytes
    };
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut bytes = Vec::new();
        put_header(&mut bytes, payload.len(), kind, flags, stream);
        bytes.extend_from_slice(payload);
        bytes
    };
    let protocol = Reason::PROTOCOL_ERROR;
    for (what, bytes, reason) in [
        ("data on stream 0", frame(kind::DATA, 0, 0, b"x"), protocol),
        ("data on an idle stream", frame(kind::DATA, 0, 1, b"x"), protocol),
        ("headers on stream 0", frame(kind::HEADERS, WHOLE, 0, &[0x82]), protocol),
        ("headers on an even stream", frame(kind::HEADERS, WHOLE, 2, &[0x82]), protocol),
        ("too much padding", frame(kind::HEADERS, WHOLE | flag::PADDED, 1, &[9, 0x82]), protocol),
        ("continuation of nothing", frame(kind::CONTINUATION, 0, 1, &[]), protocol),
        ("push", frame(kind::PUSH_PROMISE, 0, 1, &[0; 8]), protocol),
        ("reset of an idle stream", frame(kind::RST_STREAM, 0, 1, &[0; 4]), protocol),
        ("a short reset", frame(kind::RST_STREAM, 0, 1, &[0; 3]), Reason::FRAME_SIZE_ERROR),
        ("a long ping", frame(kind::PING, 0, 0, &[0; 9]), Reason::FRAME_SIZE_ERROR),
        ("a ping on a stream", frame(kind::PING, 0, 1, &[0; 8]), protocol),
        ("settings cut off", frame(kind::SETTINGS, 0, 0, &[0; 5]), Reason::FRAME_SIZE_ERROR),
        ("an acknowledgement with settings", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), Reason::FRAME_SIZE_ERROR),
        ("push enabled twice", settings(setting::ENABLE_PUSH, 2), protocol),
        ("a small frame size", settings(setting::MAX_FRAME_SIZE, 16_383), protocol),
        ("a huge window", settings(setting::INITIAL_WINDOW_SIZE, 1 << 31), Reason::FLOW_CONTROL_ERROR),
        ("a window of nothing", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), protocol),
        (
            "a window that overflows",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Reason::FLOW_CONTROL_ERROR,
        ),
        ("a block that cannot be decoded", frame(kind::HEADERS, WHOLE, 1, &[0xff, 0xff]), Reason::COMPRESSION_ERROR),
        ("a frame too long", frame(kind::DATA, 0, 1, &[0; 16_385]), Reason::FRAME_SIZE_ERROR),
    ] {
        assert_eq!(fed(&mut greeted(), &bytes), Err(Fatal(reason)), "{what}");
    }
    let mut server = Core::new(Role::Server, OPTIONS);
    assert_eq!(server.receive(b"GET / HTTP/1.1\r\n"), Err(Fatal(protocol)));
    let mut server = Core::new(Role::Server, OPTIONS);
    let early = [super::frame::PREFACE, &frame(kind::PING, 0, 0, &[0; 8])].concat();
    assert_eq!(fed(&mut server, &early), Err(Fatal(protocol)));
}

/// What a peer sends on a stream that was just reset here is no error.
#[test]
fn late_frames_are_ignored() {
    let mut server = greeted();
    let mut bytes = Vec::new();
    get(&mut bytes, 1, flag::END_HEADERS);
    fed(&mut server, &bytes).unwrap();
    let place = server.accepted.pop_front().unwrap();
    server.streams.at(place).handles = 1;
    server.abandon(place);
    let mut late = Vec::new();
    put_header(&mut late, 4, kind::DATA, 0, 1);
    late.extend_from_slice(b"late");
    put_header(&mut late, 2, kind::HEADERS, WHOLE, 1);
    late.extend_from_slice(&[0x0f, 0x00]);
    late.truncate(late.len() - 2);
    late.extend_from_slice(&[0xa0, 0xa0]);
    assert_eq!(fed(&mut server, &late), Ok(()));
    let mut next = Vec::new();
    get(&mut next, 3, WHOLE);
    fed(&mut server, &next).unwrap();
    assert_eq!(server.accepted.len(), 1);
}
