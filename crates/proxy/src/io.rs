//! Connections as the protocols see them: sockets, plain or under TLS.

use crate::socket::Socket;
use crate::tls::TlsStream;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub enum Io {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Io {
    pub fn socket(&self) -> &Socket {
        match self {
            Io::Plain(socket) => socket,
            Io::Tls(stream) => stream.socket(),
        }
    }

    /// The TCP socket, where nothing stands between it and the bytes.
    pub fn plain_tcp(&self) -> Option<&TcpStream> {
        match self {
            Io::Plain(socket) if !socket.has_unread() => socket.as_tcp(),
            _ => None,
        }
    }

    /// The protocol agreed by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Io::Plain(_) => None,
            Io::Tls(stream) => stream.alpn(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// One connection read and written by two halves of the same task. Borrows never live across an await.
#[derive(Clone)]
pub struct SharedIo(Rc<RefCell<Io>>);

impl SharedIo {
    pub fn new(io: Io) -> Self {
        SharedIo(Rc::new(RefCell::new(io)))
    }

    pub fn with<T>(&self, look: impl FnOnce(&Io) -> T) -> T {
        look(&self.0.borrow())
    }

    /// The peer will see a reset instead of an end.
    pub fn reset_on_close(&self) {
        if let Some(tcp) = self.0.borrow().socket().as_tcp() {
            // Without it the peer just sees the end.
            let _ = socket2::SockRef::from(tcp).set_linger(Some(std::time::Duration::ZERO));
        }
    }

    /// Reads at most `space.len()` bytes; 0 is the end.
    pub fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(space);
        match Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(buf.filled().len())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    pub fn poll_read_buf(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    /// Writes from `first`, then from `second`, with one system call where the connection can.
    pub fn poll_write_both(&self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        let io = &mut *self.0.borrow_mut();
        match (first, io) {
            ([], io) => Pin::new(io).poll_write(cx, second),
            (_, Io::Plain(socket)) => {
                Pin::new(socket).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
            }
            (_, io) => Pin::new(io).poll_write(cx, first),
        }
    }

    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}
