//! The receiving half: frames in, and what they do to streams (RFC 9113 sections 5 and 6).

use super::core::{Block, Core, Fatal, Incoming, Ping, Role};
use super::frame::{Frame, HEADER, MAX_FRAME, MAX_WINDOW, PREFACE, Reason, flag, kind, number, put_header, setting};
use super::message::{Kind, Received};
use super::streams::{Broken, Stream};
use crate::http::{buffer, heads};

/// CONTINUATION frames of one header block.
const MOST_FRAMES: u32 = 100;

const PROTOCOL: Fatal = Fatal(Reason::PROTOCOL_ERROR);
const FRAME_SIZE: Fatal = Fatal(Reason::FRAME_SIZE_ERROR);

/// A header block and the frame it began with.
#[derive(Clone, Copy)]
struct Headers {
    stream: u32,
    end_stream: bool,
    /// It depends on itself (section 5.3.1 of RFC 7540).
    circular: bool,
}

impl Core {
    /// Takes what is complete of `bytes`, and data as it comes; returns how much that was.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<usize, Fatal> {
        let mut taken = 0;
        if !self.greeted {
            let start = bytes.len().min(PREFACE.len());
            if bytes[..start] != PREFACE[..start] {
                return Err(PROTOCOL);
            }
            if start < PREFACE.len() {
                return Ok(0);
            }
            self.greeted = true;
            taken = start;
        }
        loop {
            let rest = &bytes[taken..];
            if let Some(incoming) = self.data.take() {
                taken += self.more_data(incoming, rest)?;
                if self.data.is_some() {
                    return Ok(taken);
                }
                continue;
            }
            let Some(frame) = Frame::parse(rest) else { return Ok(taken) };
            self.check_order(&frame)?;
            if frame.kind == kind::DATA {
                let head = HEADER + usize::from(frame.has(flag::PADDED));
                if rest.len() < head {
                    return Ok(taken);
                }
                self.start_data(&frame, rest.get(HEADER))?;
                taken += head;
                continue;
            }
            let Some(payload) = rest.get(HEADER..HEADER + frame.length) else { return Ok(taken) };
            self.frame(&frame, payload)?;
            taken += HEADER + frame.length;
        }
    }

    fn check_order(&self, frame: &Frame) -> Result<(), Fatal> {
        if frame.length > MAX_FRAME {
            return Err(FRAME_SIZE);
        }
        match &self.block {
            Some(block) if frame.kind != kind::CONTINUATION || frame.stream != block.stream => return Err(PROTOCOL),
            None if frame.kind == kind::CONTINUATION => return Err(PROTOCOL),
            _ => {}
        }
        let first = !self.settled && (frame.kind != kind::SETTINGS || frame.has(flag::ACK));
        if first { Err(PROTOCOL) } else { Ok(()) }
    }

    fn frame(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        match frame.kind {
            kind::HEADERS => self.start_headers(frame, payload),
            kind::CONTINUATION => self.continuation(frame, payload),
            kind::PRIORITY => self.priority(frame, payload),
            kind::RST_STREAM => self.stream_reset(frame, payload),
            kind::SETTINGS => self.settings(frame, payload),
            // Push is never enabled.
            kind::PUSH_PROMISE => Err(PROTOCOL),
            kind::PING => self.pinged(frame, payload),
            kind::GOAWAY => self.goaway(frame, payload),
            kind::WINDOW_UPDATE => self.window_update(frame, payload),
            // Unknown kinds mean nothing (section 5.5).
            _ => self.note_idle_frame(),
        }
    }

    /// The stream was never opened.
    fn is_idle(&self, id: u32) -> bool {
        let ours = (id % 2 == 1) == (self.role == Role::Client);
        if ours { id >= self.next } else { id > self.last_peer }
    }

    fn start_data(&mut self, frame: &Frame, padding: Option<&u8>) -> Result<(), Fatal> {
        if frame.stream == 0 {
            return Err(PROTOCOL);
        }
        let (mut padding, padded) = (usize::from(*padding.unwrap_or(&0)), frame.has(flag::PADDED));
        let pad_byte = usize::from(padded);
        if !padded {
            padding = 0;
        } else if frame.length == 0 {
            return Err(FRAME_SIZE);
        } else if padding >= frame.length {
            return Err(PROTOCOL);
        }
        self.receive_window -= frame.length as i64;
        if self.receive_window < 0 {
            return Err(Fatal(Reason::FLOW_CONTROL_ERROR));
        }
        let data = frame.length - pad_byte - padding;
        if data == 0 && !frame.has(flag::END_STREAM) {
            self.note_idle_frame()?;
        } else {
            self.note_progress();
        }
        self.give_back(pad_byte + padding);
        let stream = self.accept_data(frame, data, pad_byte + padding)?;
        self.data = Some(Incoming { stream, data, padding, end_stream: frame.has(flag::END_STREAM) });
        Ok(())
    }

    /// The stream that takes the data; 0 when nobody does.
    fn accept_data(&mut self, frame: &Frame, data: usize, padding: usize) -> Result<u32, Fatal> {
        let id = frame.stream;
        let Some(place) = self.streams.find(id) else {
            if self.is_idle(id) {
                return Err(PROTOCOL);
            }
            self.note_idle_frame()?;
            if !self.was_reset(id) {
                self.refuse_unknown(id, Reason::STREAM_CLOSED);
            }
            return Ok(0);
        };
        let answers = self.role == Role::Client;
        let stream = self.streams.at(place);
        stream.receive_window -= frame.length as i64;
        let wrong = if stream.ended {
            Some(Reason::STREAM_CLOSED)
        } else if stream.receive_window < 0 {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if (answers && !stream.answered) || stream.expected.is_some_and(|left| left < data as u64) {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = wrong {
            self.refuse(place, reason);
            return Ok(0);
        }
        stream.expected = stream.expected.map(|left| left - data as u64);
        self.give_back_to(place, padding);
        Ok(id)
    }

    /// Takes a piece of the DATA frame under way.
    fn more_data(&mut self, mut incoming: Incoming, bytes: &[u8]) -> Result<usize, Fatal> {
        let piece = &bytes[..incoming.data.min(bytes.len())];
        incoming.data -= piece.len();
        let padding = incoming.padding.min(bytes.len() - piece.len());
        incoming.padding -= padding;
        let place = self.streams.find(incoming.stream);
        match place {
            Some(place) if !piece.is_empty() => {
                let stream = self.streams.at(place);
                if stream.received.capacity() == 0 {
                    stream.received = buffer::take_output();
                }
                stream.received.extend_from_slice(piece);
                stream.wake();
            }
            Some(_) => {}
            None => self.give_back(piece.len()),
        }
        if incoming.data > 0 || incoming.padding > 0 {
            self.data = Some(incoming);
        } else if let Some(place) = place.filter(|_| incoming.end_stream) {
            self.end(place);
        }
        Ok(piece.len() + padding)
    }

    /// The peer has ended its side of the stream.
    fn end(&mut self, place: u32) {
        let stream = self.streams.at(place);
        if stream.expected.is_some_and(|left| left > 0) {
            return self.refuse(place, Reason::PROTOCOL_ERROR);
        }
        stream.ended = true;
        stream.wake();
        self.close_if_done(place);
    }

    fn start_headers(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream == 0 {
            return Err(PROTOCOL);
        }
        let mut block = payload;
        if frame.has(flag::PADDED) {
            let (&padding, rest) = block.split_first().ok_or(FRAME_SIZE)?;
            block = rest.len().checked_sub(padding.into()).map(|length| &rest[..length]).ok_or(PROTOCOL)?;
        }
        let mut circular = false;
        if frame.has(flag::PRIORITY) {
            let (priority, rest) = block.split_at_checked(5).ok_or(FRAME_SIZE)?;
            circular = number(priority).is_some_and(|on| on & 0x7fff_ffff == frame.stream);
            block = rest;
        }
        let headers = Headers { stream: frame.stream, end_stream: frame.has(flag::END_STREAM), circular };
        if frame.has(flag::END_HEADERS) {
            return self.headers(headers, block);
        }
        self.block = Some(Block {
            stream: frame.stream,
            end_stream: headers.end_stream,
            circular,
            bytes: block.to_vec(),
            frames: 0,
        });
        Ok(())
    }

    fn continuation(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        let most = 2 * self.options.limits.bytes + MAX_FRAME;
        let Some(mut block) = self.block.take() else { return Err(PROTOCOL) };
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        if block.frames > MOST_FRAMES || block.bytes.len() > most {
            return Err(Fatal(Reason::ENHANCE_YOUR_CALM));
        }
        if !frame.has(flag::END_HEADERS) {
            self.block = Some(block);
            return Ok(());
        }
        let headers = Headers { stream: block.stream, end_stream: block.end_stream, circular: block.circular };
        self.headers(headers, &block.bytes)
    }

    fn headers(&mut self, headers: Headers, block: &[u8]) -> Result<(), Fatal> {
        self.note_progress();
        let id = headers.stream;
        let Some(place) = self.streams.find(id) else { return self.first_headers(headers, block) };
        let stream = self.streams.at(place);
        if self.role == Role::Client && !stream.answered {
            return self.response(place, headers, block);
        }
        let ended = stream.ended;
        let read = self.decode(block, Kind::Trailers)?;
        if ended {
            self.refuse(place, Reason::STREAM_CLOSED);
        } else if read.malformed || headers.circular || !headers.end_stream {
            self.refuse(place, Reason::PROTOCOL_ERROR);
        } else if read.too_large {
            self.refuse(place, Reason::ENHANCE_YOUR_CALM);
        } else {
            self.streams.at(place).trailers = Some(Box::new(read.head));
            self.end(place);
        }
        Ok(())
    }

    fn decode(&mut self, block: &[u8], kind: Kind) -> Result<Received, Fatal> {
        Received::decode(&mut self.decoder, block, kind, self.options.limits)
            .map_err(|_| Fatal(Reason::COMPRESSION_ERROR))
    }

    /// Headers of a stream that is not open.
    fn first_headers(&mut self, headers: Headers, block: &[u8]) -> Result<(), Fatal> {
        let id = headers.stream;
        if self.role == Role::Server && id % 2 == 1 && id > self.last_peer {
            return self.request(headers, block);
        }
        if self.is_idle(id) || id.is_multiple_of(2) {
            return Err(PROTOCOL);
        }
        let mut read = self.decode(block, Kind::Trailers)?;
        heads::give(&mut read.head);
        if self.was_reset(id) { self.note_idle_frame() } else { Err(Fatal(Reason::STREAM_CLOSED)) }
    }

    /// A new stream (server side).
    fn request(&mut self, headers: Headers, block: &[u8]) -> Result<(), Fatal> {
        let id = headers.stream;
        let mut read = self.decode(block, Kind::Request { extended: self.options.extended_connect })?;
        let refused = if self.last_served.is_some_and(|last| id > last) {
            // The peer has been told, or will see it, that such streams are not served.
            heads::give(&mut read.head);
            return Ok(());
        } else if self.streams.open() >= self.options.max_streams as usize {
            Some(Reason::REFUSED_STREAM)
        } else if read.malformed || headers.circular || (headers.end_stream && read.length.is_some_and(|left| left > 0))
        {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        self.last_peer = id;
        self.opened += 1;
        if let Some(reason) = refused {
            heads::give(&mut read.head);
            self.refuse_unknown(id, reason);
            return self.note_idle_frame();
        }
        let place = self.streams.add(Stream {
            id,
            head: Some(read.head),
            too_large: read.too_large,
            ended: headers.end_stream,
            expected: read.length,
            receive_window: self.options.stream_window.into(),
            send_window: self.peer_stream_window,
            ..Stream::default()
        });
        self.accepted.push_back(place);
        Ok(())
    }

    /// The answer to a request (client side).
    fn response(&mut self, place: u32, headers: Headers, block: &[u8]) -> Result<(), Fatal> {
        let mut read = self.decode(block, Kind::Response)?;
        let status = read.head.status;
        let interim = (100..200).contains(&status);
        if read.malformed || read.too_large || headers.circular || (interim && (headers.end_stream || status == 101)) {
            heads::give(&mut read.head);
            self.refuse(place, Reason::PROTOCOL_ERROR);
            return Ok(());
        }
        if interim {
            heads::give(&mut read.head);
            return self.note_idle_frame();
        }
        let stream = self.streams.at(place);
        stream.answered = true;
        stream.head = Some(read.head);
        stream.expected = if stream.bodiless || status == 204 || status == 304 { Some(0) } else { read.length };
        stream.wake();
        if headers.end_stream {
            self.end(place);
        }
        Ok(())
    }

    /// Priorities are a hint that RFC 9113 gave up; only their form is checked.
    fn priority(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream == 0 {
            return Err(PROTOCOL);
        }
        let circular = number(payload).is_some_and(|on| on & 0x7fff_ffff == frame.stream);
        let reason = if payload.len() != 5 { Reason::FRAME_SIZE_ERROR } else { Reason::PROTOCOL_ERROR };
        if payload.len() != 5 || circular {
            match self.streams.find(frame.stream) {
                Some(place) => self.refuse(place, reason),
                None => self.refuse_unknown(frame.stream, reason),
            }
        }
        self.note_idle_frame()
    }

    fn stream_reset(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        let id = frame.stream;
        let reason = number(payload).filter(|_| payload.len() == 4).ok_or(FRAME_SIZE)?;
        if id == 0 || (self.streams.find(id).is_none() && self.is_idle(id)) {
            return Err(PROTOCOL);
        }
        let Some(place) = self.streams.find(id) else { return self.note_idle_frame() };
        self.streams.close(id);
        self.leave_queue(place);
        let stream = self.streams.at(place);
        let answered = stream.answered;
        stream.break_off(Broken::Reset(Reason(reason)));
        self.drop_unserved(place);
        if answered || self.role == Role::Client { Ok(()) } else { self.note_reset() }
    }

    fn settings(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream != 0 {
            return Err(PROTOCOL);
        }
        if !payload.len().is_multiple_of(6) || (frame.has(flag::ACK) && !payload.is_empty()) {
            return Err(FRAME_SIZE);
        }
        if frame.has(flag::ACK) {
            return self.note_idle_frame();
        }
        for entry in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            self.setting(id, u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))?;
        }
        put_header(self.out.add_control(), 0, kind::SETTINGS, flag::ACK, 0);
        self.settled = true;
        self.note_idle_frame()
    }

    fn setting(&mut self, id: u16, value: u32) -> Result<(), Fatal> {
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
            setting::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => return Err(PROTOCOL),
            setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(PROTOCOL),
            setting::ENABLE_CONNECT_PROTOCOL => self.peer_extended_connect = value == 1,
            setting::MAX_CONCURRENT_STREAMS => self.peer_max_streams = value,
            setting::INITIAL_WINDOW_SIZE => self.resize_windows(value.into())?,
            setting::MAX_FRAME_SIZE if !(16_384..=0xff_ffff).contains(&value) => return Err(PROTOCOL),
            // More than 16 KB at once would let one stream hold up the others.
            setting::MAX_FRAME_SIZE => self.peer_max_frame = MAX_FRAME.min(value as usize),
            _ => {}
        }
        Ok(())
    }

    /// A new initial window changes those of all streams (section 6.9.2).
    fn resize_windows(&mut self, size: i64) -> Result<(), Fatal> {
        if size > MAX_WINDOW {
            return Err(Fatal(Reason::FLOW_CONTROL_ERROR));
        }
        let more = size - self.peer_stream_window;
        self.peer_stream_window = size;
        for stream in self.streams.each() {
            stream.send_window += more;
            if stream.send_window > MAX_WINDOW {
                return Err(Fatal(Reason::FLOW_CONTROL_ERROR));
            }
            if more > 0 {
                stream.wake();
            }
        }
        Ok(())
    }

    fn pinged(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream != 0 {
            return Err(PROTOCOL);
        }
        let payload = <[u8; 8]>::try_from(payload).map_err(|_| FRAME_SIZE)?;
        if !frame.has(flag::ACK) {
            self.pong(payload);
        } else if let Some(ping) = self.ping.filter(|ping| ping.payload() == payload) {
            self.ping = None;
            if ping == Ping::Drain {
                self.drain_on();
            }
        }
        self.note_idle_frame()
    }

    fn goaway(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        if frame.stream != 0 {
            return Err(PROTOCOL);
        }
        let last = number(payload).filter(|_| payload.len() >= 8).ok_or(FRAME_SIZE)? & 0x7fff_ffff;
        self.peer_leaves = true;
        if self.role == Role::Client {
            let unserved: Vec<u32> = self.streams.each().map(|stream| stream.id).filter(|id| *id > last).collect();
            for id in unserved {
                let Some(place) = self.streams.find(id) else { continue };
                self.streams.close(id);
                self.leave_queue(place);
                self.streams.at(place).break_off(Broken::Unprocessed);
            }
        }
        self.note_idle_frame()
    }

    fn window_update(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Fatal> {
        let more = number(payload).filter(|_| payload.len() == 4).ok_or(FRAME_SIZE)? & 0x7fff_ffff;
        if frame.stream == 0 {
            self.send_window += i64::from(more);
            if more == 0 {
                return Err(PROTOCOL);
            }
            if self.send_window > MAX_WINDOW {
                return Err(Fatal(Reason::FLOW_CONTROL_ERROR));
            }
            self.call_next();
            return self.note_idle_frame();
        }
        let Some(place) = self.streams.find(frame.stream) else {
            return if self.is_idle(frame.stream) { Err(PROTOCOL) } else { self.note_idle_frame() };
        };
        let stream = self.streams.at(place);
        stream.send_window += i64::from(more);
        if more == 0 {
            self.refuse(place, Reason::PROTOCOL_ERROR);
        } else if stream.send_window > MAX_WINDOW {
            self.refuse(place, Reason::FLOW_CONTROL_ERROR);
        } else {
            stream.wake();
        }
        self.note_idle_frame()
    }
}
