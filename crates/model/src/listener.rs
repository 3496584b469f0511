//! Listeners and filter chains (`listener.v3.Listener`).

use crate::access_log::AccessLog;
use crate::address::Address;
use crate::cluster::TcpKeepalive;
use crate::demand::OnDemandClusters;
use crate::format::Format;
use crate::header::AddHeader;
use crate::http::HttpManager;
use crate::tls::ServerTls;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: Address,
    pub additional_addresses: Vec<Address>,
    pub stat_prefix: Option<Box<str>>,
    pub chains: Vec<Arc<FilterChain>>,
    pub default_chain: Option<Arc<FilterChain>>,
    /// Some chain is chosen by server name, ALPN or transport protocol, or `tls_inspector` is configured: the
    /// first bytes must be read before a chain is chosen.
    pub inspect_tls: bool,
    /// Some chain is chosen by an HTTP application protocol of a plaintext connection (`http_inspector`).
    pub inspect_http: bool,
    /// `original_dst` listener filter or `use_original_dst`.
    pub original_dst: bool,
    /// `use_original_dst`: the listener of the original destination takes the connection over, if there is one.
    pub hand_over: bool,
    pub socket: SocketOptions,
    pub listener_filters_timeout: Duration,
    /// When time is up the connection goes on with what is known, instead of ending.
    pub continue_on_filters_timeout: bool,
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Of accepted connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Bytes buffered per connection before reading stops.
    pub buffer_limit: usize,
    /// The process's limit of connections does not hold here.
    pub ignore_global_limit: bool,
    /// Nothing is shed here.
    pub bypass_overload: bool,
    pub access_logs: Vec<Arc<AccessLog>>,
    /// Identifies the configuration: an unchanged hash leaves the listener alone.
    pub hash: u64,
}

/// How a listener listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `bind_to_port`; without, it only takes over what other listeners accept.
    pub bind: bool,
    pub reuse_port: bool,
    pub backlog: u32,
    /// Connections keep the address they were going to (`IP_TRANSPARENT`).
    pub transparent: bool,
    /// The address need not be there yet (`IP_FREEBIND`).
    pub freebind: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        SocketOptions { bind: true, reuse_port: true, backlog: 128, transparent: false, freebind: false }
    }
}

/// The `proxy_protocol` listener filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Connections without a header are served too.
    pub optional: bool,
    pub v1: bool,
    pub v2: bool,
}

impl ProxyProtocol {
    pub fn takes(&self, version: ProxyVersion) -> bool {
        match version {
            ProxyVersion::V1 => self.v1,
            ProxyVersion::V2 => self.v2,
        }
    }
}

/// Of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

#[derive(Debug)]
pub struct FilterChain {
    pub name: Box<str>,
    pub matches: ChainMatch,
    pub tls: Option<Arc<ServerTls>>,
    pub transport_connect_timeout: Duration,
    /// Filters that decide whether a connection may stay, in order.
    pub guards: Vec<Guard>,
    pub filter: NetworkFilter,
    pub hash: u64,
}

/// `FilterChainMatch`; empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainMatch {
    pub destination_port: Option<u16>,
    pub prefix_ranges: Vec<IpNet>,
    /// Lower case; a leading `*.` is a wildcard.
    pub server_names: Vec<Box<str>>,
    pub transport_protocol: Box<str>,
    pub application_protocols: Vec<Box<str>>,
    pub direct_source_prefix_ranges: Vec<IpNet>,
    pub source_type: SourceType,
    pub source_prefix_ranges: Vec<IpNet>,
    pub source_ports: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    #[default]
    Any,
    /// Loopback, or source and destination are the same address.
    SameIpOrLoopback,
    External,
}

/// A network filter before the terminal one.
#[derive(Clone, Debug, PartialEq)]
pub enum Guard {
    /// `connection_limit.v3.ConnectionLimit`
    ConnectionLimit {
        stat_prefix: Box<str>,
        most: u64,
        /// A connection too many is closed after this.
        delay: Duration,
    },
    /// `local_ratelimit.v3.LocalRateLimit`: one token a connection.
    RateLimit { stat_prefix: Box<str>, bucket: BucketConfig },
}

/// `type.v3.TokenBucket`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    pub most: u32,
    pub per_fill: u32,
    /// Greater than zero.
    pub fill_interval: Duration,
}

/// The terminal network filter of a chain.
#[derive(Debug)]
pub enum NetworkFilter {
    Http(Arc<HttpManager>),
    Tcp(Arc<TcpProxy>),
    /// No filter: Envoy closes the connection.
    Close,
}

/// `tcp_proxy.v3.TcpProxy`.
#[derive(Debug)]
pub struct TcpProxy {
    pub stat_prefix: Box<str>,
    pub target: TcpTarget,
    pub tunneling: Option<Tunneling>,
    /// Zero disables.
    pub idle_timeout: Duration,
    /// Of the downstream connection; zero is any.
    pub max_duration: Duration,
    /// Percent by which `max_duration` is at random longer, at most.
    pub duration_jitter: f64,
    pub max_connect_attempts: u32,
    /// `hash_policy`: for hashing balancers, the client's address is the key.
    pub hash_source_ip: bool,
    /// First and longest wait between attempts to connect; `None`: at once.
    pub connect_back_off: Option<(Duration, Duration)>,
    /// A missing cluster is asked for.
    pub on_demand: Option<OnDemandClusters>,
    pub access_logs: Vec<Arc<AccessLog>>,
}

#[derive(Debug)]
pub enum TcpTarget {
    Cluster(TcpCluster),
    Weighted { clusters: Vec<(TcpCluster, u32)>, total: u64 },
}

#[derive(Debug)]
pub struct TcpCluster {
    pub name: Arc<str>,
    /// `metadata_match`: the subset of hosts that may be used; empty is any.
    pub subset: Arc<[(Box<str>, Box<str>)]>,
}

/// `TcpProxy.TunnelingConfig`: the bytes go by way of an HTTP proxy.
#[derive(Debug)]
pub struct Tunneling {
    /// Host and port where the proxy is to connect to.
    pub hostname: Format,
    /// The bytes are the body of a POST to this path, instead of what follows a CONNECT.
    pub post_path: Option<Box<str>>,
    pub headers: Vec<AddHeader>,
}

/// What is known of a connection when its filter chain is chosen.
#[derive(Clone, Debug)]
pub struct ConnectionInfo<'a> {
    /// The original destination: after interception, the address the client dialled.
    pub destination_ip: IpAddr,
    pub destination_port: u16,
    /// The socket's peer.
    pub direct_source_ip: IpAddr,
    /// The same, or what a PROXY protocol header said.
    pub source_ip: IpAddr,
    pub source_port: u16,
    /// From the ClientHello, lower case; empty if none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: &'a str,
    /// From the ClientHello's ALPN extension, or the HTTP inspector.
    pub application_protocols: &'a [Vec<u8>],
}
