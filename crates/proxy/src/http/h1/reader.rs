//! The reading half of an HTTP/1 connection: heads, then body data as it comes.

use super::chunked::{Chunked, Step};
use super::parse::{self, AnswerTo, Framing, Limits, Received};
use crate::http::buffer::{Buffer, INITIAL};
use crate::http::heads;
use crate::io::SharedIo;
use engine::Head;
use model::Refusal;
use model::refusal::BadRequest;
use std::task::{Context, Poll, ready};

pub struct Reader {
    io: SharedIo,
    buffer: Buffer,
    scanned: usize,
    body: Body,
    /// Data bytes at the start of the buffer that were announced and not consumed yet.
    ready: usize,
    closed: bool,
}

enum Body {
    None,
    Length(u64),
    Chunked(Chunked),
    Close,
}

/// Why body data stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The peer closed or reset the connection before the end.
    Closed,
    /// Invalid chunk framing.
    Malformed,
    /// A text of gRPC-Web that is none.
    NotBase64,
}

/// A head was read, or the peer closed the connection instead of sending one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadRead {
    Head(Received),
    /// Closed before the first byte.
    Closed,
    /// Closed or broken in the middle of a head.
    CutOff,
}

impl Reader {
    /// `buffer`: what was received before.
    pub fn new(io: SharedIo, buffer: Buffer) -> Self {
        Reader { io, buffer, scanned: 0, body: Body::None, ready: 0, closed: false }
    }

    pub fn io(&self) -> &SharedIo {
        &self.io
    }

    /// Bytes received and not consumed, for a protocol that takes over.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.buffer.bytes().to_vec();
        self.buffer.consume(rest.len());
        rest
    }

    pub fn has_input(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What was received and not consumed yet.
    pub fn peeked(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Holds no buffer while nothing is expected.
    pub fn rest(&mut self) {
        self.buffer.release_if_empty();
    }

    /// Waits for at least one more byte without consuming; 0 is the end.
    pub fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        Poll::Ready(ready!(self.buffer.poll_fill(&self.io, cx)).unwrap_or(0))
    }

    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        limits: &Limits,
    ) -> Poll<Result<HeadRead, Refusal>> {
        // An empty line before a request is ignored (RFC 9112 section 2.2).
        self.poll_head(cx, limits, true, |raw, limits| {
            heads::lend(head);
            parse::request(raw, head, limits)
        })
    }

    pub fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Head,
        limits: &Limits,
        to: AnswerTo,
    ) -> Poll<Result<HeadRead, Refusal>> {
        loop {
            let parse = |raw: &[u8], limits: &Limits| {
                heads::lend(head);
                parse::response(raw, head, limits, to)
            };
            let read = ready!(self.poll_head(cx, limits, false, parse))?;
            // Interim responses other than 101 are not forwarded.
            if !(matches!(read, HeadRead::Head(_)) && (100..200).contains(&head.status) && head.status != 101) {
                return Poll::Ready(Ok(read));
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
        skip_empty_line: bool,
        mut parse: impl FnMut(&[u8], &Limits) -> Result<Option<(Received, usize)>, Refusal>,
    ) -> Poll<Result<HeadRead, Refusal>> {
        loop {
            if skip_empty_line && self.scanned <= 1 && self.buffer.bytes().starts_with(b"\r\n") {
                self.buffer.consume(2);
                self.scanned = 0;
            }
            // Nearly every head comes in one piece. One that drips in is parsed again only when its end is there.
            let first = self.scanned == 0 && !self.buffer.is_empty();
            if first || parse::head_end(self.buffer.bytes(), &mut self.scanned)?.is_some() {
                let bytes = self.buffer.bytes();
                match parse(&bytes[..bytes.len().min(limits.head)], limits)? {
                    Some((received, length)) => {
                        self.buffer.consume(length);
                        self.scanned = 0;
                        self.start_body(received.framing);
                        return Poll::Ready(Ok(HeadRead::Head(received)));
                    }
                    None if first => {
                        parse::head_end(self.buffer.bytes(), &mut self.scanned)?;
                    }
                    None => return Poll::Ready(Err(Refusal::HeadTooLarge)),
                }
            }
            if self.buffer.len() > limits.head {
                return Poll::Ready(Err(Refusal::HeadTooLarge));
            }
            match ready!(self.buffer.poll_fill(&self.io, cx)) {
                Ok(0) | Err(_) => {
                    self.closed = true;
                    let read = if self.buffer.is_empty() { HeadRead::Closed } else { HeadRead::CutOff };
                    return Poll::Ready(Ok(read));
                }
                Ok(_) => {}
            }
        }
    }

    /// What follows is a body without a head before it, or one whose head has been read.
    pub fn start_body(&mut self, framing: Framing) {
        self.ready = 0;
        self.body = match framing {
            Framing::None | Framing::Length(0) => Body::None,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunked::Size),
            Framing::Close => Body::Close,
        };
    }

    /// The body has been read to its end.
    pub fn body_done(&self) -> bool {
        matches!(self.body, Body::None)
    }

    /// True when `data` holds bytes; false at the end of the body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        if self.ready > 0 {
            return Poll::Ready(Ok(true));
        }
        loop {
            match self.step()? {
                Step::Data(count) if count > 0 => {
                    self.ready = count;
                    return Poll::Ready(Ok(true));
                }
                Step::Skip(count) => self.buffer.consume(count),
                Step::End { trailers } => {
                    if !matches!(self.body, Body::None) {
                        self.buffer.consume(trailers + 2);
                    }
                    self.body = Body::None;
                    return Poll::Ready(Ok(false));
                }
                Step::Data(_) | Step::More => {
                    if self.long() {
                        self.buffer.widen();
                    }
                    match ready!(self.buffer.poll_fill(&self.io, cx)) {
                        Ok(count) if count > 0 => {}
                        end => {
                            self.closed = true;
                            if matches!(self.body, Body::Close) && end.is_ok() {
                                self.body = Body::None;
                                return Poll::Ready(Ok(false));
                            }
                            return Poll::Ready(Err(BodyError::Closed));
                        }
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, BodyError> {
        let bytes = self.buffer.bytes();
        match &mut self.body {
            Body::None => Ok(Step::End { trailers: 0 }),
            Body::Length(left) => Ok(Step::Data(bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX)))),
            Body::Close => Ok(Step::Data(bytes.len())),
            Body::Chunked(decoder) => decoder.step(bytes).map_err(|_| BodyError::Malformed),
        }
    }

    /// More is to come than fits into a fresh buffer.
    fn long(&self) -> bool {
        match &self.body {
            Body::Length(left) | Body::Chunked(Chunked::Data(left)) => *left > INITIAL as u64,
            _ => false,
        }
    }

    /// The data announced by `poll_data`.
    pub fn data(&self) -> &[u8] {
        &self.buffer.bytes()[..self.ready]
    }

    pub fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
        self.ready -= count;
        match &mut self.body {
            Body::Length(left) => {
                *left -= count as u64;
                if *left == 0 {
                    self.body = Body::None;
                }
            }
            Body::Chunked(decoder) => decoder.took(count),
            Body::None | Body::Close => {}
        }
    }

    /// While nothing is expected: ready when the peer closes or breaks the connection. Early bytes of a next
    /// message are kept, up to one buffer.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.closed {
            if self.buffer.len() >= INITIAL / 2 {
                return Poll::Pending;
            }
            match ready!(self.buffer.poll_fill(&self.io, cx)) {
                Ok(count) if count > 0 => {}
                _ => self.closed = true,
            }
        }
        Poll::Ready(())
    }
}

/// How a broken request body is told to the client.
impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        match error {
            BodyError::Closed => Refusal::DownstreamGone,
            BodyError::Malformed => Refusal::BadRequest(BadRequest::BadChunk),
            BodyError::NotBase64 => Refusal::BadRequest(BadRequest::NotBase64),
        }
    }
}
