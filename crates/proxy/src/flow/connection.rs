//! From an accepted socket to the protocol it speaks: inspect, choose a filter chain, secure, dispatch.

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
use engine::inspect::PREFACE;
use engine::proxy_protocol::Origin;
use model::http::Codec;
use model::listener::ConnectionInfo;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Handshakes that take longer are given up, unless the filter chain says otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the connection was going before it was redirected to `listener`, if that cares.
pub fn original(listener: &ListenerService, socket: &Socket) -> Option<SocketAddr> {
    let config = &listener.config;
    let stream = socket.as_tcp().filter(|_| config.original_dst)?;
    listen::original_destination(stream, config.socket.transparent)
}

/// Serves one connection to its end. `original`: where it was going before it was redirected.
pub async fn serve(
    worker: Rc<Worker>,
    listener: Rc<ListenerService>,
    mut socket: Socket,
    original: Option<SocketAddr>,
) {
    let stats = &listener.stats;
    let mut addresses = addresses(&socket, original);
    let hello = match Box::pin(inspected(&listener, &mut socket)).await {
        None => return,
        Some(Seen { hello, origin }) => {
            addresses.replace(origin);
            hello
        }
    };
    let Some(service) = choose(&listener, &addresses, &hello) else {
        stats.no_filter_chain_match.inc();
        return;
    };
    let guards = &service.guards;
    let _admitted = match guards.is_empty() {
        true => None,
        false => match Box::pin(guard::admit(guards)).await {
            Ok(admitted) => Some(admitted),
            Err(()) => return,
        },
    };
    // Boxed, as are the ways that few connections go: what stays is small.
    let Some((io, tls)) = Box::pin(secure(&listener, &service, socket)).await else { return };
    let facts = Rc::new(ConnectionFacts {
        id: worker.next_connection_id(),
        peer: addresses.peer,
        direct_remote: addresses.remote,
        local: addresses.local,
        original: addresses.original,
        server_name: hello.server_name.into(),
        tls,
        filter_chain: service.chain.name.clone(),
    });
    match &service.kind {
        ServiceKind::Http(http) => serve_http(&worker, http, &facts, io).await,
        ServiceKind::Tcp(proxy) => Box::pin(tcp::proxy::serve(&worker, proxy, &facts, io)).await,
        ServiceKind::Close => {}
    }
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

async fn serve_http(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &Rc<ConnectionFacts>, mut io: Io) {
    let stats = &service.stats;
    stats.downstream_cx_total.inc();
    stats.downstream_cx_active.inc();
    if facts.tls.is_some() {
        stats.downstream_cx_ssl_total.inc();
    }
    let http2 = match service.manager.codec {
        Codec::Http1 => false,
        Codec::Http2 => true,
        Codec::Auto => match io.alpn() {
            Some(b"h2") => true,
            Some(b"http/1.1") => false,
            _ => Box::pin(has_preface(&mut io)).await,
        },
    };
    if http2 {
        Box::pin(http2::serve(worker, service, facts, io)).await;
    } else {
        http1::serve(worker, service, facts, io).await;
    }
    stats.downstream_cx_active.dec();
    stats.downstream_cx_destroy.inc();
}

/// Reads as much as is needed to know HTTP/2's preface from an HTTP/1 request, and puts it back.
async fn has_preface(io: &mut Io) -> bool {
    let Io::Plain(socket) = io else { return false };
    let mut bytes = Vec::with_capacity(1024);
    let is_preface = loop {
        let known = bytes.len().min(PREFACE.len());
        if bytes[..known] != PREFACE[..known] {
            break false;
        }
        if known == PREFACE.len() {
            break true;
        }
        match socket.read_buf(&mut bytes).await {
            Ok(count) if count > 0 => {}
            _ => break false,
        }
    };
    socket.unread(bytes);
    is_preface
}
