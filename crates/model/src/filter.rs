//! HTTP filters before the router, and what routes say about them.

use crate::demand::OnDemandClusters;
use crate::format::Format;
use crate::header::{AddHeader, AppendAction, Mutation};
use crate::matcher::{HeaderMatcher, StringMatcher};
use kit::TokenBucket;
use std::sync::Arc;
use std::time::Duration;

/// A filter of a connection manager, in chain order. The router, always the last, is not listed.
#[derive(Debug)]
pub struct HttpFilter {
    /// Routes refer to it by this name.
    pub name: Box<str>,
    pub kind: FilterKind,
    /// Off unless a route turns it on.
    pub disabled: bool,
}

#[derive(Debug)]
pub enum FilterKind {
    Fault(Fault),
    /// Its policy comes from the route.
    Cors,
    /// `filters.http.grpc_web.v3.GrpcWeb`
    GrpcWeb,
    HealthCheck(HealthCheck),
    HeaderMutation(HeaderMutation),
    Buffer(BodyBuffer),
    LocalRateLimit(LocalRateLimit),
    AdmissionControl(Arc<AdmissionControl>),
    AdaptiveConcurrency(Arc<AdaptiveConcurrency>),
    /// `filters.http.on_demand.v3.OnDemand`: missing virtual hosts and scopes are always asked for, clusters where this
    /// says so.
    OnDemand(Option<OnDemandClusters>),
}

/// `filters.http.health_check.v3.HealthCheck`: answers those who ask whether this proxy is well.
#[derive(Debug)]
pub struct HealthCheck {
    /// Requests that match all of these.
    pub headers: Vec<HeaderMatcher>,
    pub answer: HealthAnswer,
    /// The node's cluster, told in answers.
    pub cluster: Box<str>,
}

#[derive(Debug)]
pub enum HealthAnswer {
    /// It is well while of each cluster at least this percentage of the hosts is.
    Clusters(Vec<(Arc<str>, f64)>),
    /// The upstream says; what it said may be repeated for this long.
    Upstream(Duration),
}

/// `typed_per_filter_config`: by filter name.
pub type RouteFilters = Box<[(Box<str>, RouteFilter)]>;

#[derive(Debug)]
pub enum RouteFilter {
    Disabled,
    Fault(Fault),
    Cors(CorsPolicy),
    HeaderMutation(HeaderMutation),
    Buffer(BodyBuffer),
    LocalRateLimit(LocalRateLimit),
    OnDemand(Option<OnDemandClusters>),
}

/// `filters.http.header_mutation.v3.HeaderMutation`.
#[derive(Debug, Default)]
pub struct HeaderMutation {
    pub request: Vec<Mutation>,
    pub response: Vec<Mutation>,
    pub query: Vec<QueryMutation>,
    /// Of the filter itself: what the table says is applied before what the route says, not after.
    pub most_specific_wins: bool,
}

/// `core.v3.KeyValueMutation` of a query parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryMutation {
    Remove(Box<str>),
    Set { name: Box<str>, value: Format, action: AppendAction },
}

/// `filters.http.buffer.v3.Buffer`: requests go on when their body is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyBuffer {
    /// Bytes.
    pub most: u32,
}

/// `filters.http.local_ratelimit.v3.LocalRateLimit`.
#[derive(Debug)]
pub struct LocalRateLimit {
    pub stat_prefix: Box<str>,
    pub status: u16,
    /// Of the whole process. `None`: nothing is limited.
    pub bucket: Option<Arc<TokenBucket>>,
    pub enabled_ppm: u32,
    /// Of those that are over the limit, how many are told so.
    pub enforced_ppm: u32,
    /// For requests that go on though they are over the limit.
    pub request_headers: Vec<AddHeader>,
    /// For requests that are refused.
    pub response_headers: Vec<AddHeader>,
    /// gRPC clients are told RESOURCE_EXHAUSTED instead of UNAVAILABLE.
    pub resource_exhausted: bool,
    /// Refusals with 429 say when to come back.
    pub retry_after: bool,
}

/// `filters.http.admission_control.v3.AdmissionControl`: refuses a share of the requests while too many fail.
#[derive(Clone, Debug)]
pub struct AdmissionControl {
    pub enabled: bool,
    /// Half open ranges of statuses that are successes.
    pub http_success: Vec<(u16, u16)>,
    pub grpc_success: Vec<u8>,
    /// At least a second; whole seconds.
    pub window: Duration,
    /// At least 1.
    pub aggression: f64,
    /// 0 to 1.
    pub success_threshold: f64,
    /// Requests per second below which none is refused.
    pub least_rate: u32,
    /// 0 to 1.
    pub most_refused: f64,
}

/// `filters.http.adaptive_concurrency.v3.AdaptiveConcurrency` with the gradient controller.
#[derive(Clone, Debug)]
pub struct AdaptiveConcurrency {
    pub enabled: bool,
    /// Of refusals.
    pub status: u16,
    /// 0 to 1: which of a window's latencies stands for it.
    pub percentile: f64,
    pub most: u32,
    pub least: u32,
    pub update_interval: Duration,
    /// How the latency without load is known.
    pub ideal: IdealLatency,
    /// Added to it, as a share of it.
    pub buffer: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum IdealLatency {
    Fixed(Duration),
    /// Measured every `interval`, later by up to `jitter` of it, over `requests`, with at most `concurrency` at once.
    Measured {
        interval: Duration,
        requests: u32,
        jitter: f64,
        concurrency: u32,
    },
}

/// `filters.http.fault.v3.HTTPFault`.
#[derive(Debug, Default)]
pub struct Fault {
    pub delay: Option<Chance<FaultDelay>>,
    pub abort: Option<Chance<FaultAbort>>,
    pub rate: Option<Chance<FaultRate>>,
    /// Only requests to this cluster; empty is any.
    pub upstream_cluster: Box<str>,
    /// Only requests that match all of these.
    pub headers: Vec<HeaderMatcher>,
    /// Only requests whose `x-envoy-downstream-service-node` is one of these; empty is any.
    pub downstream_nodes: Vec<Box<str>>,
    /// Faults that may be under way at once.
    pub most_active: Option<u32>,
}

/// Something that happens to a share of all requests.
#[derive(Debug)]
pub struct Chance<T> {
    pub what: T,
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

#[derive(Debug)]
pub enum FaultDelay {
    Fixed(Duration),
    /// `x-envoy-fault-delay-request`, in milliseconds.
    Header,
}

#[derive(Debug)]
pub enum FaultAbort {
    Http(u16),
    Grpc(u8),
    /// `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request`.
    Header,
}

#[derive(Debug)]
pub enum FaultRate {
    /// KiB per second of the response body.
    Fixed(u64),
    /// `x-envoy-fault-throughput-response`.
    Header,
}

/// `filters.http.cors.v3.CorsPolicy`. What a route leaves out, the virtual host may say; empty texts are not sent.
#[derive(Debug)]
pub struct CorsPolicy {
    pub allow_origin: Vec<StringMatcher>,
    pub allow_methods: Box<str>,
    pub allow_headers: Box<str>,
    pub expose_headers: Box<str>,
    pub max_age: Box<str>,
    pub allow_credentials: Option<bool>,
    pub allow_private_network_access: Option<bool>,
    /// A preflight from an origin that is not allowed goes to the upstream instead of being answered.
    pub forward_not_matching_preflights: Option<bool>,
    pub enabled_ppm: u32,
}
