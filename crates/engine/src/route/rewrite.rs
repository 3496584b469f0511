//! Path and host rewriting of forwarded requests (`RouteAction`).

use crate::head::Head;
use model::format::Format;
use model::matcher::Substitution;
use model::route::{Forward, HostRewrite, PathMatch, PathRewrite, RouteMatch, WeightedCluster};

/// The rewritten path with query, if the route rewrites it. `render` evaluates a format.
pub fn path(
    forward: &Forward,
    matched: &RouteMatch,
    head: &Head,
    render: impl Fn(&Format) -> Vec<u8>,
) -> Option<Vec<u8>> {
    match &forward.path_rewrite {
        PathRewrite::None => None,
        // With path parameters left out of the match the path need not begin so.
        PathRewrite::Prefix(new) => begins(matched, head).then(|| replace_prefix(matched, head, new)),
        PathRewrite::Regex(rewrite) => Some(with_query(substitute(rewrite, head.path_only()), head)),
        PathRewrite::Full(format) => {
            let new = render(format);
            (!new.is_empty()).then(|| with_query(new, head))
        }
    }
}

fn begins(matched: &RouteMatch, head: &Head) -> bool {
    match &matched.path {
        PathMatch::Prefix { prefix, .. } | PathMatch::SeparatedPrefix { prefix, .. } => {
            head.path().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        }
        _ => true,
    }
}

/// Replaces the part of the path that the route matched (all of it for exact and regex matches).
pub fn replace_prefix(matched: &RouteMatch, head: &Head, new: &str) -> Vec<u8> {
    let path = head.path();
    let cut = match &matched.path {
        PathMatch::Prefix { prefix, .. } | PathMatch::SeparatedPrefix { prefix, .. } => prefix.len(),
        PathMatch::Exact { .. } | PathMatch::Regex(_) | PathMatch::Template(_) => head.path_only().len(),
        PathMatch::Connect => 0,
    };
    let mut out = Vec::with_capacity(new.len() + path.len() - cut.min(path.len()));
    out.extend_from_slice(new.as_bytes());
    out.extend_from_slice(&path[cut.min(path.len())..]);
    out
}

pub fn substitute(rewrite: &Substitution, text: &[u8]) -> Vec<u8> {
    rewrite.regex.replace_all(text, rewrite.new.as_bytes()).into_owned()
}

fn with_query(mut path: Vec<u8>, head: &Head) -> Vec<u8> {
    path.extend_from_slice(&head.path()[head.path_only().len()..]);
    path
}

/// The rewritten authority; `endpoint_hostname` serves `auto_host_rewrite`.
pub fn host(
    forward: &Forward,
    weighted: Option<&WeightedCluster>,
    head: &Head,
    endpoint_hostname: &str,
) -> Option<Vec<u8>> {
    if let Some(literal) = weighted.and_then(|cluster| cluster.host_rewrite.as_ref()) {
        return Some(literal.as_bytes().to_vec());
    }
    match &forward.host_rewrite {
        HostRewrite::None => None,
        HostRewrite::Literal(text) => Some(text.as_bytes().to_vec()),
        HostRewrite::Auto => (!endpoint_hostname.is_empty()).then(|| endpoint_hostname.as_bytes().to_vec()),
        HostRewrite::Header(name) => head.get(name.as_bytes()).filter(|value| !value.is_empty()).map(<[u8]>::to_vec),
        HostRewrite::PathRegex(rewrite) => Some(substitute(rewrite, head.path_only())),
    }
}
