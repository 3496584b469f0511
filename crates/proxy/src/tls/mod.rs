//! TLS on both sides: contexts from the model become `rustls` configurations, handshakes become streams.

pub mod check;
pub mod files;
pub mod prepare;

use crate::io::Socket;
use engine::info::TlsFacts;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

/// How connections of a filter chain arrive.
#[derive(Clone)]
pub enum ServerTransport {
    Plain,
    Tls(Arc<ServerTls>),
    /// The secret is missing or damaged: connections are refused, with this reason in the log.
    Broken(Arc<str>),
}

/// How connections to an endpoint are made.
#[derive(Clone)]
pub enum ClientTransport {
    Plain,
    Tls(Arc<ClientTls>),
    Broken(Arc<str>),
}

/// A server's two configurations.
pub struct ServerTls {
    configured: Arc<rustls::ServerConfig>,
    /// For clients that offer none of the configured protocols.
    without_alpn: Arc<rustls::ServerConfig>,
    /// Client certificates are checked against authorities.
    validates: bool,
}

impl ServerTls {
    pub(crate) fn new(configured: Arc<rustls::ServerConfig>, validates: bool) -> Self {
        let mut without_alpn = (*configured).clone();
        without_alpn.alpn_protocols.clear();
        ServerTls { configured, without_alpn: Arc::new(without_alpn), validates }
    }

    /// The server's side of a handshake. A client without a protocol in common is served without ALPN, as by Envoy,
    /// instead of being refused (RFC 7301 section 3.2 would allow either): meshes offer protocols of their own.
    pub async fn accept(&self, socket: Socket) -> io::Result<server::TlsStream<Socket>> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket.read_ahead()).await?;
        let ours = &self.configured.alpn_protocols;
        let mismatch = start.client_hello().alpn().is_some_and(|mut offered| {
            !ours.is_empty() && !offered.any(|protocol| ours.iter().any(|own| own.as_slice() == protocol))
        });
        let config = if mismatch { &self.without_alpn } else { &self.configured };
        start.into_stream(config.clone()).await
    }
}

/// One configuration per ALPN offer, so that nothing is built per connection.
pub struct ClientTls {
    pub(crate) as_configured: Arc<rustls::ClientConfig>,
    pub(crate) http1: Arc<rustls::ClientConfig>,
    pub(crate) http2: Arc<rustls::ClientConfig>,
    pub(crate) either: Arc<rustls::ClientConfig>,
    pub(crate) sni: Box<str>,
    pub(crate) auto_host_sni: bool,
}

impl ClientTls {
    /// Handshakes over `socket`. `offer` is used where the context names no protocols of its own.
    pub async fn connect(
        &self,
        socket: Socket,
        offer: &[&[u8]],
        authority: &str,
    ) -> io::Result<client::TlsStream<Socket>> {
        let config = match offer {
            [] => &self.as_configured,
            [_, _, ..] => &self.either,
            [b"h2"] => &self.http2,
            [_] => &self.http1,
        };
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let wanted = if self.auto_host_sni && !host.is_empty() { host } else { &self.sni };
        // rustls always needs a name; without one to send, an address keeps SNI out of the ClientHello.
        let name = ServerName::try_from(wanted.to_string())
            .unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()));
        TlsConnector::from(config.clone()).connect(name, socket.read_ahead()).await
    }
}

impl ClientTls {
    /// Handshakes for a health check, which may offer protocols of its own.
    pub async fn connect_for_check(&self, socket: Socket, alpn: &[Box<str>]) -> io::Result<client::TlsStream<Socket>> {
        if alpn.is_empty() {
            return self.connect(socket, &[], "").await;
        }
        let mut config = (*self.as_configured).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(self.sni.to_string())
            .unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()));
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }
}

/// What the handshake with `tls` established, for logs and policy.
pub fn facts(tls: &ServerTls, stream: &server::TlsStream<Socket>) -> TlsFacts {
    let connection = stream.get_ref().1;
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    let mut facts = TlsFacts { version, cipher: cipher.trim_start_matches("TLS13_").into(), ..TlsFacts::default() };
    if let Some(certificate) = connection.peer_certificates().and_then(|chain| chain.first()) {
        if let Ok(names) = identity::peer_names(certificate) {
            facts.peer_uris = names.uris.iter().map(|uri| uri.as_str().into()).collect();
            facts.peer_subject = names.subject.as_str().into();
        }
        facts.peer_hash = identity::fingerprint(certificate).into();
        facts.peer_validated = tls.validates;
    }
    facts
}
