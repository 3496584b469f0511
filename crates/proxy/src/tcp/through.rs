//! TCP by way of an HTTP proxy (`tcp_proxy.v3.TcpProxy.TunnelingConfig`): after a CONNECT, or as the body of a POST.

use super::tunnel::{End, Side};
use crate::http::h1::Framing;
use crate::io::SharedIo;
use crate::upstream::connect::{ConnectError, Connected};
use crate::upstream::exchange::{self, Exchange, Wish};
use crate::upstream::host::{ConnectionGuard, H1Connection};
use crate::upstream::{Cluster, Host, Passage};
use engine::format::{self, Context};
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::{Head, edits};
use model::Refusal;
use model::cluster::UpstreamProtocol;
use model::listener::Tunneling;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;

/// The upstream's side of a tunnel.
pub enum Upstream {
    /// A connection that never spoke HTTP.
    Plain { io: SharedIo, _guard: ConnectionGuard },
    /// One that has left HTTP behind.
    Left(Box<H1Connection>),
    /// A request whose body goes out, and the body of its response.
    Messages(RefCell<Messages>),
}

pub struct Messages {
    exchange: Exchange,
    ended: bool,
}

impl Upstream {
    /// The end of a tunnel that needs no proxy.
    pub(super) fn plain(connected: Connected) -> End<Upstream> {
        End { io: Upstream::Plain { io: SharedIo::new(connected.io), _guard: connected.guard }, early: Vec::new() }
    }

    fn socket(&self) -> Result<&SharedIo, &RefCell<Messages>> {
        match self {
            Upstream::Plain { io, .. } => Ok(io),
            Upstream::Left(connection) => Ok(connection.reader.io()),
            Upstream::Messages(messages) => Err(messages),
        }
    }

    /// The upstream will see a reset instead of an end.
    pub(super) fn reset_on_close(&self) {
        if let Ok(io) = self.socket() {
            io.reset_on_close();
        }
    }
}

fn broken<E>(_: E) -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Messages {
    fn poll_read(&mut self, cx: &mut Task<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut source = self.exchange.body();
        if !ready!(source.poll_data(cx)).map_err(broken)? {
            return Poll::Ready(Ok(0));
        }
        let count = source.data().len().min(space.len());
        space[..count].copy_from_slice(&source.data()[..count]);
        source.consume(count);
        Poll::Ready(Ok(count))
    }

    fn poll_shutdown(&mut self, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ended, true) {
            self.exchange.sink().finish(None).map_err(broken)?;
        }
        self.exchange.sink().poll_flush(cx).map_err(broken)
    }
}

impl Side for Upstream {
    fn poll_read(&self, cx: &mut Task<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.socket() {
            Ok(io) => io.poll_read(cx, space),
            Err(messages) => messages.borrow_mut().poll_read(cx, space),
        }
    }

    fn poll_write(&self, cx: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.socket() {
            Ok(io) => io.poll_write(cx, bytes),
            Err(messages) => messages.borrow_mut().exchange.sink().poll_write(cx, bytes).map_err(broken),
        }
    }

    fn poll_flush(&self, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Ok(io) => io.poll_flush(cx),
            Err(messages) => messages.borrow_mut().exchange.sink().poll_flush(cx).map_err(broken),
        }
    }

    fn poll_shutdown(&self, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        match self.socket() {
            Ok(io) => io.poll_shutdown(cx),
            Err(messages) => messages.borrow_mut().poll_shutdown(cx),
        }
    }

    fn plain_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        self.socket().ok()?.plain_tcp(look)
    }
}

/// Asks `host` for a tunnel, for at most `patience` (zero: any time).
pub(super) async fn open(
    cluster: &Cluster,
    host: &Rc<Host>,
    tunneling: &Tunneling,
    (facts, info): (&ConnectionFacts, &mut StreamInfo),
    patience: Duration,
) -> Result<End<Upstream>, ConnectError> {
    let head = request(tunneling, facts, info);
    let http2 = cluster.config.protocol == UpstreamProtocol::Http2;
    let (passage, framing) = match tunneling.post_path {
        None if !http2 => (Passage::Switch, Framing::None),
        _ => (Passage::Messages, Framing::Chunked),
    };
    let origin = exchange::origin(cluster, facts);
    let (downstream, authority) = (Protocol::Http11, head.authority());
    let wish = Wish { downstream, passage, authority, fresh: true, priority: 0, origin };
    let acquired = exchange::open(cluster, host, &wish).await?;
    let failed = |refusal| ConnectError { refusal, reason: "the proxy gives no tunnel".into() };
    let mut exchange = Exchange::start(acquired, &head, framing, passage).map_err(failed)?;
    info.upstream_local = exchange.local();
    let answered = poll_fn(|cx| {
        if let Poll::Ready(Err(_)) = exchange.sink().poll_flush(cx) {
            return Poll::Ready(Err(Refusal::UpstreamReset));
        }
        let mut answer = Head::default();
        exchange.poll_head(cx, &mut answer).map_ok(|()| answer.status)
    });
    let status = match patience.is_zero() {
        true => answered.await,
        false => tokio::time::timeout(patience, answered).await.unwrap_or(Err(Refusal::ConnectTimeout)),
    };
    match status {
        Ok(200..300) => Ok(side(exchange, passage)),
        // As in Envoy, this host could not be connected to.
        Ok(_) | Err(_) => Err(failed(Refusal::ConnectFailure)),
    }
}

fn request(tunneling: &Tunneling, facts: &ConnectionFacts, info: &StreamInfo) -> Head {
    let none = Head::default();
    let mut hostname = Vec::new();
    format::render(&tunneling.hostname, &Context::new(&none, info, facts), "", &mut hostname);
    let mut head = Head::default();
    head.set_authority(&hostname);
    match &tunneling.post_path {
        None => head.set_method(b"CONNECT"),
        Some(path) => {
            head.set_method(b"POST");
            head.set_path(path.as_bytes());
        }
    }
    edits::add_all(&tunneling.headers, &mut head, |head, value, out| {
        format::render(value, &Context::new(head, info, facts), "", out);
    });
    head
}

/// The end of a tunnel to which the upstream agreed: the socket where it has left HTTP, else the bodies.
pub fn side(mut exchange: Exchange, passage: Passage) -> End<Upstream> {
    exchange.leave();
    match exchange {
        Exchange::H1(mut connection) if passage != Passage::Messages => {
            let early = connection.reader.take_rest();
            End { io: Upstream::Left(connection), early }
        }
        exchange => {
            let messages = Messages { exchange, ended: false };
            End { io: Upstream::Messages(RefCell::new(messages)), early: Vec::new() }
        }
    }
}
