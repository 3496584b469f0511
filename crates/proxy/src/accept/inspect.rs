//! Reads the first bytes of a connection when something depends on them (listener filters): the PROXY protocol's
//! header, TLS or not, server name, ALPN, which HTTP.

use crate::socket::Socket;
use crate::tls::hello::{Hello, HelloReader};
use engine::inspect::{self, Http};
use engine::proxy_protocol::{self, Found, Origin};
use model::listener::{Listener, ProxyProtocol, ProxyVersion};
use std::io;
use tokio::io::AsyncReadExt;

/// What the first bytes said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub hello: Hello,
    /// From a PROXY protocol header.
    pub origin: Option<Origin>,
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
