//! TLS on both sides: contexts from the model become `rustls` configurations, handshakes become streams.

pub mod check;
pub mod files;
mod handshake;
pub mod hello;
mod keys;
pub mod prepare;
mod session;
mod stream;

pub use stream::TlsStream;

use crate::socket::Socket;
use engine::info::TlsFacts;
use handshake::{Handshake, invalid};
use hello::HelloReader;
use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;

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
    pub(crate) fn new(mut configured: rustls::ServerConfig, validates: bool) -> Self {
        configured.enable_secret_extraction = true;
        let mut without_alpn = configured.clone();
        without_alpn.alpn_protocols.clear();
        ServerTls { configured: Arc::new(configured), without_alpn: Arc::new(without_alpn), validates }
    }

    /// The server's side of a handshake, with what it established, for logs and policy.
    pub async fn accept(&self, mut socket: Socket) -> io::Result<(TlsStream, TlsFacts)> {
        let mut incoming = Vec::new();
        let config = self.choose(&mut socket, &mut incoming).await?;
        let side = UnbufferedServerConnection::new(config.clone()).map_err(invalid)?;
        let mut handshake = Handshake::new(socket, side, incoming);
        handshake.run().await?;
        let facts = facts(handshake.agreed(), self.validates);
        Ok((handshake.into_stream()?, facts))
    }

    /// A client without a protocol in common is served without ALPN, as by Envoy, instead of being refused (RFC 7301
    /// section 3.2 would allow either): meshes offer protocols of their own.
    async fn choose(&self, socket: &mut Socket, incoming: &mut Vec<u8>) -> io::Result<&Arc<rustls::ServerConfig>> {
        let ours = &self.configured.alpn_protocols;
        if ours.is_empty() {
            return Ok(&self.configured);
        }
        let mut reader = HelloReader::default();
        let offered = loop {
            match reader.read(incoming) {
                Some(hello) => break hello.alpn,
                None => handshake::more(socket, incoming).await?,
            }
        };
        let common = offered.is_empty() || offered.iter().any(|protocol| ours.contains(protocol));
        Ok(if common { &self.configured } else { &self.without_alpn })
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
    pub async fn connect(&self, socket: Socket, offer: &[&[u8]], authority: &str) -> io::Result<TlsStream> {
        let config = match offer {
            [] => &self.as_configured,
            [_, _, ..] => &self.either,
            [b"h2"] => &self.http2,
            [_] => &self.http1,
        };
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let wanted = if self.auto_host_sni && !host.is_empty() { host } else { &self.sni };
        connect(config.clone(), socket, wanted).await
    }

    /// Handshakes for a health check, which may offer protocols of its own.
    pub async fn connect_for_check(&self, socket: Socket, alpn: &[Box<str>]) -> io::Result<TlsStream> {
        if alpn.is_empty() {
            return self.connect(socket, &[], "").await;
        }
        let mut config = (*self.as_configured).clone();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        connect(Arc::new(config), socket, &self.sni).await
    }
}

async fn connect(config: Arc<rustls::ClientConfig>, socket: Socket, wanted: &str) -> io::Result<TlsStream> {
    // rustls always needs a name; without one to send, an address keeps SNI out of the ClientHello.
    let name = ServerName::try_from(wanted.to_string())
        .unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()));
    let side = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
    let mut handshake = Handshake::new(socket, side, Vec::new());
    handshake.run().await?;
    handshake.into_stream()
}

/// What a server's handshake established.
fn facts(agreed: &CommonState, validates: bool) -> TlsFacts {
    let version = match agreed.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let cipher = agreed.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    let mut facts = TlsFacts { version, cipher: cipher.trim_start_matches("TLS13_"), ..TlsFacts::default() };
    if let Some(certificate) = agreed.peer_certificates().and_then(|chain| chain.first()) {
        if let Ok(names) = identity::peer_names(certificate) {
            facts.peer_uris = names.uris.iter().map(|uri| uri.as_str().into()).collect();
            facts.peer_subject = names.subject.as_str().into();
        }
        facts.peer_hash = identity::fingerprint(certificate).into();
        facts.peer_validated = validates;
    }
    facts
}
