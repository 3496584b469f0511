//! Bodies of gRPC-Web: requests in base64 are read, answers get their trailers as a last frame.

use super::body::Input;
use super::h1::reader::BodyError;
use engine::Head;
use engine::filter::grpc_web::{Decoder, Web};
use std::task::{Context, Poll, ready};

/// What was read of a request body in base64 and not consumed yet.
#[derive(Debug, Default)]
pub struct Plain {
    decoder: Decoder,
    data: Vec<u8>,
    taken: usize,
}

impl Plain {
    /// Reads from `source`; as [`Input::poll_data`].
    pub fn poll_data(&mut self, cx: &mut Context<'_>, source: &mut impl Input) -> Poll<Result<bool, BodyError>> {
        while self.taken == self.data.len() {
            self.data.clear();
            self.taken = 0;
            if !ready!(source.poll_data(cx))? {
                let complete = self.decoder.is_complete();
                return Poll::Ready(if complete { Ok(false) } else { Err(BodyError::NotBase64) });
            }
            let count = source.data().len();
            self.decoder.decode(source.data(), &mut self.data).map_err(|_| BodyError::NotBase64)?;
            source.consume(count);
        }
        Poll::Ready(Ok(true))
    }

    pub fn data(&self) -> &[u8] {
        &self.data[self.taken..]
    }

    pub fn consume(&mut self, count: usize) {
        self.taken += count;
    }

    /// All that was read has been consumed.
    pub fn is_empty(&self) -> bool {
        self.taken == self.data.len()
    }
}

/// An answer's body on its way into gRPC-Web.
pub struct Wrapping {
    web: Web,
    data: Vec<u8>,
    taken: usize,
    ended: bool,
    /// For the log: they go out as data.
    pub trailers: Option<Box<Head>>,
}

impl Wrapping {
    pub fn new(web: Web) -> Self {
        Wrapping { web, data: Vec::new(), taken: 0, ended: false, trailers: None }
    }
}

/// A source seen through a wrapping; without one, the source itself.
pub struct Wrapped<'w, S> {
    pub source: S,
    pub wrapping: Option<&'w mut Wrapping>,
}

impl<S: Input> Input for Wrapped<'_, S> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        let Some(wrapping) = &mut self.wrapping else { return self.source.poll_data(cx) };
        while wrapping.taken == wrapping.data.len() {
            wrapping.data.clear();
            wrapping.taken = 0;
            if wrapping.ended {
                return Poll::Ready(Ok(false));
            }
            if ready!(self.source.poll_data(cx))? {
                let count = self.source.data().len();
                wrapping.web.data(self.source.data(), &mut wrapping.data);
                self.source.consume(count);
                continue;
            }
            wrapping.ended = true;
            if let Some(trailers) = self.source.take_trailers() {
                wrapping.web.trailers(&trailers, &mut wrapping.data);
                wrapping.trailers = Some(trailers);
            }
        }
        Poll::Ready(Ok(true))
    }

    fn data(&self) -> &[u8] {
        match &self.wrapping {
            Some(wrapping) => &wrapping.data[wrapping.taken..],
            None => self.source.data(),
        }
    }

    fn consume(&mut self, count: usize) {
        match &mut self.wrapping {
            Some(wrapping) => wrapping.taken += count,
            None => self.source.consume(count),
        }
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        match self.wrapping {
            Some(_) => None,
            None => self.source.take_trailers(),
        }
    }
}
