//! What is known of one exchange, for formats, logs and explanations.

use model::Refusal;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Facts about a downstream connection that do not change.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFacts {
    pub id: u64,
    /// The socket's peer.
    pub peer: Option<SocketAddr>,
    /// The same, or what a PROXY protocol header said.
    pub direct_remote: Option<SocketAddr>,
    /// The original destination when intercepted, else the local address.
    pub local: Option<SocketAddr>,
    /// Where the client was going before it was redirected here, if it was.
    pub original: Option<SocketAddr>,
    pub server_name: Box<str>,
    pub tls: Option<Box<TlsFacts>>,
    pub filter_chain: Box<str>,
}

#[derive(Clone, Debug, Default)]
pub struct TlsFacts {
    pub version: &'static str,
    pub cipher: &'static str,
    /// URI SANs of the verified client certificate.
    pub peer_uris: Vec<Box<str>>,
    pub peer_subject: Box<str>,
    /// Hex SHA-256 of the client certificate; empty without one.
    pub peer_hash: Box<str>,
    /// The client certificate was checked against trusted authorities.
    pub peer_validated: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    #[default]
    Http11,
    Http2,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// Grows as the exchange proceeds; durations are measured from its start.
#[derive(Clone, Debug, Default)]
pub struct StreamInfo {
    pub protocol: Protocol,
    /// After trusting `x-forwarded-for`, else the socket's peer.
    pub remote: Option<SocketAddr>,
    /// Microseconds since the Unix epoch.
    pub start_unix_micros: u64,
    pub duration: Option<Duration>,
    pub request_duration: Option<Duration>,
    pub response_duration: Option<Duration>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub status: u16,
    /// Set when the proxy answered or cut the exchange short.
    pub refusal: Option<Refusal>,
    /// `%RESPONSE_CODE_DETAILS%` when there is no refusal.
    pub details: &'static str,
    pub route_name: Box<str>,
    /// `%VIRTUAL_CLUSTER_NAME%`.
    pub virtual_cluster: Option<Arc<str>>,
    /// Handles of one worker: taking one touches no counter that others share.
    pub cluster: Option<Rc<str>>,
    pub upstream_host: Option<Rc<str>>,
    pub upstream_local: Option<SocketAddr>,
    pub attempts: u32,
    /// A fault was injected that held the request back.
    pub delayed: bool,
    /// The health check filter knows it as a check.
    pub health_check: bool,
    pub transport_failure: Option<Box<str>>,
    /// Bytes without an HTTP protocol: a TCP connection.
    pub raw: bool,
    /// The last allowed attempt to connect failed.
    pub attempts_exhausted: bool,
}

impl StreamInfo {
    /// `%RESPONSE_FLAGS%`: all that apply, by commas, or `-`.
    pub fn flags(&self) -> Cow<'static, str> {
        let own = self.refusal.map(|refusal| refusal.explain().flag).filter(|flag| *flag != "-");
        match (self.delayed, own) {
            (false, Some(own)) if self.attempts_exhausted => format!("{own},URX").into(),
            (false, own) => own.unwrap_or("-").into(),
            (true, None) => "DI".into(),
            (true, Some(own)) => format!("DI,{own}").into(),
        }
    }
}
