//! What one HTTP/2 connection knows: both directions' windows, its streams, and the bytes to be written. No I/O.
//! `receive` and `send` hold its two halves.

use super::frame::{
    DEFAULT_WINDOW, MAX_FRAME, Reason, flag, kind, put_goaway, put_header, put_number, put_settings, setting,
};
use super::hpack::{Decoder, Encoder};
use super::message::Limits;
use super::streams::{Broken, Streams};
use crate::clock;
use crate::http::buffer;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes gathered for writing beyond which no more data is taken.
pub(super) const FULL: usize = 64 * 1024;
/// Resets and answers to control frames that a peer which does not read may cause.
const MOST_UNREAD: u32 = 4000;
/// Streams that were reset here lately: frames on their way to them are no error.
const RECENT: usize = 64;
/// Frames that bring nothing forward, in a period.
const IDLE_FRAMES: u32 = 1000;
const IDLE_PERIOD: Duration = Duration::from_secs(10);
/// Streams reset by the peer from which on they must not be more than half of all (CVE-2023-44487).
const RESETS: u32 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// What a connection is opened with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub stream_window: u32,
    pub connection_window: u32,
    /// Streams the peer may open (server side).
    pub max_streams: u32,
    /// Bounds of a head.
    pub limits: Limits,
    /// Clients may switch protocols by CONNECT (RFC 8441; server side).
    pub extended_connect: bool,
}

/// The connection must end: a connection error (section 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fatal(pub(super) Reason);

/// What is to be written.
#[derive(Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
    /// Of `bytes`, what is out already.
    pub(super) written: usize,
    /// All that was gathered before `bytes`.
    before: u64,
    /// Resets and answers to control frames among `bytes`.
    control: u32,
}

impl Out {
    /// The bytes, with room.
    pub(super) fn add(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = buffer::take_output();
        }
        &mut self.bytes
    }

    /// The bytes, for a reset or an answer to a control frame.
    pub(super) fn add_control(&mut self) -> &mut Vec<u8> {
        self.control += 1;
        self.add()
    }

    /// Counted from the first byte ever gathered.
    pub(super) fn position(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// The byte at `position`, if it can still be changed.
    pub(super) fn at(&mut self, position: u64) -> Option<&mut u8> {
        let at = usize::try_from(position.checked_sub(self.before)?).ok()?;
        if at < self.written { None } else { self.bytes.get_mut(at) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    pub(super) fn emptied(&mut self) {
        self.before += self.bytes.len() as u64;
        self.written = 0;
        self.control = 0;
        buffer::give_output(std::mem::take(&mut self.bytes));
    }
}

/// The header block that CONTINUATION frames go on with.
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end_stream: bool,
    pub(super) circular: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: u32,
}

pub(super) struct Core {
    pub(super) role: Role,
    pub(super) options: Options,
    pub(super) streams: Streams,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) out: Out,
    /// The connection's windows.
    pub(super) receive_window: i64,
    pub(super) consumed: i64,
    pub(super) send_window: i64,
    /// The peer's settings.
    pub(super) peer_stream_window: i64,
    pub(super) peer_max_frame: usize,
    pub(super) peer_max_streams: u32,
    /// The peer said that it does not take, or takes, an extended CONNECT; until its settings came it is not known.
    pub(super) peer_extended_connect: bool,
    /// The preface is complete (server side), and the peer's first SETTINGS are.
    pub(super) greeted: bool,
    pub(super) settled: bool,
    pub(super) block: Option<Block>,
    /// A DATA frame under way: its stream, and how many bytes of data and then padding are to come.
    pub(super) data: Option<Incoming>,
    /// Highest stream that the peer opened.
    pub(super) last_peer: u32,
    /// Next stream to open (client side).
    pub(super) next: u32,
    /// Streams that nobody serves yet (server side).
    pub(super) accepted: VecDeque<u32>,
    /// Streams that wait for the connection's window, or room, in turn.
    pub(super) waiting: VecDeque<u32>,
    recent: VecDeque<u32>,
    /// Streams up to here are still served (GOAWAY was sent).
    pub(super) last_served: Option<u32>,
    /// GOAWAY was received.
    pub(super) peer_leaves: bool,
    /// No more than what is gathered is written.
    pub(super) closing: bool,
    /// The peer broke the protocol.
    pub(super) failed: bool,
    /// The ping that is not answered yet.
    pub(super) ping: Option<Ping>,
    /// Frames that brought nothing forward since the moment.
    idle_frames: (Instant, u32),
    pub(super) opened: u32,
    pub(super) resets: u32,
}

/// Why a ping was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    /// To see that the peer is alive.
    KeepAlive,
    /// To know that the peer has seen the first GOAWAY.
    Drain,
}

#[derive(Clone, Copy)]
pub(super) struct Incoming {
    pub(super) stream: u32,
    pub(super) data: usize,
    pub(super) padding: usize,
    pub(super) end_stream: bool,
}

impl Core {
    /// A connection whose first words are gathered.
    pub(super) fn new(role: Role, options: Options) -> Self {
        let mut core = Core {
            role,
            options,
            streams: Streams::default(),
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            out: Out::default(),
            receive_window: options.connection_window.into(),
            consumed: 0,
            send_window: DEFAULT_WINDOW,
            peer_stream_window: DEFAULT_WINDOW,
            peer_max_frame: MAX_FRAME,
            peer_max_streams: u32::MAX,
            peer_extended_connect: false,
            greeted: role == Role::Client,
            settled: false,
            block: None,
            data: None,
            last_peer: 0,
            next: 1,
            accepted: VecDeque::new(),
            waiting: VecDeque::new(),
            recent: VecDeque::new(),
            last_served: None,
            peer_leaves: false,
            closing: false,
            failed: false,
            ping: None,
            idle_frames: (clock::now(), 0),
            opened: 0,
            resets: 0,
        };
        core.greet();
        core
    }

    fn greet(&mut self) {
        let options = self.options;
        let window = (setting::INITIAL_WINDOW_SIZE, options.stream_window);
        let list = (setting::MAX_HEADER_LIST_SIZE, u32::try_from(options.limits.bytes).unwrap_or(u32::MAX));
        let out = self.out.add();
        match self.role {
            Role::Client => {
                out.extend_from_slice(super::frame::PREFACE);
                put_settings(out, &[(setting::ENABLE_PUSH, 0), window, list]);
            }
            Role::Server => {
                let streams = (setting::MAX_CONCURRENT_STREAMS, options.max_streams);
                let connect = (setting::ENABLE_CONNECT_PROTOCOL, 1);
                let settings = [streams, window, list, connect];
                put_settings(out, &settings[..if options.extended_connect { 4 } else { 3 }]);
            }
        }
        let more = i64::from(options.connection_window) - DEFAULT_WINDOW;
        if more > 0 {
            put_number(out, kind::WINDOW_UPDATE, 0, more as u32);
        }
    }

    /// Ends a stream at once, and says why.
    pub(super) fn reset(&mut self, place: u32, reason: Reason) {
        let stream = self.streams.at(place);
        let id = stream.id;
        if self.streams.find(id).is_none() {
            return;
        }
        put_number(self.out.add_control(), kind::RST_STREAM, id, reason.0);
        self.streams.close(id);
        self.remember(id);
        self.leave_queue(place);
    }

    /// Ends a stream because the peer did wrong (section 5.4.2).
    pub(super) fn refuse(&mut self, place: u32, reason: Reason) {
        self.reset(place, reason);
        self.streams.at(place).break_off(Broken::Refused(reason));
        self.drop_unserved(place);
    }

    /// A reset for a stream that does not exist here.
    pub(super) fn refuse_unknown(&mut self, id: u32, reason: Reason) {
        put_number(self.out.add_control(), kind::RST_STREAM, id, reason.0);
        self.remember(id);
    }

    fn remember(&mut self, id: u32) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
    }

    /// The stream was reset here a short while ago.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        self.recent.contains(&id)
    }

    /// A stream that ended before anyone served it needs no service.
    pub(super) fn drop_unserved(&mut self, place: u32) {
        if self.streams.at(place).handles == 0 {
            self.accepted.retain(|&other| other != place);
            self.streams.remove(place);
        }
    }

    /// Both sides are done.
    pub(super) fn close_if_done(&mut self, place: u32) {
        let stream = self.streams.at(place);
        if stream.ended && stream.sent_end {
            let id = stream.id;
            self.streams.close(id);
        }
    }

    /// The connection is lost, or ends with an error.
    pub(super) fn break_all(&mut self, broken: Broken) {
        self.closing = true;
        self.streams.each().for_each(|stream| stream.break_off(broken));
        self.streams.close_all();
        self.waiting.clear();
        while let Some(place) = self.accepted.pop_front() {
            self.streams.remove(place);
        }
    }

    /// Says why the connection ends.
    pub(super) fn fail(&mut self, fatal: Fatal) {
        self.failed = true;
        put_goaway(self.out.add(), self.last_peer, fatal.0);
        self.last_served = Some(self.last_peer);
        self.break_all(Broken::Refused(fatal.0));
    }

    /// Takes no more streams, once the peer knows (section 6.8); those under way are finished.
    pub(super) fn drain(&mut self) {
        if self.last_served.is_some() || self.closing {
            return;
        }
        self.last_served = Some(0x7fff_ffff);
        put_goaway(self.out.add(), 0x7fff_ffff, Reason::NO_ERROR);
        self.ping = None;
        self.send_ping(Ping::Drain);
    }

    /// The peer has seen the first GOAWAY: what it opened before is known now.
    pub(super) fn drain_on(&mut self) {
        self.last_served = Some(self.last_peer);
        put_goaway(self.out.add(), self.last_peer, Reason::NO_ERROR);
    }

    /// Ends the connection, on which no stream is open.
    pub(super) fn close(&mut self) {
        if !self.closing {
            put_goaway(self.out.add(), self.last_peer, Reason::NO_ERROR);
            self.break_all(Broken::Lost);
        }
    }

    /// Nothing is left to do but to write what is gathered.
    pub(super) fn is_over(&mut self) -> bool {
        let drained = self.last_served.is_some_and(|last| last == self.last_peer) && self.ping.is_none();
        if !self.closing && self.streams.open() == 0 && (drained || self.peer_leaves) {
            self.break_all(Broken::Lost);
        }
        self.closing
    }

    pub(super) fn send_ping(&mut self, ping: Ping) {
        if self.ping.is_none() {
            self.ping = Some(ping);
            let out = self.out.add();
            put_header(out, 8, kind::PING, 0, 0);
            out.extend_from_slice(&ping.payload());
        }
    }

    pub(super) fn pong(&mut self, payload: [u8; 8]) {
        let out = self.out.add_control();
        put_header(out, 8, kind::PING, flag::ACK, 0);
        out.extend_from_slice(&payload);
    }

    /// Bounds what a peer can make us do and hold without getting anywhere.
    pub(super) fn note_idle_frame(&mut self) -> Result<(), Fatal> {
        let now = clock::now();
        let (since, count) = &mut self.idle_frames;
        if now.saturating_duration_since(*since) > IDLE_PERIOD {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > IDLE_FRAMES || self.out.control > MOST_UNREAD {
            return Err(Fatal(Reason::ENHANCE_YOUR_CALM));
        }
        Ok(())
    }

    /// Something got forward.
    pub(super) fn note_progress(&mut self) {
        self.idle_frames.1 = 0;
    }

    /// The peer reset a stream before it had an answer.
    pub(super) fn note_reset(&mut self) -> Result<(), Fatal> {
        self.resets += 1;
        if self.resets > RESETS && self.resets > self.opened / 2 {
            return Err(Fatal(Reason::ENHANCE_YOUR_CALM));
        }
        Ok(())
    }
}

/// Feeds a connection with what a peer may send, in pieces, and hands every request on: for the fuzz target. What could
/// be written afterwards is returned.
pub fn digest(role: Role, bytes: &[u8], piece: usize) -> usize {
    let limits = Limits { bytes: 60 * 1024, fields: 100 };
    let options =
        Options { stream_window: 65_535, connection_window: 65_535, max_streams: 10, limits, extended_connect: true };
    let mut core = Core::new(role, options);
    let mut carried = Vec::new();
    for part in bytes.chunks(piece.max(1)) {
        carried.extend_from_slice(part);
        match core.receive(&carried) {
            Ok(taken) => drop(carried.drain(..taken)),
            Err(fatal) => {
                core.fail(fatal);
                break;
            }
        }
        while let Some(place) = core.accepted.pop_front() {
            core.streams.at(place).handles = 1;
            core.consume(place, 0);
            core.abandon(place);
        }
    }
    core.out.bytes.len()
}

impl Ping {
    pub(super) fn payload(self) -> [u8; 8] {
        match self {
            Ping::KeepAlive => *b"ripstop1",
            Ping::Drain => *b"ripstop2",
        }
    }
}
