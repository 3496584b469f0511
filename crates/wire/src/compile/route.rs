//! Route tables (`route.v3.RouteConfiguration`): virtual hosts and what their routes match.

use super::action;
use super::header::{self, header_lists};
use super::{Context, Result, filter, flag, known, lower, matcher, not_empty, retry, uint};
use crate::pb::envoy::config::route::v3 as pb;
use crate::problem::{At, Problem, Problems, gather};
use model::retry::RetryPolicy;
use model::route::{Domains, PathMatch, RequireTls, Route, RouteMatch, RouteTable, VirtualHost};
use pb::route_match::PathSpecifier;
use pb::virtual_host::TlsRequirementType;
use std::collections::HashSet;
use std::sync::Arc;

pub fn table(cx: &Context<'_>, at: &At<'_>, pb: &pb::RouteConfiguration) -> Result<RouteTable> {
    // Envoy validates by default what is written in place; a table that came by RDS is never compiled with clusters.
    let clusters = cx.scope.clusters.as_ref().filter(|_| flag(&pb.validate_clusters).unwrap_or(true));
    let hosts = pb.virtual_hosts.iter().enumerate();
    let virtual_hosts = gather(hosts.map(|(index, host)| {
        let scope = action::Scope { clusters, table: pb };
        virtual_host(&scope, &at.item("virtual_hosts", index), host)
    }))?;
    Ok(RouteTable {
        name: pb.name.as_str().into(),
        domains: domains(at, &pb.virtual_hosts)?,
        virtual_hosts,
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(at, &pb.typed_per_filter_config)?,
        most_specific_wins: pb.most_specific_header_mutations_wins,
        ignore_port_in_host: pb.ignore_port_in_host_matching,
        max_direct_response_body: max_body(pb),
    })
}

pub(super) fn max_body(pb: &pb::RouteConfiguration) -> u32 {
    uint(&pb.max_direct_response_body_size_bytes).unwrap_or(4096)
}

fn domains(at: &At<'_>, hosts: &[pb::VirtualHost]) -> Result<Domains> {
    let mut domains = Domains::default();
    let mut seen = HashSet::new();
    let mut problems: Vec<Problem> = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let at = at.item("virtual_hosts", index);
        for (number, domain) in host.domains.iter().enumerate() {
            let place = at.item("domains", number);
            let text = lower(domain);
            if !seen.insert(text.clone()) {
                let message = format!("`{domain}` is a domain twice; domains must be unique over all virtual hosts");
                problems.push(place.problem(message));
                continue;
            }
            match (text.strip_prefix('*'), text.strip_suffix('*')) {
                _ if text.is_empty() => problems.push(place.problem("must not be empty")),
                (Some(""), _) => domains.any = Some(index),
                (Some(rest), _) | (_, Some(rest)) if rest.contains('*') => {
                    problems.push(place.problem("only one `*` is possible, at the start or at the end"));
                }
                (Some(suffix), _) => domains.suffix.push((suffix.into(), index)),
                (_, Some(prefix)) => domains.prefix.push((prefix.into(), index)),
                (None, None) => _ = domains.exact.insert(text, index),
            }
        }
    }
    domains.suffix.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    domains.prefix.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    if problems.is_empty() { Ok(domains) } else { Err(Problems(problems)) }
}

fn virtual_host(scope: &action::Scope<'_>, at: &At<'_>, pb: &pb::VirtualHost) -> Result<VirtualHost> {
    not_empty(at, "name", &pb.name)?;
    if pb.domains.is_empty() {
        return at.field("domains").wrong("must have at least one domain; `*` is any");
    }
    let fallback = pb.retry_policy.as_ref().map(|policy| retry::policy(&at.field("retry_policy"), policy));
    let fallback = fallback.transpose()?.map(Arc::new);
    let routes = pb.routes.iter().enumerate();
    let routes = routes.map(|(index, one)| route(scope, fallback.as_ref(), &at.item("routes", index), one));
    Ok(VirtualHost {
        name: pb.name.as_str().into(),
        routes: gather(routes)?,
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(at, &pb.typed_per_filter_config)?,
        require_tls: match known(at, "require_tls", pb.require_tls)? {
            TlsRequirementType::None => RequireTls::None,
            TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            TlsRequirementType::All => RequireTls::All,
        },
        include_request_attempt_count: pb.include_request_attempt_count,
        include_attempt_count_in_response: pb.include_attempt_count_in_response,
    })
}

fn route(scope: &action::Scope<'_>, retry: Option<&Arc<RetryPolicy>>, at: &At<'_>, pb: &pb::Route) -> Result<Route> {
    let wanted = at.required("match", &pb.r#match)?;
    let chosen = at.required("action", &pb.action)?;
    Ok(Route {
        name: pb.name.as_str().into(),
        matches: route_match(&at.field("match"), wanted)?,
        action: action::action(scope, retry, at, chosen)?,
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(at, &pb.typed_per_filter_config)?,
    })
}

fn route_match(at: &At<'_>, pb: &pb::RouteMatch) -> Result<RouteMatch> {
    let fraction = pb.runtime_fraction.as_ref();
    Ok(RouteMatch {
        path: path_match(at, pb)?,
        headers: matcher::headers(at, "headers", &pb.headers)?,
        query: matcher::query(at, &pb.query_parameters)?,
        grpc_only: pb.grpc.is_some(),
        fraction_ppm: fraction.map(|f| matcher::fraction(&at.field("runtime_fraction"), f)).transpose()?,
    })
}

fn path_match(at: &At<'_>, pb: &pb::RouteMatch) -> Result<PathMatch> {
    let ignore_case = !flag(&pb.case_sensitive).unwrap_or(true);
    let text = |text: &str| if ignore_case { lower(text) } else { text.into() };
    Ok(match at.required("path_specifier", &pb.path_specifier)? {
        PathSpecifier::Prefix(prefix) => PathMatch::Prefix { prefix: text(prefix), ignore_case },
        PathSpecifier::Path(path) => PathMatch::Exact { path: text(path), ignore_case },
        PathSpecifier::SafeRegex(regex) => PathMatch::Regex(matcher::full_match(&at.field("safe_regex"), regex)?),
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) || prefix.len() < 2 {
                let message = "must start with `/`, not end with it, and hold neither `?` nor `#`";
                return at.field("path_separated_prefix").wrong(message);
            }
            PathMatch::SeparatedPrefix { prefix: text(prefix), ignore_case }
        }
        PathSpecifier::ConnectMatcher(_) => PathMatch::Connect,
        PathSpecifier::PathMatchPolicy(_) => return at.field("path_match_policy").wrong("is not implemented"),
    })
}
