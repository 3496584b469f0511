//! Moves a body from one connection to another, whatever the two protocols are.

use super::h1;
use super::h2::{H2Sink, H2Source};
use super::web::Plain;
use engine::Head;
use std::task::{Context, Poll, ready};

/// Where body data comes from.
pub enum Source<'a> {
    Empty,
    H1(&'a mut h1::Reader),
    H2(&'a mut H2Source),
}

/// Where body data goes to.
pub enum Sink<'a> {
    Discard,
    H1(&'a mut h1::Writer),
    H2(&'a mut H2Sink),
}

impl Source<'_> {
    /// True when `data` holds bytes; false at the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h1::reader::BodyError>> {
        match self {
            Source::Empty => Poll::Ready(Ok(false)),
            Source::H1(reader) => reader.poll_data(cx),
            Source::H2(source) => source.poll_data(cx),
        }
    }

    pub fn data(&self) -> &[u8] {
        match self {
            Source::Empty => &[],
            Source::H1(reader) => reader.data(),
            Source::H2(source) => source.data(),
        }
    }

    pub fn consume(&mut self, count: usize) {
        match self {
            Source::Empty => {}
            Source::H1(reader) => reader.consume(count),
            Source::H2(source) => source.consume(count),
        }
    }

    /// Trailers, once the end was reached.
    pub fn take_trailers(&mut self) -> Option<Box<Head>> {
        match self {
            Source::H2(source) => source.take_trailers(),
            Source::Empty | Source::H1(_) => None,
        }
    }

    /// Known to be over without another poll.
    pub fn is_done(&self) -> bool {
        match self {
            Source::Empty => true,
            Source::H1(reader) => reader.body_done(),
            Source::H2(source) => source.is_done(),
        }
    }
}

impl Sink<'_> {
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, SinkError>> {
        match self {
            Sink::Discard => Poll::Ready(Ok(data.len())),
            Sink::H1(writer) => writer.poll_data(cx, data).map_err(|_| SinkError),
            Sink::H2(sink) => sink.poll_write(cx, data).map_err(|_| SinkError),
        }
    }

    /// Ends the body; trailers go along where the protocol has a place for them.
    pub fn finish(&mut self, trailers: Option<&Head>) -> Result<(), SinkError> {
        match self {
            Sink::Discard => Ok(()),
            Sink::H1(writer) => {
                writer.finish_body();
                Ok(())
            }
            Sink::H2(sink) => sink.finish(trailers).map_err(|_| SinkError),
        }
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SinkError>> {
        match self {
            Sink::Discard => Poll::Ready(Ok(())),
            Sink::H1(writer) => writer.poll_flush(cx).map_err(|_| SinkError),
            Sink::H2(sink) => {
                sink.pause();
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// The receiving side cannot take any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinkError;

/// Which side ended a transfer early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    Source(h1::reader::BodyError),
    Sink,
}

impl From<SinkError> for CopyError {
    fn from(_: SinkError) -> Self {
        CopyError::Sink
    }
}

/// A transfer in progress; holds no connection itself so that both can be borrowed per poll.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Data bytes moved.
    pub bytes: u64,
    finished: bool,
    /// Filled when the source ended with trailers.
    pub trailers: Option<Box<Head>>,
}

impl Transfer {
    /// Moves what can be moved; ready when the end has been written out.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Input,
        sink: &mut Sink<'_>,
    ) -> Poll<Result<(), CopyError>> {
        while !self.finished {
            match source.poll_data(cx) {
                Poll::Pending => {
                    // What was gathered goes out before waiting for more.
                    if let Poll::Ready(result) = sink.poll_flush(cx) {
                        result?;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(CopyError::Source(error))),
                Poll::Ready(Ok(true)) => {
                    let count = ready!(sink.poll_write(cx, source.data()))?;
                    source.consume(count);
                    self.bytes += count as u64;
                }
                Poll::Ready(Ok(false)) => {
                    self.trailers = source.take_trailers();
                    sink.finish(self.trailers.as_deref())?;
                    self.finished = true;
                }
            }
        }
        sink.poll_flush(cx).map_err(CopyError::from)
    }
}

/// Anything body data can be read from: a connection, or one with data kept for another attempt.
pub trait Input {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h1::reader::BodyError>>;
    fn data(&self) -> &[u8];
    fn consume(&mut self, count: usize);
    fn take_trailers(&mut self) -> Option<Box<Head>>;
}

impl Input for Source<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h1::reader::BodyError>> {
        Source::poll_data(self, cx)
    }

    fn data(&self) -> &[u8] {
        Source::data(self)
    }

    fn consume(&mut self, count: usize) {
        Source::consume(self, count);
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        Source::take_trailers(self)
    }
}

/// A request body that remembers its beginning, so that it can be sent again.
pub struct Replay<'a> {
    source: Source<'a>,
    /// The source is base64; what stands here was read from it.
    base64: Option<Box<Plain>>,
    kept: Vec<u8>,
    served: usize,
    /// Bytes that may be kept; zero keeps nothing.
    limit: usize,
    /// Bytes with which another attempt is still possible.
    again: usize,
    lost: bool,
}

impl<'a> Replay<'a> {
    pub fn new(source: Source<'a>, limit: usize) -> Self {
        Replay { source, base64: None, kept: Vec::new(), served: 0, limit, again: limit, lost: false }
    }

    /// From now on, up to `limit` bytes are kept, and up to `again` of them for another attempt.
    pub fn keep_up_to(&mut self, limit: usize, again: usize) {
        (self.limit, self.again) = (limit, again);
    }

    /// The body is base64 and is to be read as what it stands for.
    pub fn read_base64(&mut self) {
        self.base64 = Some(Box::default());
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h1::reader::BodyError>> {
        match &mut self.base64 {
            Some(plain) => plain.poll_data(cx, &mut self.source),
            None => self.source.poll_data(cx),
        }
    }

    fn source_data(&self) -> &[u8] {
        match &self.base64 {
            Some(plain) => plain.data(),
            None => self.source.data(),
        }
    }

    fn consume_source(&mut self, count: usize) {
        match &mut self.base64 {
            Some(plain) => plain.consume(count),
            None => self.source.consume(count),
        }
    }

    fn source_is_done(&self) -> bool {
        self.source.is_done() && self.base64.as_ref().is_none_or(|plain| plain.is_empty())
    }

    pub fn source(&mut self) -> &mut Source<'a> {
        &mut self.source
    }

    /// Starts over; false when the beginning was not kept.
    pub fn rewind(&mut self) -> bool {
        self.served = 0;
        self.can_rewind()
    }

    /// Forgets what was kept: the request goes on without its body, which was read.
    pub fn discard(&mut self) {
        self.kept = Vec::new();
        self.served = 0;
    }

    pub fn can_rewind(&self) -> bool {
        !self.lost && self.kept.len() <= self.again
    }

    /// All that was read so far, if it was kept.
    pub fn kept(&self) -> Option<&[u8]> {
        (!self.lost).then_some(&self.kept)
    }

    /// All of it has come, whether or not it went on.
    pub fn is_read(&self) -> bool {
        self.source_is_done()
    }

    /// The body has no data at all, or all of it was read.
    pub fn is_done(&self) -> bool {
        self.served == self.kept.len() && self.source_is_done()
    }
}

impl Input for Replay<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h1::reader::BodyError>> {
        if self.served < self.kept.len() { Poll::Ready(Ok(true)) } else { self.poll_source(cx) }
    }

    fn data(&self) -> &[u8] {
        if self.served < self.kept.len() { &self.kept[self.served..] } else { self.source_data() }
    }

    fn consume(&mut self, count: usize) {
        if self.served < self.kept.len() {
            self.served += count;
            return;
        }
        if !self.lost {
            if self.kept.len() + count <= self.limit {
                let data = match &self.base64 {
                    Some(plain) => plain.data(),
                    None => self.source.data(),
                };
                self.kept.extend_from_slice(&data[..count]);
                self.served = self.kept.len();
            } else {
                self.lost = true;
                self.kept = Vec::new();
                self.served = 0;
            }
        }
        self.consume_source(count);
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        self.source.take_trailers()
    }
}
