//! From an accepted socket to the protocol it speaks: inspect, choose a filter chain, secure, dispatch.

use super::rest::Resting;
use super::{http1, http2};
use crate::accept::inspect::{self, Seen, Stop};
use crate::accept::listen;
use crate::io::Io;
use crate::socket::Socket;
use crate::state::guard;
use crate::state::{ChainService, HttpService, ListenerService, ServiceKind, Worker};
use crate::tcp;
use crate::tls::ServerTransport;
use crate::tls::hello::Hello;
use engine::chain;
use engine::info::{ConnectionFacts, TlsFacts};
use engine::proxy_protocol::Origin;
use model::http::Codec;
use model::listener::ConnectionInfo;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Handshakes that take longer are given up, unless the filter chain says otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the connection was going before it was redirected to `listener`, if that cares.
pub fn original(listener: &ListenerService, socket: &Socket) -> Option<SocketAddr> {
    let config = &listener.config;
    let stream = socket.as_tcp().filter(|_| config.original_dst)?;
    listen::original_destination(stream, config.socket.transparent)
}

/// A connection of which all is known.
struct Opened {
    service: Rc<ChainService>,
    facts: Rc<ConnectionFacts>,
    io: Box<Io>,
    _admitted: Option<guard::Admitted>,
}

/// Serves one connection to its end. `original`: where it was going before it was redirected.
pub fn serve(
    worker: Rc<Worker>,
    listener: Rc<ListenerService>,
    socket: Socket,
    original: Option<SocketAddr>,
) -> impl Future<Output = ()> {
    // Boxed, as are the ways that few connections go: what stays of a connection is small.
    let opening = Box::pin(open(worker.clone(), listener, socket, original));
    async move {
        let Some(opened) = opening.await else { return };
        let Opened { service, facts, io, _admitted } = opened;
        match &service.kind {
            ServiceKind::Http(http) => serve_http(&worker, http, &facts, io).await,
            ServiceKind::Tcp(proxy) => Box::pin(tcp::proxy::serve(&worker, proxy, &facts, *io)).await,
            ServiceKind::Close => {}
        }
    }
}

/// Inspects, chooses, admits, secures; `None` when the connection is over.
async fn open(
    worker: Rc<Worker>,
    listener: Rc<ListenerService>,
    mut socket: Socket,
    original: Option<SocketAddr>,
) -> Option<Opened> {
    let mut addresses = addresses(&socket, original);
    let Seen { hello, origin } = inspected(&listener, &mut socket).await?;
    addresses.replace(origin);
    let Some(service) = choose(&listener, &addresses, &hello) else {
        listener.stats.no_filter_chain_match.inc();
        return None;
    };
    let admitted = match service.guards.is_empty() {
        true => None,
        false => Some(guard::admit(&service.guards).await.ok()?),
    };
    let (io, tls) = secure(&listener, &service, socket).await?;
    let facts = Rc::new(ConnectionFacts {
        id: worker.next_connection_id(),
        peer: addresses.peer,
        direct_remote: addresses.remote,
        local: addresses.local,
        original: addresses.original,
        server_name: hello.server_name.into(),
        tls: tls.map(Box::new),
        filter_chain: service.chain.name.clone(),
    });
    Some(Opened { service, facts, io: Box::new(io), _admitted: admitted })
}

/// What the listener filters saw; `None` when the connection is over.
async fn inspected(listener: &ListenerService, socket: &mut Socket) -> Option<Seen> {
    if !inspect::needed(&listener.config) {
        return Some(Seen::default());
    }
    match inspect::run(socket, &listener.config).await {
        Ok(seen) => return Some(seen),
        Err(Stop::Timeout) => listener.stats.downstream_pre_cx_timeout.inc(),
        Err(Stop::Gone) => {}
        Err(Stop::Refused(reason)) => {
            listener.stats.downstream_listener_filter_error.inc();
            tracing::debug!(listener = %listener.config.name, reason, "connection refused");
        }
    }
    None
}

#[derive(Default)]
struct Addresses {
    /// The socket's other end.
    peer: Option<SocketAddr>,
    /// The client: the peer, or whom it speaks for.
    remote: Option<SocketAddr>,
    /// Where the client meant to go.
    local: Option<SocketAddr>,
    /// That again, where it is not this listener.
    original: Option<SocketAddr>,
}

impl Addresses {
    /// A PROXY protocol header says more.
    fn replace(&mut self, origin: Option<Origin>) {
        let Some(origin) = origin else { return };
        self.remote = Some(origin.source);
        if self.local != Some(origin.destination) {
            self.local = Some(origin.destination);
            self.original = Some(origin.destination);
        }
    }
}

fn addresses(socket: &Socket, original: Option<SocketAddr>) -> Addresses {
    let Some(stream) = socket.as_tcp() else { return Addresses::default() };
    let peer = stream.peer_addr().ok().map(listen::canonical);
    let local = original.or_else(|| stream.local_addr().ok().map(listen::canonical));
    Addresses { peer, remote: peer, local, original }
}

fn choose(listener: &ListenerService, addresses: &Addresses, hello: &Hello) -> Option<Rc<ChainService>> {
    // A Unix socket has no addresses to match.
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let known = |address: Option<SocketAddr>| address.unwrap_or(nowhere);
    let (remote, local) = (known(addresses.remote), known(addresses.local));
    let info = ConnectionInfo {
        destination_ip: local.ip(),
        destination_port: local.port(),
        direct_source_ip: known(addresses.peer).ip(),
        source_ip: remote.ip(),
        source_port: remote.port(),
        server_name: &hello.server_name,
        transport_protocol: if hello.tls { "tls" } else { "raw_buffer" },
        application_protocols: &hello.alpn,
    };
    let chain = chain::choose(&listener.config, &info)?;
    listener.chains.iter().find(|service| std::sync::Arc::ptr_eq(&service.chain, chain)).cloned()
}

/// The TLS handshake, where the chain asks for one.
async fn secure(listener: &ListenerService, service: &ChainService, socket: Socket) -> Option<(Io, Option<TlsFacts>)> {
    let transport = service.transport.borrow().clone();
    match transport {
        ServerTransport::Plain => Some((Io::Plain(socket), None)),
        ServerTransport::Broken(reason) => {
            tracing::warn!(listener = %listener.config.name, %reason, "connection refused: TLS is not ready");
            listener.stats.ssl_connection_error.inc();
            None
        }
        ServerTransport::Tls(server) => {
            let limit = match service.chain.transport_connect_timeout {
                Duration::ZERO => HANDSHAKE_TIMEOUT,
                configured => configured,
            };
            match tokio::time::timeout(limit, server.accept(socket)).await {
                Ok(Ok((stream, facts))) => {
                    listener.stats.ssl_handshake.inc();
                    Some((Io::Tls(Box::new(stream)), Some(facts)))
                }
                Ok(Err(error)) => {
                    listener.stats.ssl_connection_error.inc();
                    if error.to_string().contains("peer sent no certificates") {
                        listener.stats.ssl_fail_verify_no_cert.inc();
                    }
                    tracing::debug!(listener = %listener.config.name, %error, "TLS handshake failed");
                    None
                }
                Err(_) => {
                    listener.stats.downstream_pre_cx_timeout.inc();
                    None
                }
            }
        }
    }
}

async fn serve_http(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &Rc<ConnectionFacts>, io: Box<Io>) {
    let stats = &service.stats;
    stats.downstream_cx_total.inc();
    stats.downstream_cx_active.inc();
    if facts.tls.is_some() {
        stats.downstream_cx_ssl_total.inc();
    }
    let mut resting = Resting::new(service, *io, worker.random_unit());
    match Box::pin(speaks_http2(service, &mut resting)).await {
        Some(true) => Box::pin(http2::serve(worker, service, facts, resting)).await,
        Some(false) => http1::serve(worker, service, facts, &mut resting).await,
        None => {}
    }
    stats.downstream_cx_active.dec();
    stats.downstream_cx_destroy.inc();
}

/// Which protocol the client speaks: what is configured, or agreed by ALPN, or as its first bytes show.
async fn speaks_http2(service: &HttpService, resting: &mut Resting) -> Option<bool> {
    match service.manager.codec {
        Codec::Http1 => Some(false),
        Codec::Http2 => Some(true),
        Codec::Auto => match resting.io.with(|io| io.alpn().map(|protocol| protocol == b"h2")) {
            Some(http2) => Some(http2),
            None => resting.has_preface(service).await,
        },
    }
}
