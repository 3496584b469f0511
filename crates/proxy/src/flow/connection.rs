//! From an accepted socket to the protocol it speaks: inspect, choose a filter chain, secure, dispatch.

use super::{http1, http2};
use crate::accept::inspect::{self, Hello};
use crate::accept::listen;
use crate::io::{Io, Socket};
use crate::state::{ChainService, HttpService, ListenerService, ServiceKind, Worker};
use crate::tcp;
use crate::tls::{self, ServerTransport};
use engine::chain;
use engine::info::{ConnectionFacts, TlsFacts};
use model::http::Codec;
use model::listener::ConnectionInfo;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Handshakes that take longer are given up, unless the filter chain says otherwise.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// The client preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection to its end.
pub async fn serve(worker: Rc<Worker>, listener: Rc<ListenerService>, mut socket: Socket) {
    let stats = &listener.stats;
    let (remote, local) = addresses(&listener, &socket);
    let hello = if listener.config.inspect_tls {
        match inspect::inspect(&mut socket, listener.config.listener_filters_timeout).await {
            Ok(hello) => hello,
            Err(_) => {
                stats.downstream_listener_filter_error.inc();
                return;
            }
        }
    } else {
        Hello::default()
    };
    let Some(service) = choose(&listener, remote, local, &hello) else {
        stats.no_filter_chain_match.inc();
        return;
    };
    let Some((io, tls)) = secure(&listener, &service, socket).await else { return };
    let facts = Rc::new(ConnectionFacts {
        id: worker.next_connection_id(),
        direct_remote: remote,
        local,
        server_name: hello.server_name.into(),
        tls,
        filter_chain: service.chain.name.clone(),
    });
    match &service.kind {
        ServiceKind::Http(http) => serve_http(&worker, http, &facts, io).await,
        ServiceKind::Tcp(proxy) => tcp::proxy::serve(&worker, proxy, &facts, io).await,
        ServiceKind::Close => {}
    }
}

/// The peer, and where it meant to go.
fn addresses(listener: &ListenerService, socket: &Socket) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let Some(stream) = socket.as_tcp() else { return (None, None) };
    let remote = stream.peer_addr().ok().map(listen::canonical);
    let original = listener.config.original_dst.then(|| listen::original_destination(stream)).flatten();
    (remote, original.or_else(|| stream.local_addr().ok().map(listen::canonical)))
}

fn choose(
    listener: &ListenerService,
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
    hello: &Hello,
) -> Option<Rc<ChainService>> {
    // A Unix socket has no addresses to match.
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let (remote, local) = (remote.unwrap_or(nowhere), local.unwrap_or(nowhere));
    let info = ConnectionInfo {
        destination_ip: local.ip(),
        destination_port: local.port(),
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
                Ok(Ok(stream)) => {
                    listener.stats.ssl_handshake.inc();
                    let facts = tls::facts(&server, &stream);
                    Some((Io::Server(Box::new(stream)), Some(facts)))
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
            _ => has_preface(&mut io).await,
        },
    };
    if http2 {
        http2::serve(worker, service, facts, io).await;
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
