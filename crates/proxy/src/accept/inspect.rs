//! Reads the first bytes of a connection when a filter chain depends on them: TLS or not, server name, ALPN.

use crate::io::Socket;
use rustls::server::Acceptor;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// A ClientHello with post-quantum keys fits; more is not a handshake.
const LIMIT: usize = 64 * 1024;

/// What the first bytes said. They stay readable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hello {
    pub tls: bool,
    /// Lower case; empty if none.
    pub server_name: String,
    pub alpn: Vec<Vec<u8>>,
}

/// Reads until it is clear whether this is TLS and, if so, what the ClientHello says. On time-out or end of
/// input, what is known by then counts.
pub async fn inspect(socket: &mut Socket, limit: Duration) -> io::Result<Hello> {
    let mut bytes = Vec::new();
    let found = if limit.is_zero() {
        read_hello(socket, &mut bytes).await
    } else {
        tokio::time::timeout(limit, read_hello(socket, &mut bytes)).await.unwrap_or(Ok(Hello::default()))
    };
    socket.unread(bytes);
    found
}

async fn read_hello(socket: &mut Socket, bytes: &mut Vec<u8>) -> io::Result<Hello> {
    let mut acceptor = Acceptor::default();
    loop {
        let before = bytes.len();
        if socket.read_buf(bytes).await? == 0 || bytes.len() > LIMIT {
            return Ok(Hello::default());
        }
        // A TLS record of type handshake (22), version 3.x.
        let handshake = bytes[0] == 22 && bytes.get(1).is_none_or(|&major| major == 3);
        if !handshake {
            return Ok(Hello::default());
        }
        let mut fresh = &bytes[before..];
        while !fresh.is_empty() {
            acceptor.read_tls(&mut fresh)?;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Ok(Hello {
                    tls: true,
                    server_name: hello.server_name().unwrap_or_default().to_ascii_lowercase(),
                    alpn: hello.alpn().map(|names| names.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
                });
            }
            // Damaged: the TLS handshake will say so to the client.
            Err(_) => return Ok(Hello { tls: true, ..Hello::default() }),
        }
    }
}
