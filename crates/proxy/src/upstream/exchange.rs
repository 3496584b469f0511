//! One request and its response on one upstream connection, whichever protocol it speaks.

use super::cluster::Cluster;
use super::connect::{self, ConnectError};
use super::host::{H1Connection, H2Connection, Host, Passage, Turn};
use super::opening::Opening;
use crate::http::body::{Sink, Source};
use crate::http::h1::{AnswerTo, Framing, Limits, encode, reader::HeadRead};
use crate::http::h2::{Broken, H2Sink, H2Source, Handle, NotSent, Reason};
use crate::http::heads;
use engine::head::Head;
use engine::info::{ConnectionFacts, Protocol};
use engine::proxy_protocol::{self, Origin};
use engine::request;
use model::Refusal;
use model::cluster::UpstreamProtocol;
use model::listener::ProxyVersion;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Upstream heads may be as large as downstream ones by default.
const LIMITS: Limits = Limits { head: 60 * 1024, fields: 200 };

/// A connection on which the request can be sent.
pub enum Acquired {
    H1 { connection: Box<H1Connection>, reused: bool },
    H2(Rc<H2Connection>),
}

/// What the request needs of its connection.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub downstream: Protocol,
    /// Only HTTP/1 carries an upgrade.
    pub passage: Passage,
    /// For SNI by host.
    pub authority: &'a [u8],
    /// Do not take a pooled connection: one has just died under this request.
    pub fresh: bool,
    /// Index of the circuit breakers that count it.
    pub priority: usize,
    /// Of the downstream connection, for clusters that speak the PROXY protocol.
    pub origin: Option<Origin>,
}

/// For whom a connection to `cluster` speaks: nobody, unless it uses the PROXY protocol.
pub fn origin(cluster: &Cluster, facts: &ConnectionFacts) -> Option<Origin> {
    if !cluster.speaks_for_clients {
        return None;
    }
    origin_of(facts)
}

/// Both ends of a downstream connection.
pub fn origin_of(facts: &ConnectionFacts) -> Option<Origin> {
    Some(Origin { source: facts.direct_remote?, destination: facts.local? })
}

/// Which protocol a request may travel by: HTTP/2 at all, and HTTP/1 as well where the server chooses by ALPN.
fn protocols(cluster: &Cluster, wish: &Wish<'_>) -> (bool, bool) {
    let h2 = match cluster.config.protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => true,
        UpstreamProtocol::Downstream => wish.downstream == Protocol::Http2,
        UpstreamProtocol::Alpn => wish.passage == Passage::Messages,
    };
    (h2, cluster.config.protocol == UpstreamProtocol::Alpn)
}

/// A pooled connection to `host` that can take the request now.
pub fn pooled(cluster: &Cluster, host: &Rc<Host>, wish: &Wish<'_>) -> Option<Acquired> {
    if wish.passage == Passage::Raw {
        return None;
    }
    let (h2, either) = protocols(cluster, wish);
    if h2 && let Some(connection) = host.ready_h2(cluster.config.max_requests_per_connection, wish.origin) {
        return Some(Acquired::H2(connection));
    }
    if (h2 && !either) || wish.fresh {
        return None;
    }
    host.take_idle(wish.origin).map(|connection| Acquired::H1 { connection, reused: true })
}

/// A request that waits for a connection, as circuit breakers count it.
struct Waiting<'c>(&'c Cluster);

impl<'c> Waiting<'c> {
    fn new(cluster: &'c Cluster) -> Self {
        cluster.connecting.set(cluster.connecting.get() + 1);
        Waiting(cluster)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(self.0.connecting.get() - 1);
    }
}

/// A new connection to `host`. Where requests share connections, all wait for the one that the first of them opens.
pub async fn open(cluster: &Cluster, host: &Rc<Host>, wish: &Wish<'_>) -> Result<Acquired, ConnectError> {
    limits(cluster, host, wish.priority)?;
    let _waiting = Waiting::new(cluster);
    let shared = protocols(cluster, wish) == (true, false) && wish.passage != Passage::Raw && wish.origin.is_none();
    if !shared {
        return open_own(cluster, host, wish).await;
    }
    loop {
        let Some(opening) = Opening::under_way(host) else {
            let opening = Opening::start(host);
            return open_own(cluster, host, wish).await.inspect_err(|error| opening.fail(error));
        };
        opening.finished().await;
        if let Some(error) = opening.failure() {
            return Err(error);
        }
        if let Some(acquired) = pooled(cluster, host, wish) {
            return Ok(acquired);
        }
        // It was given up, or is full already.
    }
}

async fn open_own(cluster: &Cluster, host: &Rc<Host>, wish: &Wish<'_>) -> Result<Acquired, ConnectError> {
    const H1: &[u8] = b"http/1.1";
    const H2: &[u8] = b"h2";
    let (h2, either) = protocols(cluster, wish);
    let raw = wish.passage == Passage::Raw;
    let offer: &[&[u8]] = match (h2, either) {
        _ if raw => &[],
        (true, true) => &[H2, H1],
        (true, false) => &[H2],
        (false, _) => &[H1],
    };
    let authority = std::str::from_utf8(wish.authority).unwrap_or_default();
    let connected = connect::connect(cluster, host, offer, authority, wish.origin).await?;
    if raw {
        return Ok(Acquired::H1 { connection: Box::new(connect::bytes(cluster, connected)), reused: false });
    }
    let speaks_h2 = h2 && (!either || connected.io.alpn() == Some(H2));
    if speaks_h2 {
        return Ok(Acquired::H2(connect::http2(cluster, host, connected)));
    }
    Ok(Acquired::H1 { connection: Box::new(connect::http1(cluster, connected)), reused: false })
}

/// A pooled connection to `host`, or a new one.
pub async fn acquire(cluster: &Cluster, host: &Rc<Host>, wish: &Wish<'_>) -> Result<Acquired, ConnectError> {
    match pooled(cluster, host, wish) {
        Some(acquired) => Ok(acquired),
        None => open(cluster, host, wish).await,
    }
}

/// Circuit breakers for connections and requests that wait for one. The figures are per worker.
pub fn limits(cluster: &Cluster, host: &Host, priority: usize) -> Result<(), ConnectError> {
    let limits = &cluster.config.limits[priority];
    let overflow = |reason: &str| ConnectError { refusal: Refusal::UpstreamOverflow, reason: reason.into() };
    if cluster.stats.upstream_cx_active.get() >= u64::from(limits.max_connections) {
        cluster.stats.upstream_cx_overflow.inc();
        return Err(overflow("max_connections"));
    }
    if cluster.config.max_connections_per_host.is_some_and(|most| host.connections.get() >= most) {
        cluster.stats.upstream_cx_overflow.inc();
        return Err(overflow("max_connections of the host"));
    }
    if cluster.connecting.get() >= limits.max_pending_requests {
        cluster.stats.upstream_rq_pending_overflow.inc();
        return Err(overflow("max_pending_requests"));
    }
    Ok(())
}

/// A request under way.
pub enum Exchange {
    H1(Box<H1Connection>),
    H2(Box<H2Exchange>),
}

pub struct H2Exchange {
    response: Handle,
    sink: H2Sink,
    source: Option<H2Source>,
    stream: ActiveStream,
    /// A tunnel is asked for: `connect`, or the protocol that HTTP/1.1 would upgrade to.
    leaves: Option<Vec<u8>>,
}

/// Counts a stream while it lives.
struct ActiveStream(Rc<H2Connection>);

impl ActiveStream {
    fn new(connection: Rc<H2Connection>) -> Self {
        connection.served.set(connection.served.get() + 1);
        connection.active.set(connection.active.get() + 1);
        ActiveStream(connection)
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.idle_since.set(crate::clock::now());
    }
}

impl Exchange {
    /// Encodes the request head; nothing is flushed yet.
    pub fn start(acquired: Acquired, head: &Head, framing: Framing, passage: Passage) -> Result<Exchange, Refusal> {
        match acquired {
            Acquired::H1 { mut connection, reused } => {
                if passage == Passage::Raw {
                    // Without a body to be sent, a tunnel takes over.
                    connection.writer.start_body(if framing == Framing::None { framing } else { Framing::Close });
                    connection.reader.start_body(Framing::Close);
                } else {
                    encode::request(head, framing, passage == Passage::Switch, connection.writer.out());
                    connection.writer.start_body(framing);
                }
                connection.served += 1;
                let (to, sent_before) = (AnswerTo::method(head.method()), connection.writer.sent);
                connection.turn = Turn { reused, to, passage, keep_alive: false, sent_before };
                Ok(Exchange::H1(connection))
            }
            Acquired::H2(connection) => {
                let leaves = (passage == Passage::Switch).then(|| request::upgrade_type(head));
                let response =
                    connection.link.open(head, framing, leaves.is_some()).map_err(|not_sent| match not_sent {
                        NotSent::CannotCarry => Refusal::UpstreamProtocolError,
                        NotSent::Busy => Refusal::UpstreamReset,
                    })?;
                let sink = H2Sink::new(response.clone(), framing == Framing::None && leaves.is_none());
                let stream = ActiveStream::new(connection);
                Ok(Exchange::H2(Box::new(H2Exchange { response, sink, source: None, stream, leaves })))
            }
        }
    }

    /// A PROXY protocol header goes out first.
    pub fn introduce(&mut self, version: ProxyVersion, origin: Option<Origin>) {
        if let Exchange::H1(h1) = self {
            proxy_protocol::write(version, origin, h1.writer.out());
        }
    }

    pub fn is_h2(&self) -> bool {
        matches!(self, Exchange::H2(_))
    }

    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Exchange::H1(h1) => h1.local,
            Exchange::H2(h2) => h2.stream.0.local,
        }
    }

    /// A pooled connection that the upstream may have closed just as the request went out.
    pub fn is_reused(&self) -> bool {
        matches!(self, Exchange::H1(h1) if h1.turn.reused)
    }

    /// Some byte of the request has left.
    pub fn has_sent(&self) -> bool {
        match self {
            Exchange::H1(h1) => h1.writer.sent > h1.turn.sent_before,
            Exchange::H2(_) => true,
        }
    }

    /// Where the request body goes.
    pub fn sink(&mut self) -> Sink<'_> {
        match self {
            Exchange::H1(h1) => Sink::H1(&mut h1.writer),
            // Until there is a tunnel, there is nowhere to send to.
            Exchange::H2(h2) if h2.leaves.is_some() => Sink::Discard,
            Exchange::H2(h2) => Sink::H2(&mut h2.sink),
        }
    }

    /// The response head.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, head: &mut Head) -> Poll<Result<(), Refusal>> {
        match self {
            // A connection is all that was asked for.
            Exchange::H1(h1) if h1.turn.passage == Passage::Raw => {
                heads::lend(head);
                head.clear();
                head.status = 200;
                Poll::Ready(Ok(()))
            }
            Exchange::H1(h1) => match ready!(h1.reader.poll_response(cx, head, &LIMITS, h1.turn.to)) {
                Ok(HeadRead::Head(received)) => {
                    let connect = h1.turn.to == AnswerTo::Connect;
                    let left = h1.turn.passage == Passage::Switch && request::switches(connect, head.status);
                    h1.turn.keep_alive = received.keep_alive && !left;
                    Poll::Ready(Ok(()))
                }
                Ok(HeadRead::Closed | HeadRead::CutOff) => Poll::Ready(Err(Refusal::UpstreamReset)),
                Err(_) => Poll::Ready(Err(Refusal::UpstreamProtocolError)),
            },
            Exchange::H2(h2) => {
                ready!(h2.response.poll_head(cx, head)).map_err(h2_refusal)?;
                h2.source = Some(H2Source::new(h2.response.clone()));
                // As HTTP/1.1 says it (RFC 8441 section 5).
                if let Some(protocol) = h2.leaves.as_ref().filter(|protocol| **protocol != b"connect")
                    && (200..300).contains(&head.status)
                {
                    head.status = 101;
                    head.push(b"upgrade", protocol);
                    head.push(b"connection", b"upgrade");
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The response body, after the head.
    pub fn body(&mut self) -> Source<'_> {
        match self {
            Exchange::H1(h1) => Source::H1(&mut h1.reader),
            Exchange::H2(h2) => h2.source.as_mut().map_or(Source::Empty, Source::H2),
        }
    }

    /// Ends the exchange; an HTTP/1 connection in good order goes back to the pool.
    pub fn finish(self, cluster: &Cluster, host: &Host, complete: bool) {
        match self {
            Exchange::H1(connection) => {
                let most = cluster.config.max_requests_per_connection;
                let spent = most > 0 && connection.served >= most;
                let reader = &connection.reader;
                let clean = reader.body_done() && connection.writer.is_empty() && !reader.has_input();
                if complete && connection.turn.keep_alive && clean && !spent {
                    host.keep_idle(connection);
                }
            }
            // A stream that is not complete is reset when its handles go.
            Exchange::H2(_) => {}
        }
    }

    /// The upstream has agreed to a tunnel: what goes out and comes in is no longer a message.
    pub fn leave(&mut self) {
        if let Exchange::H2(h2) = self {
            h2.leaves = None;
        }
    }
}

/// What the end of a stream means for the request.
fn h2_refusal(broken: Broken) -> Refusal {
    match broken {
        Broken::Reset(Reason::REFUSED_STREAM) | Broken::Unprocessed => Refusal::UpstreamRefusedStream,
        Broken::Reset(_) => Refusal::UpstreamStreamReset,
        Broken::Refused(_) => Refusal::UpstreamProtocolError,
        Broken::Lost => Refusal::UpstreamReset,
    }
}
