//! HTTP filters before the router, and what routes say about them.

use crate::matcher::{HeaderMatcher, StringMatcher};
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
}

/// `typed_per_filter_config`: by filter name.
pub type RouteFilters = Vec<(Box<str>, RouteFilter)>;

#[derive(Debug)]
pub enum RouteFilter {
    Disabled,
    Fault(Fault),
    Cors(CorsPolicy),
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
