//! Route tables (`route.v3.RouteConfiguration`), compiled: virtual hosts, matches, actions.

use crate::balance::HashPolicy;
use crate::demand::Source;
use crate::filter::RouteFilters;
use crate::format::Format;
use crate::header::{HeaderEdits, Mutation};
use crate::listener::ProxyVersion;
use crate::local_reply::BodyFormat;
use crate::matcher::{HeaderMatcher, QueryMatcher, StringMatcher, Substitution};
use crate::path_index::PathIndex;
use crate::retry::RetryPolicy;
use regex::bytes::Regex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
pub struct RouteTable {
    pub name: Box<str>,
    pub virtual_hosts: Vec<VirtualHost>,
    pub domains: Domains,
    pub edits: Option<Box<HeaderEdits>>,
    pub filters: RouteFilters,
    /// Least specific level first (`most_specific_header_mutations_wins: false` evaluates route, host, table).
    pub most_specific_wins: bool,
    pub ignore_port_in_host: bool,
    /// `ignore_path_parameters_in_path_matching`: segments of paths are matched without their `;` and what follows.
    pub ignore_path_parameters: bool,
    /// `vhost_header`: the field that names the host, instead of the authority. Lower case.
    pub host_header: Option<Box<str>>,
    /// `internal_only_headers`: taken out of requests of callers that are not internal. Lower case.
    pub internal_only_headers: Vec<Box<str>>,
    pub max_direct_response_body: u32,
    /// `vhds`: where virtual hosts come from that are asked for when they are needed.
    pub more_hosts: Option<Source>,
}

/// Host lookup: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`. All lower case; values
/// index `RouteTable::virtual_hosts`.
#[derive(Debug, Default)]
pub struct Domains {
    pub exact: HashMap<Box<str>, usize, foldhash::fast::RandomState>,
    /// Without the star, longest first.
    pub suffix: Vec<(Box<str>, usize)>,
    /// Without the star, longest first.
    pub prefix: Vec<(Box<str>, usize)>,
    pub any: Option<usize>,
}

#[derive(Debug, Default)]
pub struct VirtualHost {
    pub name: Box<str>,
    /// First match wins.
    pub routes: Vec<Route>,
    /// Of `routes`, where there are many.
    pub index: Option<Box<PathIndex>>,
    pub edits: Option<Box<HeaderEdits>>,
    pub filters: RouteFilters,
    pub require_tls: RequireTls,
    pub include_request_attempt_count: bool,
    pub include_attempt_count_in_response: bool,
    /// `include_is_timeout_retry_header`.
    pub include_is_timeout_retry: bool,
    /// Groups of requests that are counted on their own; the first that matches.
    pub virtual_clusters: Vec<VirtualCluster>,
}

/// `route.v3.VirtualCluster`.
#[derive(Debug)]
pub struct VirtualCluster {
    pub name: Arc<str>,
    pub headers: Vec<HeaderMatcher>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireTls {
    #[default]
    None,
    ExternalOnly,
    All,
}

#[derive(Debug)]
pub struct Route {
    pub name: Box<str>,
    pub matches: RouteMatch,
    pub action: Action,
    pub edits: Option<Box<HeaderEdits>>,
    pub filters: RouteFilters,
    /// Its requests are counted on their own under this name; empty: they are not.
    pub stat_prefix: Box<str>,
    /// Bytes of a request body that may be kept to send it again. `None`: the listener's buffer limit.
    pub body_limit: Option<u64>,
}

#[derive(Debug)]
pub struct RouteMatch {
    pub path: PathMatch,
    /// What few routes look at.
    pub more: Option<Box<Conditions>>,
}

/// What must be true of a request besides its path.
#[derive(Debug)]
pub struct Conditions {
    pub headers: Vec<HeaderMatcher>,
    pub query: Vec<QueryMatcher>,
    pub cookies: Vec<CookieMatcher>,
    pub tls: Option<TlsMatch>,
    /// Only requests whose content-type is `application/grpc` or `application/grpc+...`.
    pub grpc_only: bool,
    /// `runtime_fraction` default value, in parts per million.
    pub fraction_ppm: Option<u32>,
}

impl RouteMatch {
    /// The path alone decides.
    pub fn at(path: PathMatch) -> Self {
        RouteMatch { path, more: None }
    }
}

impl Conditions {
    pub fn is_empty(&self) -> bool {
        let Conditions { headers, query, cookies, tls, grpc_only, fraction_ppm } = self;
        headers.is_empty()
            && query.is_empty()
            && cookies.is_empty()
            && tls.is_none()
            && !grpc_only
            && fraction_ppm.is_none()
    }
}

/// `route.v3.CookieMatcher`. A missing cookie does not match, so it does when inverted.
#[derive(Debug)]
pub struct CookieMatcher {
    pub name: Box<str>,
    pub value: StringMatcher,
    pub invert: bool,
}

/// `RouteMatch.TlsContextMatchOptions`: the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsMatch {
    pub presented: Option<bool>,
    pub validated: Option<bool>,
}

/// The path without query and fragment is matched. With `ignore_case`, stored text is lower case.
#[derive(Debug)]
pub enum PathMatch {
    Prefix {
        prefix: Box<str>,
        ignore_case: bool,
    },
    Exact {
        path: Box<str>,
        ignore_case: bool,
    },
    /// `/a` matches `/a` and `/a/b`, not `/ab`.
    SeparatedPrefix {
        prefix: Box<str>,
        ignore_case: bool,
    },
    Regex(Regex),
    /// A URI template (`/a/{id}/*`), compiled.
    Template(Regex),
    /// Matches CONNECT requests only.
    Connect,
}

#[derive(Debug)]
pub enum Action {
    Forward(Box<Forward>),
    Redirect(Box<Redirect>),
    Respond(Box<DirectResponse>),
    /// `non_forwarding_action`: for servers that route without proxying; a proxy answers 404.
    NonForwarding,
}

/// `RouteAction`.
#[derive(Debug)]
pub struct Forward {
    pub target: Target,
    pub path_rewrite: PathRewrite,
    pub host_rewrite: HostRewrite,
    pub append_x_forwarded_host: bool,
    /// Zero disables.
    pub timeout: Duration,
    /// `None`: the connection manager's.
    pub idle_timeout: Option<Duration>,
    /// `max_stream_duration.max_stream_duration`. `None`: the connection manager's; zero disables.
    pub max_stream_duration: Option<Duration>,
    pub grpc_timeout: GrpcTimeout,
    pub priority: Priority,
    pub retry: Option<Arc<RetryPolicy>>,
    /// `hedge_policy.hedge_on_per_try_timeout`: a late attempt goes on while the next one starts.
    pub hedge_on_per_try_timeout: bool,
    /// `request_mirror_policies`.
    pub mirrors: Arc<[Mirror]>,
    /// What of a request tells hashing balancers where it goes.
    pub hash: Box<[HashPolicy]>,
    /// `metadata_match`: the subset of hosts that may be used; empty is any.
    pub subset: Arc<[(Box<str>, Box<str>)]>,
    /// Names of upgrades this route allows or denies; overrides the connection manager's.
    pub upgrades: Box<[(Box<str>, bool)]>,
    /// CONNECT requests end here. `None`: they go on to the upstream, a proxy itself.
    pub connect: Option<Connect>,
    /// `internal_redirect_policy`: redirects that are followed here instead of by the client.
    pub internal_redirects: Option<Box<InternalRedirects>>,
    /// Status when the cluster does not exist (503 unless configured).
    pub cluster_not_found_status: u16,
}

impl Forward {
    /// To `target`, with Envoy's defaults for everything else.
    pub fn to(target: Target) -> Self {
        Forward {
            target,
            path_rewrite: PathRewrite::None,
            host_rewrite: HostRewrite::None,
            append_x_forwarded_host: false,
            timeout: Duration::from_secs(15),
            idle_timeout: None,
            max_stream_duration: None,
            grpc_timeout: GrpcTimeout::Ignored,
            priority: Priority::Default,
            retry: None,
            hedge_on_per_try_timeout: false,
            mirrors: Arc::default(),
            hash: Box::default(),
            subset: Arc::default(),
            upgrades: Box::default(),
            connect: None,
            internal_redirects: None,
            cluster_not_found_status: 503,
        }
    }
}

/// `RouteAction.UpgradeConfig.ConnectConfig`: what follows a CONNECT goes to the upstream as it is, without HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// The header that the upstream's connection begins with.
    pub proxy_protocol: Option<ProxyVersion>,
    /// So do the bodies of POST requests.
    pub allow_post: bool,
}

/// `route.v3.InternalRedirectPolicy`.
#[derive(Debug)]
pub struct InternalRedirects {
    /// Of 301, 302, 303, 307 and 308.
    pub statuses: Vec<u16>,
    pub most: u32,
    pub cross_scheme: bool,
    /// Copied from the redirect into the request; what it lacks is removed. Lower case.
    pub copy: Vec<Box<str>>,
    pub predicates: Vec<RedirectPredicate>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum RedirectPredicate {
    /// Each route may be redirected to once.
    PreviousRoutes,
    /// Only to routes with these names.
    AllowListed(Vec<Box<str>>),
    /// Never from TLS to plain text.
    SafeCrossScheme,
}

/// What a `grpc-timeout` request header changes. Zero as maximum: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrpcTimeout {
    #[default]
    Ignored,
    /// `max_stream_duration.grpc_timeout_header_max` and `_offset`: it is the stream's longest duration.
    Stream { max: Duration, offset: Duration },
    /// `max_grpc_timeout` and `grpc_timeout_offset`: it is the route's timeout.
    Route { max: Duration, offset: Duration },
}

/// `core.v3.RoutingPriority`: which circuit breakers count a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    Default,
    High,
}

/// A cluster that gets a copy of requests; its answers are dropped.
#[derive(Debug)]
pub struct Mirror {
    pub target: MirrorTarget,
    /// Parts per million of all requests.
    pub fraction_ppm: u32,
    /// Leave the host as it is instead of adding `-shadow`.
    pub keep_host: bool,
    /// `host_rewrite_literal`.
    pub host: Option<Box<str>>,
    /// `request_headers_mutations`, in their order.
    pub mutations: Vec<Mutation>,
}

#[derive(Debug)]
pub enum MirrorTarget {
    Cluster(Arc<str>),
    /// The cluster is named by a request header.
    ClusterHeader(Box<str>),
}

#[derive(Debug)]
pub enum Target {
    Cluster(Arc<str>),
    /// The cluster is named by a request header.
    ClusterHeader(Box<str>),
    Weighted(Box<WeightedClusters>),
}

#[derive(Debug)]
pub struct WeightedClusters {
    pub clusters: Vec<WeightedCluster>,
    /// The sum of all weights; never zero.
    pub total: u64,
    /// Name of a request header whose decimal value replaces the random number.
    pub header_name: Option<Box<str>>,
    /// `use_hash_policy`: what the route's hash policies make of the request replaces it.
    pub by_hash: bool,
}

#[derive(Debug)]
pub struct WeightedCluster {
    pub name: Arc<str>,
    /// The cluster is named by this request header instead.
    pub name_header: Option<Box<str>>,
    pub weight: u32,
    pub edits: Option<Box<HeaderEdits>>,
    pub filters: RouteFilters,
    pub host_rewrite: Option<Box<str>>,
    /// The route's subset together with its own `metadata_match`.
    pub subset: Arc<[(Box<str>, Box<str>)]>,
}

#[derive(Debug, Default)]
pub enum PathRewrite {
    #[default]
    None,
    /// Replaces what the route matched.
    Prefix(Box<str>),
    /// Applies to the path without the query.
    Regex(Box<Substitution>),
    /// The whole path, without the query. Empty: it stays.
    Full(Format),
}

#[derive(Debug, Default)]
pub enum HostRewrite {
    #[default]
    None,
    Literal(Box<str>),
    /// The endpoint's DNS name (STRICT_DNS, LOGICAL_DNS).
    Auto,
    Header(Box<str>),
    /// Applied to the request's path without the query.
    PathRegex(Box<Substitution>),
}

#[derive(Debug, Default)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub scheme: RedirectScheme,
    pub host: Option<Box<str>>,
    pub port: Option<u16>,
    pub path: RedirectPath,
    pub strip_query: bool,
}

#[derive(Debug, Default)]
pub enum RedirectScheme {
    #[default]
    Keep,
    Https,
    Other(Box<str>),
}

#[derive(Debug, Default)]
pub enum RedirectPath {
    #[default]
    Keep,
    Full(Box<str>),
    /// `path_rewrite`: evaluated; when it comes out empty the path stays.
    Formatted(Format),
    Prefix(Box<str>),
    Regex(Box<Substitution>),
}

#[derive(Debug)]
pub struct DirectResponse {
    pub status: u16,
    pub body: Arc<[u8]>,
    /// `body_format`, when set, replaces `body`.
    pub format: Option<BodyFormat>,
}
