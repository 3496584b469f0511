//! One direction of one HTTP/2 stream.

use crate::http::h1::reader::BodyError;
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use std::task::{Context, Poll, ready};

/// Longest piece handed to the connection at once.
const PIECE: usize = 16 * 1024;

pub struct H2Source {
    stream: RecvStream,
    chunk: Bytes,
    trailers: Option<http::HeaderMap>,
    data_done: bool,
    done: bool,
}

impl H2Source {
    pub fn new(stream: RecvStream) -> Self {
        let done = stream.is_end_stream();
        H2Source { stream, chunk: Bytes::new(), trailers: None, data_done: done, done }
    }

    pub fn is_done(&self) -> bool {
        self.done && self.chunk.is_empty()
    }

    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        while self.chunk.is_empty() {
            if self.done {
                return Poll::Ready(Ok(false));
            }
            if self.data_done {
                self.trailers = ready!(self.stream.poll_trailers(cx)).map_err(|_| BodyError::Closed)?;
                self.done = true;
                continue;
            }
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Closed)),
                None => self.data_done = true,
            }
        }
        Poll::Ready(Ok(true))
    }

    pub fn data(&self) -> &[u8] {
        &self.chunk
    }

    /// Consumed bytes open the window again.
    pub fn consume(&mut self, count: usize) {
        let _ = self.chunk.split_to(count);
        // Fails only when the stream is gone, which the next poll reports.
        let _ = self.stream.flow_control().release_capacity(count);
    }

    pub fn take_trailers(&mut self) -> Option<http::HeaderMap> {
        self.trailers.take()
    }
}

pub struct H2Sink {
    stream: SendStream<Bytes>,
    /// Held back, so that the last piece can end the stream in the same frame.
    piece: Bytes,
    finished: bool,
}

impl H2Sink {
    /// `finished`: the head already ended the stream.
    pub fn new(stream: SendStream<Bytes>, finished: bool) -> Self {
        H2Sink { stream, piece: Bytes::new(), finished }
    }

    /// Takes as much as the flow-control window allows.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, h2::Error>> {
        self.send_piece()?;
        self.stream.reserve_capacity(data.len().min(PIECE));
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::CANCEL.into())),
            }
        }
        let count = self.stream.capacity().min(data.len());
        self.piece = Bytes::copy_from_slice(&data[..count]);
        Poll::Ready(Ok(count))
    }

    /// Nothing more comes for now: what was held back goes on its way.
    pub fn send_piece(&mut self) -> Result<(), h2::Error> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.stream.send_data(std::mem::take(&mut self.piece), false)
    }

    pub fn finish(&mut self, trailers: Option<http::HeaderMap>) -> Result<(), h2::Error> {
        if self.finished {
            return Ok(());
        }
        self.finished = true;
        match trailers {
            Some(trailers) => {
                self.send_piece()?;
                self.stream.send_trailers(trailers)
            }
            None => self.stream.send_data(std::mem::take(&mut self.piece), true),
        }
    }

    /// The peer reset the stream.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }

    pub fn reset(&mut self, reason: Reason) {
        if !self.finished {
            self.finished = true;
            self.stream.send_reset(reason);
        }
    }
}
