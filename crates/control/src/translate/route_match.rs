//! Gateway API's matches as Envoy's, and which of them comes first.

use std::cmp::Reverse;

use api::kinds::http_route::{Match, NamedMatch, PathKind, ValueKind};
use wire::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use wire::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use wire::pb::envoy::config::route::v3::route_match::PathSpecifier;
use wire::pb::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use wire::pb::envoy::r#type::matcher::v3::StringMatcher;

use super::Agent;
use super::message::{exactly, matching, regex};

/// Gateway API's order: exact paths, then (where it leaves the choice) expressions, then the longer prefix; then a
/// method, then more headers, then more query parameters. Smaller comes first.
pub(super) type Precedence = (u8, Reverse<usize>, bool, Reverse<usize>, Reverse<usize>);

pub(super) fn precedence(matched: &Match) -> Precedence {
    let (kind, length) = match matched.path.kind {
        PathKind::Exact => (0, matched.path.value.len()),
        PathKind::RegularExpression => (1, matched.path.value.len()),
        PathKind::PathPrefix => (2, matched.path.value.trim_end_matches('/').len()),
    };
    (
        kind,
        Reverse(length),
        matched.method.is_none(),
        Reverse(matched.headers.len()),
        Reverse(matched.query_params.len()),
    )
}

pub(super) fn route_match(matched: &Match, agent: Agent) -> RouteMatch {
    let mut headers: Vec<HeaderMatcher> = matched.headers.iter().map(header).collect();
    if let Some(method) = matched.method {
        headers.push(header_matcher(":method", exactly(method.as_str())));
    }
    RouteMatch {
        path_specifier: Some(path(matched, agent)),
        headers,
        query_parameters: matched.query_params.iter().map(query).collect(),
        ..RouteMatch::default()
    }
}

/// Everything.
pub(super) fn any_request() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..RouteMatch::default() }
}

fn path(matched: &Match, agent: Agent) -> PathSpecifier {
    let value = matched.path.value.as_str();
    match matched.path.kind {
        PathKind::Exact => PathSpecifier::Path(value.to_owned()),
        PathKind::RegularExpression => PathSpecifier::SafeRegex(regex(value)),
        PathKind::PathPrefix => match value.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".into()),
            // The library knows no separated prefixes; its paths are /service/method.
            prefix if agent == Agent::Grpc => PathSpecifier::Prefix(format!("{prefix}/")),
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
    }
}

fn header(named: &NamedMatch) -> HeaderMatcher {
    header_matcher(&named.name.to_ascii_lowercase(), value(named))
}

pub(super) fn header_matcher(name: &str, matcher: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..HeaderMatcher::default()
    }
}

fn query(named: &NamedMatch) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: named.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(value(named))),
    }
}

fn value(named: &NamedMatch) -> StringMatcher {
    match named.kind {
        ValueKind::Exact => exactly(&named.value),
        ValueKind::RegularExpression => matching(&named.value),
    }
}
