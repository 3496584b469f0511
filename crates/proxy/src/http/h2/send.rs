//! The sending half: heads and data out, in turn and within the peer's windows (RFC 9113 section 5.2).

use super::core::{Core, Role};
use super::frame::{HEADER, Reason, flag, kind, put_header, put_number};
use super::hpack::Encoder;
use super::message;
use super::streams::Stream;
use crate::http::h1::Framing;
use engine::Head;
use std::task::{Context, Poll};

/// The stream takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Core {
    /// Another stream may be opened now (client side).
    pub(super) fn can_open(&self) -> bool {
        let room = self.streams.open() < self.peer_max_streams.min(self.options.max_streams) as usize;
        room && !self.closing && !self.peer_leaves && self.next < 0x7fff_ffff
    }

    /// Sends a request; its stream is returned. `leaves`: a tunnel follows. `None`: [`Core::can_open`] says no.
    pub(super) fn open(&mut self, head: &Head, framing: Framing, leaves: bool) -> Option<u32> {
        if !self.can_open() {
            return None;
        }
        let id = self.next;
        self.next += 2;
        let end = framing == Framing::None && !leaves;
        self.put_block(id, end, |encoder, out| message::request(head, framing, leaves, encoder, out));
        Some(self.streams.add(Stream {
            id,
            bodiless: head.method() == b"HEAD",
            receive_window: self.options.stream_window.into(),
            send_window: self.peer_stream_window,
            sent_end: end,
            ..Stream::default()
        }))
    }

    /// Sends a response head; `end`: without a body.
    pub(super) fn answer(&mut self, place: u32, head: &Head, end: bool) -> Result<(), Closed> {
        let stream = self.streams.at(place);
        if stream.broken.is_some() || stream.sent_end {
            return Err(Closed);
        }
        stream.answered = true;
        stream.sent_end = end;
        let id = stream.id;
        self.put_block(id, end, |encoder, out| message::response(head, encoder, out));
        self.close_if_done(place);
        Ok(())
    }

    /// A HEADERS frame, with CONTINUATION frames where it is long.
    fn put_block(&mut self, id: u32, end: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        self.note_progress();
        let most = self.peer_max_frame;
        let out = self.out.add();
        let start = out.len();
        let end = if end { flag::END_STREAM } else { 0 };
        put_header(out, 0, kind::HEADERS, end | flag::END_HEADERS, id);
        write(&mut self.encoder, out);
        let length = out.len() - start - HEADER;
        if length > most {
            let block = out.split_off(start + HEADER);
            out.truncate(start);
            let pieces = block.chunks(most);
            let last = pieces.len() - 1;
            for (at, piece) in pieces.enumerate() {
                let (kind, flags) = if at == 0 { (kind::HEADERS, end) } else { (kind::CONTINUATION, 0) };
                let flags = flags | if at == last { flag::END_HEADERS } else { 0 };
                put_header(out, piece.len(), kind, flags, id);
                out.extend_from_slice(piece);
            }
            return;
        }
        let [_, a, b, c] = (length as u32).to_be_bytes();
        out[start..start + 3].copy_from_slice(&[a, b, c]);
    }

    /// Takes as much of `data` as the windows allow, when it is the stream's turn.
    pub(super) fn poll_data(&mut self, place: u32, cx: &Context<'_>, data: &[u8]) -> Poll<Result<usize, Closed>> {
        let room = self.send_window.min(if self.out.is_full() { 0 } else { i64::MAX });
        let turn = self.waiting.front().is_none_or(|next| *next == place);
        let most = self.peer_max_frame;
        let stream = self.streams.at(place);
        if stream.broken.is_some() || stream.sent_end {
            return Poll::Ready(Err(Closed));
        }
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if stream.send_window <= 0 {
            stream.wait(cx);
            self.leave_queue(place);
            return Poll::Pending;
        }
        if room <= 0 || !turn {
            stream.wait(cx);
            if !std::mem::replace(&mut stream.queued, true) {
                self.waiting.push_back(place);
            }
            return Poll::Pending;
        }
        let count = usize::try_from(stream.send_window.min(room)).unwrap_or(usize::MAX).min(data.len()).min(most);
        stream.send_window -= count as i64;
        stream.last_data = Some(self.out.position());
        let id = stream.id;
        self.send_window -= count as i64;
        let out = self.out.add();
        put_header(out, count, kind::DATA, 0, id);
        out.extend_from_slice(&data[..count]);
        self.note_progress();
        self.leave_queue(place);
        Poll::Ready(Ok(count))
    }

    /// Ends this side of the stream: by the last DATA frame where it is still here.
    pub(super) fn finish(&mut self, place: u32, trailers: Option<&Head>) -> Result<(), Closed> {
        let stream = self.streams.at(place);
        if stream.broken.is_some() || stream.sent_end {
            return Err(Closed);
        }
        stream.sent_end = true;
        let (id, last) = (stream.id, stream.last_data);
        match trailers {
            Some(head) => self.put_block(id, true, |encoder, out| {
                encoder.start(out);
                message::trailers(head, encoder, out);
            }),
            None => match last.and_then(|position| self.out.at(position + FLAGS)) {
                Some(flags) => *flags |= flag::END_STREAM,
                None => put_header(self.out.add(), 0, kind::DATA, flag::END_STREAM, id),
            },
        }
        self.leave_queue(place);
        self.close_if_done(place);
        Ok(())
    }

    /// The stream has nothing to send at the moment: others need not wait for it.
    pub(super) fn leave_queue(&mut self, place: u32) {
        let stream = self.streams.at(place);
        if std::mem::take(&mut stream.queued) {
            self.waiting.retain(|other| *other != place);
        }
        self.call_next();
    }

    /// Wakes the stream whose turn it is, if it can send.
    pub(super) fn call_next(&mut self) {
        if self.send_window <= 0 || self.out.is_full() {
            return;
        }
        if let Some(&place) = self.waiting.front() {
            self.streams.at(place).wake();
        }
    }

    /// Received data was used up: the peer may send as much again, and is told when it is worth a frame.
    pub(super) fn consume(&mut self, place: u32, count: usize) {
        self.give_back(count);
        self.give_back_to(place, count);
    }

    /// The connection's part of it.
    pub(super) fn give_back(&mut self, count: usize) {
        self.consumed += count as i64;
        if self.consumed * 2 >= i64::from(self.options.connection_window) && !self.closing {
            put_number(self.out.add(), kind::WINDOW_UPDATE, 0, self.consumed as u32);
            self.receive_window += self.consumed;
            self.consumed = 0;
        }
    }

    /// The stream's part of it.
    pub(super) fn give_back_to(&mut self, place: u32, count: usize) {
        let size = i64::from(self.options.stream_window);
        let stream = self.streams.at(place);
        stream.consumed += count as i64;
        let (id, consumed) = (stream.id, stream.consumed);
        if consumed * 2 >= size && !stream.ended && self.streams.find(id).is_some() {
            let stream = self.streams.at(place);
            stream.receive_window += consumed;
            stream.consumed = 0;
            put_number(self.out.add(), kind::WINDOW_UPDATE, id, consumed as u32);
        }
    }

    /// Nobody refers to the stream any more.
    pub(super) fn abandon(&mut self, place: u32) {
        let stream = self.streams.at(place);
        let unread = stream.received.len();
        // A server that has answered completely tells the client that the rest is not needed (section 8.1).
        let done = stream.sent_end && self.role == Role::Server;
        self.give_back(unread);
        self.reset(place, if done { Reason::NO_ERROR } else { Reason::CANCEL });
        self.leave_queue(place);
        self.streams.remove(place);
    }
}

/// Place of the flags in a frame's header.
const FLAGS: u64 = 4;
