//! Reads the first bytes of a connection when something depends on them (listener filters): the PROXY protocol's
//! header, TLS or not, server name, ALPN, which HTTP.

use crate::io::Socket;
use engine::inspect::{self, Http};
use engine::proxy_protocol::{self, Found, Origin};
use model::listener::{Listener, ProxyProtocol, ProxyVersion};
use rustls::server::Acceptor;
use std::io;
use tokio::io::AsyncReadExt;

/// A ClientHello with post-quantum keys fits; more is not a handshake.
const LIMIT: usize = 64 * 1024;

/// What the first bytes said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub hello: Hello,
    /// From a PROXY protocol header.
    pub origin: Option<Origin>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub tls: bool,
    /// Lower case; empty if none.
    pub server_name: String,
    pub alpn: Vec<Vec<u8>>,
}

/// Why a connection ends before a filter chain is chosen.
#[derive(Debug)]
pub enum Stop {
    Timeout,
    /// The client went away.
    Gone,
    Refused(String),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Gone
    }
}

/// Whether anything is to be read.
pub fn needed(listener: &Listener) -> bool {
    listener.inspect_tls || listener.inspect_http || listener.proxy_protocol.is_some()
}

/// Reads what the listener's filters ask for. All but a PROXY protocol header stays readable. When the time is up and
/// the listener says so, what is known by then counts.
pub async fn run(socket: &mut Socket, listener: &Listener) -> Result<Seen, Stop> {
    let mut seen = Seen::default();
    let mut bytes = Vec::new();
    let limit = listener.listener_filters_timeout;
    let work = filters(socket, listener, &mut bytes, &mut seen);
    let result = match limit.is_zero() {
        true => work.await,
        false => tokio::time::timeout(limit, work).await.unwrap_or(Err(Stop::Timeout)),
    };
    socket.unread(bytes);
    match result {
        Err(Stop::Timeout) if listener.continue_on_filters_timeout => Ok(seen),
        Err(stop) => Err(stop),
        Ok(()) => Ok(seen),
    }
}

async fn filters(socket: &mut Socket, listener: &Listener, bytes: &mut Vec<u8>, seen: &mut Seen) -> Result<(), Stop> {
    if let Some(config) = &listener.proxy_protocol {
        seen.origin = proxy_header(socket, config, bytes).await?;
    }
    if listener.inspect_tls {
        seen.hello = tls_hello(socket, bytes).await?;
    }
    if listener.inspect_http && !seen.hello.tls {
        let mut http = inspect::http(bytes);
        while http == Http::Partial {
            more(socket, bytes).await?;
            http = inspect::http(bytes);
        }
        seen.hello.alpn.extend(http.protocol().map(|name| name.as_bytes().to_vec()));
    }
    Ok(())
}

async fn more(socket: &mut Socket, bytes: &mut Vec<u8>) -> Result<(), Stop> {
    match socket.read_buf(bytes).await? {
        0 => Err(Stop::Gone),
        _ => Ok(()),
    }
}

/// Takes the header from the front of `bytes`.
async fn proxy_header(
    socket: &mut Socket,
    config: &ProxyProtocol,
    bytes: &mut Vec<u8>,
) -> Result<Option<Origin>, Stop> {
    loop {
        match proxy_protocol::parse(bytes).map_err(|error| Stop::Refused(error.to_string()))? {
            Found::Partial => more(socket, bytes).await?,
            Found::Header(header) if config.takes(header.version) => {
                bytes.drain(..header.length);
                return Ok(header.origin);
            }
            _ if config.optional => return Ok(None),
            Found::Header(header) => return Err(Stop::Refused(not_taken(header.version))),
            Found::Other => return Err(Stop::Refused("there is no PROXY protocol header".into())),
        }
    }
}

fn not_taken(version: ProxyVersion) -> String {
    format!("PROXY protocol {version:?} is not allowed here")
}

async fn tls_hello(socket: &mut Socket, bytes: &mut Vec<u8>) -> Result<Hello, Stop> {
    let mut reader = HelloReader::default();
    loop {
        if let Some(hello) = reader.read(bytes) {
            return Ok(hello);
        }
        more(socket, bytes).await?;
    }
}

/// Reads a ClientHello as its bytes come in.
#[derive(Default)]
pub struct HelloReader {
    acceptor: Acceptor,
    fed: usize,
}

impl HelloReader {
    /// `bytes` are all so far, beginning with the connection's first. `None`: more are needed. Damaged TLS counts as
    /// TLS: the handshake will say so to the client.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Hello> {
        if bytes.is_empty() {
            return None;
        }
        if !may_be_tls(bytes) || bytes.len() > LIMIT {
            return Some(Hello::default());
        }
        let mut fresh = &bytes[self.fed..];
        self.fed = bytes.len();
        while !fresh.is_empty() {
            if self.acceptor.read_tls(&mut fresh).is_err() {
                return Some(Hello { tls: true, ..Hello::default() });
            }
        }
        match self.acceptor.accept() {
            Ok(None) => None,
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                Some(Hello {
                    tls: true,
                    server_name: hello.server_name().unwrap_or_default().to_ascii_lowercase(),
                    alpn: hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
                })
            }
            Err(_) => Some(Hello { tls: true, ..Hello::default() }),
        }
    }
}

/// Begins as a TLS record of type handshake (22), version 3.x.
fn may_be_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22) && bytes.get(1).is_none_or(|&major| major == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello for `orders.test` that offers h2.
    fn client_hello() -> Vec<u8> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let roots = rustls::RootCertStore::empty();
        let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = rustls_pki_types::ServerName::try_from("Orders.test").unwrap();
        let mut connection = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_client_hello_in_pieces() {
        let bytes = client_hello();
        let wanted = Hello { tls: true, server_name: "orders.test".into(), alpn: vec![b"h2".to_vec()] };
        let mut reader = HelloReader::default();
        for end in 0..bytes.len() {
            assert_eq!(reader.read(&bytes[..end]), None, "{end}");
        }
        assert_eq!(reader.read(&bytes), Some(wanted));
    }

    #[test]
    fn what_is_no_client_hello() {
        let read = |bytes: &[u8]| HelloReader::default().read(bytes);
        assert_eq!(read(b"GET / HTTP/1.1"), Some(Hello::default()));
        assert_eq!(read(b"\x16\x02"), Some(Hello::default()));
        assert_eq!(read(b"\x16"), None);
        assert_eq!(read(b"\x16\x03\x01\0\x05hello"), Some(Hello { tls: true, ..Hello::default() }));
    }
}
