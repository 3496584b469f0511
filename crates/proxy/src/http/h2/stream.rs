//! One stream as its task sees it, and the two directions of its body.

use super::connection::Link;
use super::frame::Reason;
use super::send::Closed;
use super::streams::{Broken, Stream};
use crate::http::h1::reader::BodyError;
use crate::http::{buffer, heads};
use engine::Head;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Refers to a stream. When the last handle goes, a stream that is not complete is reset.
pub struct Handle {
    link: Rc<Link>,
    place: u32,
}

impl Handle {
    pub(super) fn new(link: Rc<Link>, place: u32) -> Self {
        link.core.borrow_mut().streams.at(place).handles += 1;
        Handle { link, place }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stream) -> T) -> T {
        look(self.link.core.borrow_mut().streams.at(self.place))
    }

    /// Sends the response head; `end`: without a body.
    pub fn answer(&self, head: &Head, end: bool) -> Result<(), Closed> {
        let answered = self.link.core.borrow_mut().answer(self.place, head, end);
        self.link.poke();
        answered
    }

    /// The response head, swapped into `head`.
    pub fn poll_head(&self, cx: &Context<'_>, head: &mut Head) -> Poll<Result<(), Broken>> {
        self.with(|stream| match (stream.head.take(), stream.broken) {
            (Some(mut received), _) => {
                std::mem::swap(head, &mut received);
                heads::give(&mut received);
                Poll::Ready(Ok(()))
            }
            (None, Some(broken)) => Poll::Ready(Err(broken)),
            (None, None) => {
                stream.wait(cx);
                Poll::Pending
            }
        })
    }

    /// The stream was reset by the peer, or its connection is lost.
    pub fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        self.with(|stream| {
            if stream.broken.is_some() {
                return Poll::Ready(());
            }
            stream.wait(cx);
            Poll::Pending
        })
    }

    pub fn reset(&self, reason: Reason) {
        self.link.core.borrow_mut().reset(self.place, reason);
        self.link.poke();
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Handle::new(self.link.clone(), self.place)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut core = self.link.core.borrow_mut();
        let stream = core.streams.at(self.place);
        stream.handles -= 1;
        if stream.handles == 0 {
            core.abandon(self.place);
            let wanted = !core.out.bytes.is_empty() || core.streams.open() == 0;
            drop(core);
            if wanted {
                self.link.poke();
            }
        }
    }
}

/// The body that is received.
pub struct H2Source {
    stream: Handle,
    chunk: Vec<u8>,
    /// Of the chunk, what was consumed.
    start: usize,
    trailers: Option<Box<Head>>,
    done: bool,
    /// What comes is no body but a tunnel's, once there is one.
    held: bool,
}

impl H2Source {
    pub fn new(stream: Handle) -> Self {
        let done = stream.with(|stream| stream.ended && stream.received.is_empty() && stream.trailers.is_none());
        H2Source { stream, chunk: Vec::new(), start: 0, trailers: None, done, held: false }
    }

    /// Seems to be without data until [`H2Source::release`].
    pub fn hold(&mut self) {
        self.held = true;
    }

    pub fn release(&mut self) {
        self.held = false;
    }

    pub fn is_done(&self) -> bool {
        self.held || (self.done && self.start == self.chunk.len())
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        if self.start < self.chunk.len() {
            return Poll::Ready(Ok(true));
        }
        if self.done || self.held {
            return Poll::Ready(Ok(false));
        }
        let (chunk, trailers) = (&mut self.chunk, &mut self.trailers);
        let read = self.stream.with(|stream| {
            if !stream.received.is_empty() {
                chunk.clear();
                std::mem::swap(chunk, &mut stream.received);
                return Poll::Ready(Ok(true));
            }
            if stream.ended {
                *trailers = stream.trailers.take();
                return Poll::Ready(Ok(false));
            }
            if stream.broken.is_some() {
                return Poll::Ready(Err(BodyError::Closed));
            }
            stream.wait(cx);
            Poll::Pending
        });
        match read {
            Poll::Ready(Ok(true)) => self.start = 0,
            Poll::Ready(Ok(false)) => self.done = true,
            _ => {}
        }
        read
    }

    pub fn data(&self) -> &[u8] {
        &self.chunk[self.start..]
    }

    /// Consumed bytes open the windows again.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if count > 0 {
            let mut core = self.stream.link.core.borrow_mut();
            core.consume(self.stream.place, count);
            if !core.out.bytes.is_empty() {
                drop(core);
                self.stream.link.poke();
            }
        }
    }

    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.trailers.take()
    }
}

impl Drop for H2Source {
    fn drop(&mut self) {
        self.consume(self.chunk.len() - self.start);
        buffer::give_output(std::mem::take(&mut self.chunk));
    }
}

/// The body that is sent.
pub struct H2Sink {
    stream: Handle,
    finished: bool,
}

impl H2Sink {
    /// `finished`: the head already ended the stream.
    pub fn new(stream: Handle, finished: bool) -> Self {
        H2Sink { stream, finished }
    }

    /// Takes as much as the flow-control windows allow.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Closed>> {
        let link = &self.stream.link;
        let written = link.core.borrow_mut().poll_data(self.stream.place, cx, data);
        link.poke();
        written
    }

    /// Nothing more comes for now.
    pub fn pause(&self) {
        self.stream.link.core.borrow_mut().leave_queue(self.stream.place);
    }

    pub fn finish(&mut self, trailers: Option<&Head>) -> Result<(), Closed> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        let finished = self.stream.link.core.borrow_mut().finish(self.stream.place, trailers);
        self.stream.link.poke();
        finished
    }

    /// The peer reset the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx)
    }

    pub fn reset(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.finished, true) {
            self.stream.reset(reason);
        }
    }
}
