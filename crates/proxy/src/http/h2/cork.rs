//! Gathers what an HTTP/2 connection writes while its task runs, so that many small frames leave in one write and, under
//! TLS, in one record. The `h2` crate would write after each DATA frame.

use crate::http::buffer;
use crate::io::{Io, SharedIo};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gathered bytes beyond which nothing more is taken until they are out.
const FULL: usize = 64 * 1024;

/// What the connection reads from and writes to. Its writes come to nothing until [`Cork::poll_flush`].
pub struct Corked(Cork);

/// The task's handle: it flushes when the connection has nothing more to do.
#[derive(Clone)]
pub struct Cork {
    io: SharedIo,
    out: Rc<RefCell<Out>>,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    written: usize,
}

pub fn cork(io: Io) -> (Corked, Cork) {
    let cork = Cork { io: SharedIo::new(io), out: Rc::default() };
    (Corked(cork.clone()), cork)
}

impl Cork {
    /// Writes what was gathered.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let out = &mut *self.out.borrow_mut();
        if out.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while out.written < out.bytes.len() {
            let count = ready!(self.io.poll_write(cx, &out.bytes[out.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            out.written += count;
        }
        ready!(self.io.poll_flush(cx))?;
        out.written = 0;
        buffer::give_output(std::mem::take(&mut out.bytes));
        Poll::Ready(Ok(()))
    }

    /// Room for more, after writing if need be.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.borrow().bytes.len() < FULL { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn add(&self, bytes: &[u8]) {
        let gathered = &mut self.out.borrow_mut().bytes;
        if gathered.capacity() == 0 {
            *gathered = buffer::take_output();
        }
        gathered.extend_from_slice(bytes);
    }
}

impl AsyncRead for Corked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.io.poll_read_buf(cx, buf)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_room(cx))?;
        self.0.add(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_room(cx))?;
        slices.iter().for_each(|slice| self.0.add(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The connection's task flushes when it has done all it can.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_flush(cx))?;
        self.0.io.poll_shutdown(cx)
    }
}
