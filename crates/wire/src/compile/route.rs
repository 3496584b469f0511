//! Route tables (`route.v3.RouteConfiguration`): virtual hosts and what their routes match.

use super::action::{self, Inherited};
use super::header::{self, header_lists};
use super::{Context, Result, filter, flag, known, lower, matcher, not_empty, on_demand, retry, template, uint};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::route::v3 as pb;
use crate::pb::google::protobuf::{UInt32Value, UInt64Value};
use crate::problem::{At, Problem, Problems, gather};
use model::path_index::PathIndex;
use model::route::{
    Conditions, Domains, PathMatch, RequireTls, Route, RouteMatch, RouteTable, TlsMatch, VirtualCluster, VirtualHost,
};
use pb::route_match::PathSpecifier;
use pb::virtual_host::TlsRequirementType;
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes; what listeners buffer unless they say otherwise.
const DEFAULT_BUFFER: u32 = 1 << 20;

/// A table written in place. On its own it has no name to ask for virtual hosts by.
pub fn table(cx: &Context<'_>, at: &At<'_>, pb: &pb::RouteConfiguration) -> Result<RouteTable> {
    if pb.vhds.is_some() {
        return at.field("vhds").wrong("is for tables that come by RDS");
    }
    linked(cx, at, pb)
}

/// A table that came by RDS, together with the virtual hosts that came for it.
pub fn discovered(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::RouteConfiguration) -> Result<RouteTable> {
    let table = linked(cx, at, pb)?;
    let Some(vhds) = &pb.vhds else { return Ok(table) };
    let source = on_demand::by_name(cx.scope, &at.field("vhds"), "config_source", &vhds.config_source)?;
    cx.need(ResourceKind::VirtualHosts, not_empty(at, "name", &pb.name)?, source.clone());
    Ok(RouteTable { more_hosts: Some(source), ..table })
}

/// A virtual host on demand, apart from its table.
pub fn host_alone(cx: &Context<'_>, at: &At<'_>, pb: &pb::VirtualHost) -> Result<()> {
    let table = pb::RouteConfiguration::default();
    let scope = action::Scope { clusters: None, known: cx.scope, table: &table };
    virtual_host(&scope, &Inherited::default(), at, pb).map(|_| ())
}

fn linked(cx: &Context<'_>, at: &At<'_>, pb: &pb::RouteConfiguration) -> Result<RouteTable> {
    // Envoy validates by default what is written in place; a table that came by RDS is never compiled with clusters.
    let clusters = cx.scope.clusters.as_ref().filter(|_| flag(&pb.validate_clusters).unwrap_or(true));
    let scope = action::Scope { clusters, known: cx.scope, table: pb };
    let inherited = Inherited {
        mirrors: action::mirrors(&scope, at, &pb.request_mirror_policies, &Arc::default())?,
        ..Inherited::default()
    };
    let hosts = pb.virtual_hosts.iter().enumerate();
    let virtual_hosts =
        gather(hosts.map(|(index, host)| virtual_host(&scope, &inherited, &at.item("virtual_hosts", index), host)))?;
    let internal = pb.internal_only_headers.iter().enumerate();
    let internal = internal.map(|(index, name)| header::loose_name(&at.item("internal_only_headers", index), name));
    let host_header =
        (!pb.vhost_header.is_empty()).then(|| header::header_name(&at.field("vhost_header"), &pb.vhost_header));
    Ok(RouteTable {
        name: pb.name.as_str().into(),
        domains: domains(at, &pb.virtual_hosts)?,
        virtual_hosts,
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(scope.known, at, &pb.typed_per_filter_config)?,
        most_specific_wins: pb.most_specific_header_mutations_wins,
        ignore_port_in_host: pb.ignore_port_in_host_matching,
        ignore_path_parameters: pb.ignore_path_parameters_in_path_matching,
        host_header: host_header.transpose()?,
        internal_only_headers: gather(internal)?,
        max_direct_response_body: max_body(pb),
        more_hosts: None,
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

fn virtual_host(
    scope: &action::Scope<'_>,
    above: &Inherited,
    at: &At<'_>,
    pb: &pb::VirtualHost,
) -> Result<VirtualHost> {
    not_empty(at, "name", &pb.name)?;
    if pb.domains.is_empty() {
        return at.field("domains").wrong("must have at least one domain; `*` is any");
    }
    let retry = pb.retry_policy.as_ref().map(|policy| retry::policy(&at.field("retry_policy"), policy));
    let inherited = Inherited {
        retry: retry.transpose()?.map(Arc::new),
        hedge_on_per_try_timeout: pb.hedge_policy.as_ref().is_some_and(|hedge| hedge.hedge_on_per_try_timeout),
        mirrors: action::mirrors(scope, at, &pb.request_mirror_policies, &above.mirrors)?,
    };
    let limit = body_limit(at, &pb.request_body_buffer_limit, &pb.per_request_buffer_limit_bytes)?;
    let routes = pb.routes.iter().enumerate();
    let routes = routes.map(|(index, one)| route(scope, &inherited, limit, &at.item("routes", index), one));
    let groups = pb.virtual_clusters.iter().enumerate();
    let groups = groups.map(|(index, group)| virtual_cluster(&at.item("virtual_clusters", index), group));
    let routes = gather(routes)?;
    Ok(VirtualHost {
        name: pb.name.as_str().into(),
        index: PathIndex::new(&routes),
        routes,
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(scope.known, at, &pb.typed_per_filter_config)?,
        require_tls: match known(at, "require_tls", pb.require_tls)? {
            TlsRequirementType::None => RequireTls::None,
            TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
            TlsRequirementType::All => RequireTls::All,
        },
        include_request_attempt_count: pb.include_request_attempt_count,
        include_attempt_count_in_response: pb.include_attempt_count_in_response,
        include_is_timeout_retry: pb.include_is_timeout_retry_header,
        virtual_clusters: gather(groups)?,
    })
}

fn virtual_cluster(at: &At<'_>, pb: &pb::VirtualCluster) -> Result<VirtualCluster> {
    let name = not_empty(at, "name", &pb.name)?;
    if pb.headers.is_empty() {
        return at.field("headers").wrong("must have at least one header");
    }
    Ok(VirtualCluster { name: name.into(), headers: matcher::headers(at, "headers", &pb.headers)? })
}

/// Bytes of a request body that may be kept. The older field never raises the listener's limit.
fn body_limit(at: &At<'_>, newer: &Option<UInt64Value>, older: &Option<UInt32Value>) -> Result<Option<u64>> {
    match (newer, older) {
        (Some(_), Some(_)) => {
            at.field("request_body_buffer_limit").wrong("cannot be set together with per_request_buffer_limit_bytes")
        }
        (Some(limit), None) => Ok(Some(limit.value)),
        (None, older) => Ok(older.as_ref().map(|limit| u64::from(limit.value.min(DEFAULT_BUFFER)))),
    }
}

fn route(
    scope: &action::Scope<'_>,
    inherited: &Inherited,
    limit: Option<u64>,
    at: &At<'_>,
    pb: &pb::Route,
) -> Result<Route> {
    let wanted = at.required("match", &pb.r#match)?;
    let chosen = at.required("action", &pb.action)?;
    let matches = route_match(&at.field("match"), wanted)?;
    let own = body_limit(at, &pb.request_body_buffer_limit, &pb.per_request_buffer_limit_bytes)?;
    Ok(Route {
        name: pb.name.as_str().into(),
        action: action::action(scope, inherited, at, chosen, &matches.path)?,
        matches,
        stat_prefix: pb.stat_prefix.as_str().into(),
        body_limit: own.or(limit),
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(scope.known, at, &pb.typed_per_filter_config)?,
    })
}

fn route_match(at: &At<'_>, pb: &pb::RouteMatch) -> Result<RouteMatch> {
    let path = path_match(at, pb)?;
    let fraction = pb.runtime_fraction.as_ref();
    let conditions = Conditions {
        headers: matcher::headers(at, "headers", &pb.headers)?,
        query: matcher::query(at, &pb.query_parameters)?,
        cookies: matcher::cookies(at, &pb.cookies)?,
        tls: pb
            .tls_context
            .as_ref()
            .map(|wanted| TlsMatch { presented: flag(&wanted.presented), validated: flag(&wanted.validated) }),
        grpc_only: pb.grpc.is_some(),
        fraction_ppm: fraction.map(|f| matcher::fraction(&at.field("runtime_fraction"), f)).transpose()?,
    };
    Ok(RouteMatch { path, more: (!conditions.is_empty()).then(|| conditions.into()) })
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
        PathSpecifier::PathMatchPolicy(policy) => {
            PathMatch::Template(template::path_match(&at.field("path_match_policy"), policy)?)
        }
    })
}
