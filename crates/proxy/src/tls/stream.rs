//! A TLS connection as a byte stream.
//!
//! Records are read into one buffer per worker and opened there. A connection keeps the beginning of a record whose rest
//! is to come, what its reader had no room for, and what the socket did not take: while it is idle, nothing.

use super::handshake::invalid;
use super::keys::{RECORD, record_length};
use super::session::{Flight, Opened, Session};
use crate::socket::Socket;
use rustls::Error;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once at most.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static RECORDS: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

pub struct TlsStream {
    socket: Socket,
    session: Session,
    alpn: Box<[u8]>,
    /// Records that were read and not opened.
    incoming: Vec<u8>,
    /// Data that was opened and not read.
    opened: Left,
    /// Records that were sealed and not sent.
    sealed: Left,
    /// The peer said that nothing more comes.
    ended: bool,
    /// Why nothing works any more.
    error: Option<Box<Error>>,
}

/// Bytes of which the first `gone` are done with.
#[derive(Default)]
struct Left {
    bytes: Vec<u8>,
    gone: usize,
}

impl Left {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    fn advance(&mut self, count: usize) {
        self.gone += count;
        if self.gone == self.bytes.len() {
            *self = Left::default();
        }
    }

    /// To an empty one: takes `record`, of which `gone` bytes are done with; to another: appends the rest.
    fn push(&mut self, record: Vec<u8>, gone: usize) {
        match self.rest().is_empty() {
            true => *self = Left { bytes: record, gone },
            false => self.bytes.extend_from_slice(&record[gone..]),
        }
    }
}

impl TlsStream {
    /// `incoming` are records after the handshake; `alpn` is empty if nothing was agreed.
    pub(super) fn new(socket: Socket, session: Session, incoming: Vec<u8>, alpn: Box<[u8]>) -> Self {
        let incoming = incoming.as_slice().to_vec();
        let (opened, sealed) = Default::default();
        TlsStream { socket, session, alpn, incoming, opened, sealed, ended: false, error: None }
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The protocol agreed by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        Some(&*self.alpn).filter(|alpn| !alpn.is_empty())
    }

    fn check(&self) -> io::Result<()> {
        self.error.as_ref().map_or(Ok(()), |error| Err(invalid((**error).clone())))
    }

    fn fail(&mut self, cx: &mut Context<'_>, error: Error) -> io::Error {
        self.session.fail(&error);
        // Told if the socket takes it at once: what counts is the error.
        let _ = self.poll_send(cx);
        self.error = Some(Box::new(error.clone()));
        invalid(error)
    }

    fn poll_records(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut held = self.incoming.len();
        scratch[..held].copy_from_slice(&self.incoming);
        self.incoming = Vec::new();
        loop {
            let before = buf.filled().len();
            let done = self.open(&mut scratch[..held], buf).map_err(|error| self.fail(cx, error))?;
            let read = match buf.filled().len() > before || self.ended {
                true => Poll::Ready(Ok(None)),
                false => {
                    scratch.copy_within(done..held, 0);
                    held -= done;
                    // As much as the reader takes, but at least a record.
                    let most = scratch.len().min(held + RECORD.max(buf.remaining()));
                    let mut space = ReadBuf::new(&mut scratch[held..most]);
                    let read = Pin::new(&mut self.socket).poll_read(cx, &mut space);
                    read.map_ok(|()| Some(space.filled().len()))
                }
            };
            match read {
                Poll::Ready(Ok(Some(count @ 1..))) => held += count,
                Poll::Ready(Ok(Some(0))) => return Poll::Ready(Err(cut_off())),
                Poll::Ready(Ok(None)) => {
                    if !self.ended {
                        self.incoming = scratch[done..held].to_vec();
                    }
                    return Poll::Ready(Ok(()));
                }
                other => {
                    self.incoming = scratch[..held].to_vec();
                    return other.map_ok(drop);
                }
            }
        }
    }

    /// Opens records as long as there is room for what is in them; returns their length.
    fn open(&mut self, records: &mut [u8], buf: &mut ReadBuf<'_>) -> Result<usize, Error> {
        let mut done = 0;
        while buf.remaining() > 0 && !self.ended {
            let rest = &mut records[done..];
            let Some(length) = record_length(rest)?.filter(|&length| length <= rest.len()) else { break };
            match self.session.open(&mut rest[..length])? {
                Opened::Data(data) => {
                    let (now, later) = data.split_at(data.len().min(buf.remaining()));
                    buf.put_slice(now);
                    if !later.is_empty() {
                        self.opened.push(later.to_vec(), 0);
                    }
                }
                Opened::Other => {}
                Opened::End => self.ended = true,
            }
            done += length;
        }
        Ok(done)
    }

    /// Sends what is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.sealed.rest().is_empty() {
                let urgent = self.session.take_urgent();
                if urgent.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.sealed.push(urgent, 0);
            }
            match ready!(Pin::new(&mut self.socket).poll_write(cx, self.sealed.rest()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sealed.advance(count),
            }
        }
    }

    /// Sends as much as the socket takes at once, and keeps the rest.
    fn send_flight(&mut self, cx: &mut Context<'_>, flight: Flight) -> io::Result<()> {
        let socket = Pin::new(&mut self.socket);
        let sent = match &flight {
            [urgent, record, second, ..] if urgent.is_empty() && second.is_empty() => socket.poll_write(cx, record),
            _ => socket.poll_write_vectored(cx, &flight.each_ref().map(|record| IoSlice::new(record))),
        };
        let mut sent = match sent {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        for record in flight {
            let gone = sent.min(record.len());
            sent -= gone;
            if gone < record.len() {
                self.sealed.push(record, gone);
            }
        }
        Ok(())
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rest = self.opened.rest();
        if !rest.is_empty() {
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            self.opened.advance(count);
            return Poll::Ready(Ok(()));
        }
        self.check()?;
        if self.ended || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        RECORDS.with_borrow_mut(|scratch| self.poll_records(cx, buf, scratch))
    }
}

impl AsyncWrite for TlsStream {
    /// Takes up to 64 KB, which are sent with one system call if the socket has room.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.session.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_send(cx))?;
        let mut flight = Flight::default();
        let count = self.session.seal(bytes, &mut flight).map_err(|error| self.fail(cx, error))?;
        self.send_flight(cx, flight)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Says `close_notify`, then ends the socket's direction.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.close();
        ready!(self.poll_send(cx))?;
        match ready!(Pin::new(&mut self.socket).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "peer closed connection without sending TLS close_notify")
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
