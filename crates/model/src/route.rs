//! Route tables (`route.v3.RouteConfiguration`), compiled: virtual hosts, matches, actions.

use crate::format::Format;
use crate::header::HeaderEdits;
use crate::matcher::{HeaderMatcher, QueryMatcher};
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
    pub edits: HeaderEdits,
    /// Least specific level first (`most_specific_header_mutations_wins: false` evaluates route, host, table).
    pub most_specific_wins: bool,
    pub ignore_port_in_host: bool,
    pub max_direct_response_body: u32,
}

/// Host lookup: exact, then the longest `*suffix`, then the longest `prefix*`, then `*`. All lower case; values
/// index `RouteTable::virtual_hosts`.
#[derive(Debug, Default)]
pub struct Domains {
    pub exact: HashMap<Box<str>, usize>,
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
    pub edits: HeaderEdits,
    pub require_tls: RequireTls,
    pub include_request_attempt_count: bool,
    pub include_attempt_count_in_response: bool,
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
    pub edits: HeaderEdits,
}

#[derive(Debug)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub headers: Vec<HeaderMatcher>,
    pub query: Vec<QueryMatcher>,
    /// Only requests whose content-type is `application/grpc` or `application/grpc+...`.
    pub grpc_only: bool,
    /// `runtime_fraction` default value, in parts per million.
    pub fraction_ppm: Option<u32>,
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
    /// Matches CONNECT requests only.
    Connect,
}

#[derive(Debug)]
pub enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Respond(DirectResponse),
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
    pub retry: Option<Arc<RetryPolicy>>,
    /// Names of upgrades this route allows or denies; overrides the connection manager's.
    pub upgrades: Vec<(Box<str>, bool)>,
    /// Status when the cluster does not exist (503 unless configured).
    pub cluster_not_found_status: u16,
}

#[derive(Debug)]
pub enum Target {
    Cluster(Arc<str>),
    /// The cluster is named by a request header.
    ClusterHeader(Box<str>),
    Weighted(WeightedClusters),
}

#[derive(Debug)]
pub struct WeightedClusters {
    pub clusters: Vec<WeightedCluster>,
    /// The sum of all weights; never zero.
    pub total: u64,
    /// Name of a request header whose decimal value replaces the random number.
    pub header_name: Option<Box<str>>,
}

#[derive(Debug)]
pub struct WeightedCluster {
    pub name: Arc<str>,
    pub weight: u32,
    pub edits: HeaderEdits,
    pub host_rewrite: Option<Box<str>>,
}

#[derive(Debug, Default)]
pub enum PathRewrite {
    #[default]
    None,
    /// Replaces what the route matched.
    Prefix(Box<str>),
    /// RE2 substitution: `\1` is written `${1}` here. Applies to the path without the query.
    Regex { regex: Regex, substitution: Box<str> },
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
    PathRegex {
        regex: Regex,
        substitution: Box<str>,
    },
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
    Prefix(Box<str>),
    Regex {
        regex: Regex,
        substitution: Box<str>,
    },
}

#[derive(Debug)]
pub struct DirectResponse {
    pub status: u16,
    pub body: Arc<[u8]>,
    /// `body_format`, when set, replaces `body`.
    pub format: Option<Format>,
}
