//! The writing half of an HTTP/1 connection: small pieces are gathered, large ones go out as they are.

use super::parse::Framing;
use crate::http::buffer;
use crate::io::SharedIo;
use std::io;
use std::io::Write as _;
use std::task::{Context, Poll, ready};

/// Gathered bytes beyond which nothing more is taken until they are out.
const FULL: usize = 16 * 1024;
/// Data at least this long is written straight from its own buffer.
const DIRECT: usize = 4 * 1024;
pub struct Writer {
    io: SharedIo,
    out: Vec<u8>,
    written: usize,
    framing: Framing,
    /// The body was delimited by the connection's end, and is complete.
    ends: bool,
    /// Total bytes handed to the socket.
    pub sent: u64,
}

impl Writer {
    pub fn new(io: SharedIo) -> Self {
        Writer { io, out: Vec::new(), written: 0, framing: Framing::None, ends: false, sent: 0 }
    }

    pub fn io(&self) -> &SharedIo {
        &self.io
    }

    /// Where heads are encoded to.
    pub fn out(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = buffer::take_output();
        }
        &mut self.out
    }

    /// How the body that follows is delimited.
    pub fn start_body(&mut self, framing: Framing) {
        self.framing = framing;
    }

    pub fn is_full(&self) -> bool {
        self.out.len() - self.written >= FULL
    }

    pub fn is_empty(&self) -> bool {
        self.out.len() == self.written
    }

    /// Takes body data; returns how much was taken. `Pending` until earlier bytes are out.
    pub fn poll_data(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_full() {
            ready!(self.poll_flush(cx))?;
        }
        match self.framing {
            Framing::None => Poll::Ready(Ok(data.len())),
            Framing::Chunked => {
                let count = data.len().min(FULL);
                let out = self.out();
                // Writing to a Vec cannot fail.
                let _ = write!(out, "{count:x}\r\n");
                out.extend_from_slice(&data[..count]);
                out.extend_from_slice(b"\r\n");
                Poll::Ready(Ok(count))
            }
            Framing::Length(_) | Framing::Close if data.len() >= DIRECT => self.poll_direct(cx, data),
            Framing::Length(_) | Framing::Close => {
                self.out().extend_from_slice(data);
                Poll::Ready(Ok(data.len()))
            }
        }
    }

    /// Writes what was gathered and `data` behind it, in one packet where that is possible.
    fn poll_direct(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let gathered = &self.out[self.written..];
            let count = ready!(self.io.poll_write_both(cx, gathered, data))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count as u64;
            if count < gathered.len() {
                self.written += count;
                continue;
            }
            let taken = count - gathered.len();
            self.emptied();
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    /// What was gathered is out.
    fn emptied(&mut self) {
        self.written = 0;
        buffer::give_output(std::mem::take(&mut self.out));
    }

    /// The body is complete.
    pub fn finish_body(&mut self) {
        if self.framing == Framing::Chunked {
            self.out().extend_from_slice(b"0\r\n\r\n");
        }
        self.ends = self.framing == Framing::Close;
        self.framing = Framing::None;
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let count = ready!(self.io.poll_write(cx, &self.out[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.sent += count as u64;
        }
        self.emptied();
        ready!(self.io.poll_flush(cx))?;
        if self.ends {
            ready!(self.io.poll_shutdown(cx))?;
            self.ends = false;
        }
        Poll::Ready(Ok(()))
    }
}
