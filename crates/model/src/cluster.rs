//! Clusters (`cluster.v3.Cluster`).

use crate::balance::{Localities, Policy, Subsets};
use crate::endpoint::Assignment;
use crate::health::HealthCheck;
use crate::http::Http2Options;
use crate::listener::ProxyVersion;
use crate::tls::ClientTls;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Cluster {
    pub name: Arc<str>,
    /// Name used in stats (`alt_stat_name`, else the name).
    pub stat_name: Arc<str>,
    pub discovery: Discovery,
    pub policy: Policy,
    pub localities: Localities,
    /// `lb_subset_config`.
    pub subsets: Option<Box<Subsets>>,
    pub connect_timeout: Duration,
    pub protocol: UpstreamProtocol,
    pub http2: Http2Options,
    /// The transport when no match applies; `None` is plaintext.
    pub tls: Option<Arc<ClientTls>>,
    /// `transport_socket_matches`: the first whose criteria an endpoint's metadata satisfies.
    pub tls_matches: Vec<TlsMatch>,
    /// By `route::Priority`.
    pub limits: [Limits; 2],
    /// Connections to one endpoint (`per_host_thresholds`).
    pub max_connections_per_host: Option<u32>,
    /// Longest duration of a request to this cluster; zero is any.
    pub max_stream_duration: Duration,
    pub outlier: Option<Box<OutlierDetection>>,
    pub health_check: Option<Arc<HealthCheck>>,
    /// Endpoints without a result of a check count neither as healthy nor as unhealthy.
    pub ignore_new_hosts_until_first_check: bool,
    /// TCP connections to an endpoint that fails its check are closed at once.
    pub close_connections_on_health_failure: bool,
    /// An endpoint that discovery drops goes at once, though its checks succeed.
    pub ignore_health_on_host_removal: bool,
    /// Upstream HTTP connection without requests; zero disables.
    pub idle_timeout: Duration,
    /// Zero: unlimited.
    pub max_requests_per_connection: u32,
    pub tcp_keepalive: Option<Box<TcpKeepalive>>,
    /// Where it differs from the usual.
    pub connections: Option<Box<Connections>>,
    /// Connections to an endpoint that leaves the cluster are closed at once.
    pub close_connections_on_host_removal: bool,
    /// Bytes.
    pub buffer_limit: usize,
    /// Percent; below this share of healthy endpoints all are used. Zero disables.
    pub panic_threshold: f64,
    pub hash: u64,
}

impl Cluster {
    /// With Envoy's defaults for everything else.
    pub fn named(name: &str, discovery: Discovery) -> Self {
        Cluster {
            name: name.into(),
            stat_name: name.into(),
            discovery,
            policy: Policy::RoundRobin { slow_start: None },
            localities: Localities::default(),
            subsets: None,
            connect_timeout: Duration::from_secs(5),
            protocol: UpstreamProtocol::Http1,
            http2: Http2Options::default(),
            tls: None,
            tls_matches: Vec::new(),
            limits: [Limits::default(); 2],
            max_connections_per_host: None,
            max_stream_duration: Duration::ZERO,
            outlier: None,
            health_check: None,
            ignore_new_hosts_until_first_check: false,
            close_connections_on_health_failure: false,
            ignore_health_on_host_removal: false,
            idle_timeout: Duration::from_secs(3600),
            max_requests_per_connection: 0,
            tcp_keepalive: None,
            connections: None,
            close_connections_on_host_removal: false,
            buffer_limit: 1 << 20,
            panic_threshold: 50.0,
            hash: 0,
        }
    }
}

impl Cluster {
    pub fn connections(&self) -> &Connections {
        static USUAL: Connections = Connections::USUAL;
        self.connections.as_deref().unwrap_or(&USUAL)
    }

    /// The PROXY protocol header of the transport with this index.
    pub fn proxy_protocol(&self, transport_index: usize) -> Option<ProxyVersion> {
        match transport_index {
            0 => self.connections().proxy_protocol,
            index => self.tls_matches.get(index - 1).and_then(|entry| entry.proxy_protocol),
        }
    }

    /// Some transport begins with a PROXY protocol header: connections belong to one client each.
    pub fn speaks_for_clients(&self) -> bool {
        (0..=self.tls_matches.len()).any(|index| self.proxy_protocol(index).is_some())
    }

    /// Of the transports (the cluster's own, then one per entry of `tls_matches`) the one for an endpoint with this
    /// metadata: the first match it satisfies.
    pub fn transport_index(&self, socket_match: &[(Box<str>, Box<str>)]) -> usize {
        let satisfied = |entry: &TlsMatch| entry.criteria.iter().all(|wanted| socket_match.contains(wanted));
        self.tls_matches.iter().position(satisfied).map_or(0, |index| index + 1)
    }
}

#[derive(Clone, Debug)]
pub enum Discovery {
    Static(Arc<Assignment>),
    /// Resolved by name; the assignment holds `EndpointTarget::Name`s.
    StrictDns {
        assignment: Arc<Assignment>,
        dns: Arc<DnsOptions>,
    },
    /// Resolved by name; all addresses found are one endpoint.
    LogicalDns {
        assignment: Arc<Assignment>,
        dns: Arc<DnsOptions>,
    },
    /// EDS; looked up by this name in `Snapshot::assignments`.
    Eds(Arc<str>),
    /// Where the connection was going before it was redirected here.
    OriginalDst(OriginalDst),
    /// Other clusters, in order of preference.
    Aggregate(Vec<Arc<str>>),
}

impl Discovery {
    /// What is to be resolved, and how.
    pub fn dns(&self) -> Option<(&Arc<Assignment>, &Arc<DnsOptions>)> {
        match self {
            Discovery::StrictDns { assignment, dns } | Discovery::LogicalDns { assignment, dns } => {
                Some((assignment, dns))
            }
            _ => None,
        }
    }
}

/// `OriginalDstLbConfig` and `cleanup_interval`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalDst {
    /// Lower case; a request field that names the destination instead.
    pub header: Option<Box<str>>,
    /// Instead of the destination's own port.
    pub port: Option<u16>,
    /// Destinations that nobody used for this long are forgotten.
    pub cleanup: Duration,
}

/// How connections to endpoints are made and kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// Source addresses (`upstream_bind_config`); the first of the endpoint's family is taken.
    pub bind: Vec<std::net::SocketAddr>,
    pub eyeballs: Eyeballs,
    /// The header that the cluster's own transport begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// A connection this old takes no more requests; zero: any age.
    pub max_duration: Duration,
    /// Percent by which it is at random longer, at most.
    pub duration_jitter: f64,
    /// Connections per request under way that are kept ready (`per_upstream_preconnect_ratio`); below 1: just those
    /// that are needed.
    pub preconnect: f64,
}

impl Connections {
    pub const USUAL: Connections = Connections {
        bind: Vec::new(),
        eyeballs: Eyeballs { v6_first: None, first_count: 0 },
        proxy_protocol: None,
        max_duration: Duration::ZERO,
        duration_jitter: 0.0,
        preconnect: 0.0,
    };
}

/// `HappyEyeballsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eyeballs {
    /// `None`: the family of the first address.
    pub v6_first: Option<bool>,
    /// Addresses of the first family that are tried before one of the other; zero is one.
    pub first_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DnsOptions {
    pub refresh: Duration,
    pub respect_ttl: bool,
    /// Shortest time between questions where TTLs count; zero: any.
    pub min_refresh: Duration,
    /// Each wait grows by a random time below this.
    pub jitter: Duration,
    pub family: DnsFamily,
    /// `host:port` of resolvers; empty means the system's.
    pub resolvers: Vec<std::net::SocketAddr>,
    /// Resolvers are asked over TCP only.
    pub tcp_only: bool,
    /// Names are not completed with the system's search domains.
    pub absolute_names: bool,
    pub failure_base: Duration,
    pub failure_max: Duration,
    /// The start waits for the first answer (`wait_for_warm_on_init`).
    pub wait_at_start: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// IPv6 first, IPv4 if there is none.
    #[default]
    Auto,
    V4Only,
    V6Only,
    V4Preferred,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    Http1,
    Http2,
    /// What the downstream request used (`use_downstream_protocol_config`).
    Downstream,
    /// By ALPN (`auto_config`).
    Alpn,
}

#[derive(Debug)]
pub struct TlsMatch {
    pub name: Box<str>,
    /// Key and JSON value; all must be present in the endpoint's metadata.
    pub criteria: Vec<(Box<str>, Box<str>)>,
    /// `None` is plaintext.
    pub tls: Option<Arc<ClientTls>>,
    pub proxy_protocol: Option<ProxyVersion>,
}

/// Circuit breaker thresholds of one priority.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    /// Retries under way at a time. `None`: only the share of all requests bounds them.
    pub max_retries: Option<u32>,
    /// Replaces `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the requests under way.
    pub percent: f64,
    pub min_concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: None,
            retry_budget: None,
        }
    }
}

/// `OutlierDetection`. A count of zero disables its trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    pub consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub consecutive_local_origin_failure: u32,
    pub split_external_local_origin_errors: bool,
    pub success_rate: SuccessRate,
    pub failure_percentage: FailurePercentage,
    /// Ripstop's own: the monitor `ripstop.dev/success_rate`.
    pub windowed: Option<WindowedSuccessRate>,
    /// Percent of the detected ejections that are carried out, by `Cause`.
    pub enforcing: [u32; Cause::ALL.len()],
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    /// Up to so much is added to each ejection, at random.
    pub max_ejection_time_jitter: Duration,
    /// Percent of the cluster's hosts.
    pub max_ejection_percent: u32,
    /// One host may be ejected whatever the percentage says.
    pub always_eject_one_host: bool,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        OutlierDetection {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            consecutive_local_origin_failure: 5,
            split_external_local_origin_errors: false,
            success_rate: SuccessRate { minimum_hosts: 5, request_volume: 100, stdev_factor: 1.9 },
            failure_percentage: FailurePercentage { threshold: 85, minimum_hosts: 5, request_volume: 50 },
            windowed: None,
            enforcing: Cause::ALL.map(Cause::enforced_by_default),
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
        }
    }
}

/// Hosts whose success rate lies far below the mean of all.
#[derive(Clone, Debug, PartialEq)]
pub struct SuccessRate {
    pub minimum_hosts: u32,
    /// Requests in an interval from which a host counts.
    pub request_volume: u32,
    /// Allowed distance from the mean, in standard deviations.
    pub stdev_factor: f64,
}

/// Hosts of whose requests too many fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailurePercentage {
    pub threshold: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
}

/// A host whose success rate over a time is too low is ejected, and comes back for one request at a time until one
/// succeeds.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowedSuccessRate {
    /// Percent; below it the host goes.
    pub threshold: f64,
    /// The rate is that of the last half to whole window.
    pub window: Duration,
    /// Requests in the window from which the rate counts.
    pub minimum_requests: u32,
}

/// Why a host is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    LocalOriginSuccessRate,
    FailurePercentage,
    LocalOriginFailurePercentage,
    WindowedSuccessRate,
}

impl Cause {
    pub const ALL: [Cause; 8] = [
        Cause::Consecutive5xx,
        Cause::ConsecutiveGatewayFailure,
        Cause::ConsecutiveLocalOriginFailure,
        Cause::SuccessRate,
        Cause::LocalOriginSuccessRate,
        Cause::FailurePercentage,
        Cause::LocalOriginFailurePercentage,
        Cause::WindowedSuccessRate,
    ];

    /// Percent.
    const fn enforced_by_default(self) -> u32 {
        match self {
            Cause::ConsecutiveGatewayFailure | Cause::FailurePercentage | Cause::LocalOriginFailurePercentage => 0,
            _ => 100,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}
