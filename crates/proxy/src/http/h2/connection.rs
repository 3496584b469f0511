//! One HTTP/2 connection on its socket. Its task reads frames and writes what the streams' tasks gathered since it last
//! ran: many frames leave in one write and, under TLS, in one record.

use super::core::{Core, Options, Ping, Role};
use super::message;
use super::stream::Handle;
use super::streams::Broken;
use crate::http::buffer::Buffer;
use crate::http::h1::Framing;
use crate::io::SharedIo;
use engine::Head;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// The connection as its task holds it.
pub struct Connection {
    link: Rc<Link>,
    io: SharedIo,
    buffer: Buffer,
    shut: bool,
}

/// The connection as everyone else sees it.
pub struct Link {
    pub(super) core: RefCell<Core>,
    task: RefCell<Option<Waker>>,
    /// The task was woken since it last ran.
    woken: Cell<bool>,
}

/// A request, as the server side receives it.
pub struct Accepted {
    pub head: Head,
    pub stream: Handle,
    pub framing: Framing,
    /// The head exceeds the limits and is not complete.
    pub too_large: bool,
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// HTTP/2 has no form for its head.
    CannotCarry,
    /// [`Link::can_open`] says no.
    Busy,
}

impl Link {
    /// Has the task write what was gathered.
    pub(super) fn poke(&self) {
        if !self.woken.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    /// Another request may be sent now.
    pub fn can_open(&self) -> bool {
        self.core.borrow().can_open()
    }

    /// No request will ever be sent again.
    pub fn leaves(&self) -> bool {
        let core = self.core.borrow();
        core.closing || core.peer_leaves
    }

    /// Sends a request. `leaves`: if the answer agrees, a tunnel takes the place of its body (RFC 9113 section 8.5).
    pub fn open(self: &Rc<Self>, head: &Head, framing: Framing, leaves: bool) -> Result<Handle, NotSent> {
        let mut core = self.core.borrow_mut();
        let extended = leaves && head.method() != b"CONNECT";
        if !message::can_carry(head) || (extended && core.settled && !core.peer_extended_connect) {
            return Err(NotSent::CannotCarry);
        }
        let place = core.open(head, framing, leaves).ok_or(NotSent::Busy)?;
        drop(core);
        self.poke();
        Ok(Handle::new(self.clone(), place))
    }

    /// Ends the connection when the streams under way are done; the peer is told.
    pub fn drain(&self) {
        self.core.borrow_mut().drain();
        self.poke();
    }

    /// Nobody will open a stream any more, and none is open.
    pub fn close(&self) {
        self.core.borrow_mut().close();
        self.poke();
    }

    pub fn ping(&self) {
        self.core.borrow_mut().send_ping(Ping::KeepAlive);
        self.poke();
    }

    /// The last ping was answered.
    pub fn ponged(&self) -> bool {
        self.core.borrow().ping.is_none()
    }

    /// The peer broke the protocol.
    pub fn failed(&self) -> bool {
        self.core.borrow().failed
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.core.borrow().streams.open()
    }
}

impl Connection {
    /// `buffer`: what was received before.
    pub fn new(io: SharedIo, buffer: Buffer, role: Role, options: Options) -> Self {
        let core = RefCell::new(Core::new(role, options));
        let link = Rc::new(Link { core, task: RefCell::default(), woken: Cell::new(false) });
        let mut connection = Connection { link, io, buffer, shut: false };
        connection.receive();
        connection
    }

    pub fn link(&self) -> &Rc<Link> {
        &self.link
    }

    /// The next request. `None`: the connection has ended. A client's task polls it for nothing else.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted>> {
        self.link.woken.set(false);
        {
            let mut task = self.link.task.borrow_mut();
            if task.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        loop {
            if let Some(accepted) = self.accepted() {
                return Poll::Ready(Some(accepted));
            }
            if self.link.core.borrow_mut().is_over() {
                ready!(self.poll_shut(cx));
                return Poll::Ready(None);
            }
            match self.buffer.poll_fill(&self.io, cx) {
                Poll::Ready(Ok(1..)) => self.receive(),
                Poll::Ready(_) => self.lost(),
                Poll::Pending => match self.poll_flush(cx) {
                    Poll::Ready(Err(_)) => self.lost(),
                    _ => return Poll::Pending,
                },
            }
        }
    }

    fn accepted(&mut self) -> Option<Accepted> {
        let mut core = self.link.core.borrow_mut();
        let place = core.accepted.pop_front()?;
        let stream = core.streams.at(place);
        let head = stream.head.take().unwrap_or_default();
        let framing = match stream.expected {
            _ if stream.ended && stream.received.is_empty() && stream.trailers.is_none() => Framing::None,
            Some(_) => {
                let told = head.get_known(engine::head::Known::ContentLength);
                let told = told.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
                told.map_or(Framing::Chunked, Framing::Length)
            }
            None => Framing::Chunked,
        };
        let too_large = stream.too_large;
        drop(core);
        Some(Accepted { head, stream: Handle::new(self.link.clone(), place), framing, too_large })
    }

    fn receive(&mut self) {
        let mut core = self.link.core.borrow_mut();
        while !core.closing && !self.buffer.is_empty() {
            match core.receive(self.buffer.bytes()) {
                Ok(0) => return,
                Ok(count) => self.buffer.consume(count),
                Err(fatal) => core.fail(fatal),
            }
        }
    }

    fn lost(&mut self) {
        self.shut = true;
        self.link.core.borrow_mut().break_all(Broken::Lost);
    }

    /// Writes what was gathered.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let core = &mut *self.link.core.borrow_mut();
        let out = &mut core.out;
        if out.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while out.written < out.bytes.len() {
            match ready!(self.io.poll_write(cx, &out.bytes[out.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => out.written += count,
            }
        }
        ready!(self.io.poll_flush(cx))?;
        out.emptied();
        core.call_next();
        Poll::Ready(Ok(()))
    }

    /// Says the last words and closes.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            let _ = ready!(self.poll_flush(cx));
            let _ = ready!(self.io.poll_shutdown(cx));
        }
        Poll::Ready(())
    }
}

/// Pings the peer each `interval` (zero: never); ready when an answer took longer than `timeout`.
pub async fn unanswered(link: &Link, interval: Duration, timeout: Duration) {
    if interval.is_zero() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(interval).await;
        link.ping();
        // Polled with the connection's own task, which reads the answer.
        let ponged = poll_fn(|_| if link.ponged() { Poll::Ready(()) } else { Poll::Pending });
        if tokio::time::timeout(timeout, ponged).await.is_err() {
            return;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.core.borrow_mut().break_all(Broken::Lost);
    }
}
