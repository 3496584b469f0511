//! Active health checks (`core.v3.HealthCheck`), and what they found.

use crate::address::Address;
use crate::header::Edits;
use crate::matcher::StringMatcher;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct HealthCheck {
    pub probe: Probe,
    /// An attempt that takes longer has failed.
    pub timeout: Duration,
    pub intervals: Intervals,
    /// Failures in a row that make a healthy endpoint unhealthy; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row that make an unhealthy endpoint healthy; at least 1.
    pub healthy_threshold: u32,
    /// Keep the connection from one check to the next.
    pub reuse_connection: bool,
    /// Files that take one JSON line per event.
    pub event_logs: Vec<PathBuf>,
    pub always_log_failures: bool,
    pub always_log_successes: bool,
    /// `tls_options.alpn_protocols`: offered instead of what the cluster's TLS context says.
    pub alpn: Vec<Box<str>>,
    /// `transport_socket_match_criteria`, instead of the endpoint's own: key and JSON value.
    pub socket_match: Option<Vec<(Box<str>, Box<str>)>>,
}

/// How long to wait until the next check.
#[derive(Clone, Debug, PartialEq)]
pub struct Intervals {
    pub normal: Duration,
    pub unhealthy: Duration,
    /// While failures add up to the unhealthy threshold.
    pub unhealthy_edge: Duration,
    /// While successes add up to the healthy threshold.
    pub healthy_edge: Duration,
    /// As long as the cluster has had no connection.
    pub no_traffic: Duration,
    pub no_traffic_healthy: Duration,
    /// The first check waits a random time below this.
    pub initial_jitter: Duration,
    /// Each wait grows by a random time below this, and below this share of it.
    pub jitter: Duration,
    pub jitter_percent: u32,
}

#[derive(Debug)]
pub enum Probe {
    Http(HttpProbe),
    Tcp(TcpProbe),
    Grpc(GrpcProbe),
}

#[derive(Debug)]
pub struct HttpProbe {
    /// Empty: the cluster's name. An endpoint's own `hostname` comes before.
    pub host: Box<str>,
    pub path: Box<str>,
    pub method: &'static str,
    pub http2: bool,
    pub request_edits: Edits,
    pub body: Box<[u8]>,
    /// Blocks that must be found in the body, in this order.
    pub receive: Vec<Box<[u8]>>,
    /// Bytes of the body that are looked at; zero: all.
    pub response_limit: usize,
    pub expected: Vec<StatusRange>,
    /// Failures that count towards the threshold instead of failing at once.
    pub retriable: Vec<StatusRange>,
    /// For `x-envoy-upstream-healthchecked-cluster`.
    pub service_name: Option<StringMatcher>,
}

#[derive(Debug)]
pub struct TcpProbe {
    pub send: Box<[u8]>,
    /// Blocks that must be found, in this order; none: a connection is enough.
    pub receive: Vec<Box<[u8]>>,
}

#[derive(Debug)]
pub struct GrpcProbe {
    /// Of `grpc.health.v1.HealthCheckRequest`.
    pub service: Box<str>,
    /// Empty: the cluster's name. An endpoint's own `hostname` comes before.
    pub authority: Box<str>,
    pub metadata: Edits,
}

/// From `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    pub start: u16,
    pub end: u16,
}

impl StatusRange {
    pub fn contains(self, status: u16) -> bool {
        (self.start..self.end).contains(&status)
    }
}

/// What differs for one endpoint (`Endpoint.HealthCheckConfig`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointCheck {
    /// Zero: the endpoint's own port.
    pub port: u16,
    /// Instead of the endpoint's own address.
    pub address: Option<Address>,
    /// For the `Host` header or `:authority`.
    pub hostname: Box<str>,
    pub disabled: bool,
}

/// What active checks say of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActiveHealth {
    pub failed: bool,
    /// Nothing is known yet.
    pub pending: bool,
    pub degraded: bool,
    /// The last failure was a time-out.
    pub timeout: bool,
    /// Discovery has dropped the endpoint; it stays until a check fails.
    pub leaving: bool,
}

impl ActiveHealth {
    /// Before the first check: not to be used.
    pub const NEW: ActiveHealth =
        ActiveHealth { failed: true, pending: true, degraded: false, timeout: false, leaving: false };
}

/// Something new about one endpoint.
#[derive(Clone, Debug)]
pub struct Report {
    pub cluster: Arc<str>,
    pub address: Address,
    pub news: News,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// What its checks say now.
    Checked(ActiveHealth),
    /// A response to a request said so (`x-envoy-immediate-health-check-fail`).
    SaidUnwell,
}

/// By cluster, then by address. Clusters without checks are not listed.
pub type HealthTable = BTreeMap<Arc<str>, Arc<BTreeMap<Address, ActiveHealth>>>;
