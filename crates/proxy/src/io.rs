//! Byte streams: TCP or Unix sockets, plain or under TLS, with bytes that were already read put back in front.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

/// A socket, with what an inspector has read from it and must be read again.
pub struct Socket {
    kind: Kind,
    prefix: Vec<u8>,
    served: usize,
    /// Read as much as there is, more than was asked for.
    ahead: bool,
}

/// Bytes that are read ahead at once.
const AHEAD: usize = 32 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub fn tcp(stream: TcpStream) -> Self {
        Socket { kind: Kind::Tcp(stream), prefix: Vec::new(), served: 0, ahead: false }
    }

    pub fn unix(stream: UnixStream) -> Self {
        Socket { kind: Kind::Unix(stream), prefix: Vec::new(), served: 0, ahead: false }
    }

    pub fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Tcp(stream) => Some(stream),
            Kind::Unix(_) => None,
        }
    }

    /// For a reader that asks for little at a time, as TLS does: one system call brings what several would.
    pub fn read_ahead(mut self) -> Self {
        self.ahead = true;
        self
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(AHEAD, 0);
            let mut all = ReadBuf::new(scratch);
            let read = self.kind.poll_read(cx, &mut all);
            let filled = all.filled();
            let now = filled.len().min(buf.remaining());
            buf.put_slice(&filled[..now]);
            if filled.len() > now {
                self.unread(filled[now..].to_vec());
            }
            read
        })
    }

    /// Puts `bytes` back: they are read before anything else.
    pub fn unread(&mut self, bytes: Vec<u8>) {
        self.prefix = bytes;
        self.served = 0;
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.served < self.prefix.len() {
            let count = buf.remaining().min(self.prefix.len() - self.served);
            buf.put_slice(&self.prefix[self.served..self.served + count]);
            self.served += count;
            if self.served == self.prefix.len() {
                self.prefix = Vec::new();
                self.served = 0;
            }
            return Poll::Ready(Ok(()));
        }
        if self.ahead {
            return self.poll_ahead(cx, buf);
        }
        self.kind.poll_read(cx, buf)
    }
}

impl Kind {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection as the protocols see it.
pub enum Io {
    Plain(Socket),
    Server(Box<server::TlsStream<Socket>>),
    Client(Box<client::TlsStream<Socket>>),
}

impl Io {
    pub fn socket(&self) -> &Socket {
        match self {
            Io::Plain(socket) => socket,
            Io::Server(stream) => stream.get_ref().0,
            Io::Client(stream) => stream.get_ref().0,
        }
    }

    /// The TCP socket, where nothing stands between it and the bytes.
    pub fn plain_tcp(&self) -> Option<&TcpStream> {
        match self {
            Io::Plain(socket) if socket.served == socket.prefix.len() => socket.as_tcp(),
            _ => None,
        }
    }

    /// The protocol agreed by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Io::Plain(_) => None,
            Io::Server(stream) => stream.get_ref().1.alpn_protocol(),
            Io::Client(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Server(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Client(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Server(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Client(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Server(stream) => Pin::new(stream).poll_flush(cx),
            Io::Client(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Server(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Client(stream) => Pin::new(stream).poll_shutdown(cx),
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

    /// The connection itself, when this is the last handle to it.
    pub fn into_inner(self) -> Option<Io> {
        Rc::into_inner(self.0).map(RefCell::into_inner)
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
