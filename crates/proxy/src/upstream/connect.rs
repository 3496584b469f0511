//! Opens connections: TCP or Unix, then TLS, then HTTP/2 when that is what both sides want.

use super::cluster::Cluster;
use super::dial;
use super::host::{ConnectionGuard, H1Connection, H2Connection, Host, Turn};
use crate::clock;
use crate::http::buffer::Buffer;
use crate::http::{h1, h2};
use crate::io::{Io, SharedIo};
use crate::socket::Socket;
use crate::tls::ClientTransport;
use engine::proxy_protocol::Origin;
use model::{Address, Refusal};
use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// Upstream heads may be as large as downstream ones by default.
const HEADS: h2::Limits = h2::Limits { bytes: 60 * 1024, fields: 200 };

/// A connection attempt that failed.
#[derive(Clone, Debug)]
pub struct ConnectError {
    pub refusal: Refusal,
    /// For `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub reason: Box<str>,
}

/// An open connection, secured if the cluster says so.
pub struct Connected {
    pub io: Io,
    pub local: Option<SocketAddr>,
    pub guard: ConnectionGuard,
    /// For whom it speaks (PROXY protocol).
    pub origin: Option<Origin>,
}

/// Protocols to offer by ALPN; empty uses what the cluster's TLS context says.
pub type Offer<'a> = &'a [&'a [u8]];

/// Connects within the cluster's connect timeout, TLS handshake included.
pub async fn connect(
    cluster: &Cluster,
    host: &Host,
    offer: Offer<'_>,
    server_name: &str,
    origin: Option<Origin>,
) -> Result<Connected, ConnectError> {
    let stats = &cluster.stats;
    let started = Instant::now();
    stats.upstream_cx_total.inc();
    let guard = ConnectionGuard::new(stats, host);
    let attempt = open(cluster, host, offer, server_name, origin);
    match tokio::time::timeout(cluster.config.connect_timeout, attempt).await {
        Ok(Ok((io, local))) => {
            stats.upstream_cx_connect_ms.record(started.elapsed());
            let origin = origin.filter(|_| cluster.speaks_for_clients);
            Ok(Connected { io, local, guard, origin })
        }
        Ok(Err(error)) => {
            stats.upstream_cx_connect_fail.inc();
            Err(error)
        }
        Err(_) => {
            stats.upstream_cx_connect_timeout.inc();
            stats.upstream_cx_connect_fail.inc();
            Err(ConnectError { refusal: Refusal::ConnectTimeout, reason: "connect timeout".into() })
        }
    }
}

/// The system's words for an error, without the number that Rust adds.
fn without_number(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

async fn open(
    cluster: &Cluster,
    host: &Host,
    offer: Offer<'_>,
    server_name: &str,
    origin: Option<Origin>,
) -> Result<(Io, Option<SocketAddr>), ConnectError> {
    let refused = |error: std::io::Error| ConnectError {
        refusal: Refusal::ConnectFailure,
        reason: format!("delayed connect error: {}", without_number(&error)).into(),
    };
    let (socket, local) = match &host.address {
        Address::Tcp(address) => {
            let stream = dial::tcp(&cluster.config, *address, &host.endpoint.more_addresses).await.map_err(refused)?;
            let local = stream.local_addr().ok();
            (Socket::tcp(stream), local)
        }
        Address::Unix(path) => (Socket::unix(UnixStream::connect(path).await.map_err(refused)?), None),
    };
    let transport = cluster.config.transport_index(&host.endpoint.socket_match);
    let socket = match cluster.config.proxy_protocol(transport) {
        Some(version) => dial::speak_for(socket, version, origin).await.map_err(refused)?,
        None => socket,
    };
    let tls = match cluster.transport(&host.endpoint) {
        ClientTransport::Plain => return Ok((Io::Plain(socket), local)),
        ClientTransport::Tls(tls) => tls,
        ClientTransport::Broken(reason) => {
            return Err(ConnectError { refusal: Refusal::UpstreamTlsFailure, reason: (*reason).into() });
        }
    };
    match tls.connect(socket, offer, server_name).await {
        Ok(stream) => {
            cluster.stats.ssl_handshake.inc();
            Ok((Io::Tls(Box::new(stream)), local))
        }
        Err(error) => {
            cluster.stats.ssl_connection_error.inc();
            let reason = format!("TLS_error: {error}").into();
            Err(ConnectError { refusal: Refusal::UpstreamTlsFailure, reason })
        }
    }
}

/// When a connection made now takes no more requests.
fn ends(cluster: &Cluster) -> Option<Instant> {
    let longest = cluster.config.connections().max_duration;
    let more = cluster.config.connections().duration_jitter / 100.0;
    (!longest.is_zero()).then(|| Instant::now() + longest.mul_f64(1.0 + more * cluster.random_unit()))
}

pub fn http1(cluster: &Cluster, connected: Connected) -> H1Connection {
    cluster.stats.upstream_cx_http1_total.inc();
    bytes(cluster, connected)
}

/// For bytes without a protocol.
pub fn bytes(cluster: &Cluster, connected: Connected) -> H1Connection {
    let io = SharedIo::new(connected.io);
    H1Connection {
        reader: h1::Reader::new(io.clone(), Buffer::default()),
        writer: h1::Writer::new(io),
        served: 0,
        turn: Turn::default(),
        idle_since: Instant::now(),
        until: ends(cluster),
        origin: connected.origin,
        local: connected.local,
        _guard: connected.guard,
    }
}

/// Starts HTTP/2; a task of the worker drives the connection until it closes.
pub fn http2(cluster: &Cluster, host: &Rc<Host>, connected: Connected) -> Rc<H2Connection> {
    cluster.stats.upstream_cx_http2_total.inc();
    let options = &cluster.config.http2;
    let connection = h2::Connection::new(
        SharedIo::new(connected.io),
        Buffer::default(),
        h2::Role::Client,
        h2::Options {
            stream_window: options.initial_stream_window,
            connection_window: options.initial_connection_window,
            max_streams: options.max_concurrent_streams,
            limits: HEADS,
            extended_connect: false,
        },
    );
    let pooled = Rc::new(H2Connection {
        link: connection.link().clone(),
        served: Cell::new(0),
        active: Cell::new(0),
        closed: Cell::new(false),
        local: connected.local,
        stats: cluster.stats.clone(),
        origin: connected.origin,
        idle_since: Cell::new(Instant::now()),
        until: ends(cluster),
    });
    if !host.gone.get() {
        host.h2.borrow_mut().push(pooled.clone());
    }
    let guard = connected.guard;
    let keepalive = (options.keepalive_interval, options.keepalive_timeout);
    tokio::task::spawn_local(async move {
        clock::Ticking::new(Box::pin(drive(connection, keepalive))).await;
        drop(guard);
    });
    pooled
}

/// Runs the connection; pings it when configured, and gives it up when a ping is not answered.
async fn drive(mut connection: h2::Connection, (interval, timeout): (Duration, Duration)) {
    let link = connection.link().clone();
    tokio::select! {
        // Its end, orderly or not, is seen by the streams on it.
        _ = poll_fn(|cx| connection.poll_accept(cx)) => {}
        () = h2::unanswered(&link, interval, timeout) => {}
    }
}
