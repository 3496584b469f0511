//! Routes of a service's port: its HTTPRoutes in Gateway API's order, or else straight to its cluster.

use std::time::Duration;

use api::kinds::http_route::{
    BackendRef, Filter, Header, HeaderModifier, Match, PathKind, PathModifier, PathModifierKind, Redirect, Rule,
    Scheme, Timeouts, UrlRewrite,
};
use api::kinds::{AppProtocol, TimeSpan};
use wire::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use wire::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use wire::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use wire::pb::envoy::config::route::v3::retry_policy::RetryHostPredicate;
use wire::pb::envoy::config::route::v3::route::Action;
use wire::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, MaxStreamDuration,
};
use wire::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use wire::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RetryPolicy, Route, RouteAction, RouteConfiguration, VirtualHost,
    WeightedCluster, retry_policy,
};
use wire::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use wire::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::Agent;
use super::message::{any, containing, duration, number, regex};
use super::route_match::{any_request, header_matcher, precedence, route_match};
use crate::registry::{Registry, Service, ServicePort, cluster_name};

/// Envoy's own default, and so what its users expect.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
/// The server's side says in `proxy-status` that the request never reached the application.
const NEVER_PROCESSED: [&str; 2] = ["error=connection_refused", "error=destination_unavailable"];

pub(super) fn table_name(service: &Service, port: &ServicePort) -> String {
    format!("{}:{}", service.host, port.number)
}

pub(super) fn table(registry: &Registry, service: &Service, port: &ServicePort, agent: Agent) -> RouteConfiguration {
    let name = table_name(service, port);
    let host = virtual_host(registry, service, port, vec!["*".into()], agent);
    RouteConfiguration { name, virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

pub(super) fn virtual_host(
    registry: &Registry,
    service: &Service,
    port: &ServicePort,
    domains: Vec<String>,
    agent: Agent,
) -> VirtualHost {
    let routes = routes(registry, service, port, agent);
    VirtualHost { name: table_name(service, port), domains, routes, ..VirtualHost::default() }
}

fn routes(registry: &Registry, service: &Service, port: &ServicePort, agent: Agent) -> Vec<Route> {
    let maker = Maker { namespace: &service.namespace, protocol: port.protocol, agent };
    let everything = [Match::default()];
    let mut ordered = Vec::new();
    for attached in registry.routes(&service.host, port.number) {
        let Some(spec) = attached.spec() else { continue };
        let name = &attached.object.meta.name;
        for rule in &spec.rules {
            let matches = if rule.matches.is_empty() { everything.as_slice() } else { &rule.matches };
            for matched in matches {
                ordered.push((precedence(matched), maker.route(name, rule, matched)));
            }
        }
    }
    if ordered.is_empty() {
        let action = maker.forward(ClusterSpecifier::Cluster(port.cluster_name(service)), &Timeouts::default());
        return vec![Route { r#match: Some(any_request()), action: Some(Action::Route(action)), ..Route::default() }];
    }
    // Stable: between equals, the order of objects and of their rules stays.
    ordered.sort_by_key(|(precedence, _)| *precedence);
    ordered.into_iter().map(|(_, route)| route).collect()
}

struct Maker<'a> {
    namespace: &'a str,
    protocol: AppProtocol,
    agent: Agent,
}

impl Maker<'_> {
    fn route(&self, name: &str, rule: &Rule, matched: &Match) -> Route {
        let mut route =
            Route { name: name.to_owned(), r#match: Some(route_match(matched, self.agent)), ..Route::default() };
        let redirect = rule.filters.iter().find_map(|filter| filter.request_redirect.as_ref());
        route.action = Some(match redirect {
            Some(redirect) => Action::Redirect(redirect_action(redirect, matched)),
            None => self.backends(rule, matched),
        });
        for filter in &rule.filters {
            edit_headers(filter, &mut route);
        }
        route
    }

    fn backends(&self, rule: &Rule, matched: &Match) -> Action {
        let weighted: Vec<&BackendRef> = rule.backend_refs.iter().filter(|backend| backend.weight > 0).collect();
        let target = match weighted.as_slice() {
            // Nobody to send to is the configuration's mistake, and Gateway API says which status that is.
            [] => {
                return Action::DirectResponse(DirectResponseAction { status: 500, body: None, ..Default::default() });
            }
            [one] => ClusterSpecifier::Cluster(self.cluster(one)),
            several => ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: several.iter().map(|backend| self.weighted(backend)).collect(),
                ..WeightedCluster::default()
            }),
        };
        let mut action = self.forward(target, &rule.timeouts);
        for rewrite in rule.filters.iter().filter_map(|filter| filter.url_rewrite.as_ref()) {
            rewrite_url(rewrite, matched, &mut action);
        }
        Action::Route(action)
    }

    fn weighted(&self, backend: &BackendRef) -> ClusterWeight {
        ClusterWeight { name: self.cluster(backend), weight: number(backend.weight), ..ClusterWeight::default() }
    }

    /// The name of a backend's cluster, which need not exist.
    fn cluster(&self, backend: &BackendRef) -> String {
        cluster_name(&Registry::host(&backend.name, self.namespace), backend.port.map_or(0, |port| port.0))
    }

    fn forward(&self, target: ClusterSpecifier, timeouts: &Timeouts) -> RouteAction {
        let span = |span: Option<TimeSpan>| span.map(|span| span.0);
        // A gRPC call may be a stream without an end; its deadline is the caller's.
        let default = if self.protocol == AppProtocol::Grpc { Duration::ZERO } else { DEFAULT_TIMEOUT };
        let timeout = span(timeouts.request).unwrap_or(default);
        let mut action = RouteAction { cluster_specifier: Some(target), ..RouteAction::default() };
        if self.agent == Agent::Grpc {
            let limit = MaxStreamDuration { max_stream_duration: duration(timeout), ..MaxStreamDuration::default() };
            action.max_stream_duration = (!timeout.is_zero()).then_some(limit);
        } else {
            action.cluster_not_found_response_code = ClusterNotFoundResponseCode::InternalServerError as i32;
            action.timeout = duration(timeout);
        }
        action.retry_policy = Some(self.retries(span(timeouts.backend_request)));
        action
    }

    /// Only what was never processed, or may be processed twice, is sent again, and to another endpoint.
    fn retries(&self, per_try: Option<Duration>) -> RetryPolicy {
        if self.agent == Agent::Grpc {
            return RetryPolicy { retry_on: "unavailable".into(), num_retries: number(3), ..RetryPolicy::default() };
        }
        let mut retry_on = "connect-failure,refused-stream,reset-before-request,retriable-headers".to_owned();
        if self.agent == Agent::Ripstop {
            retry_on.push_str(",reset-if-idempotent");
        }
        let previous = retry_policy::retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate {}));
        RetryPolicy {
            retry_on,
            num_retries: number(3),
            per_try_timeout: per_try.filter(|limit| !limit.is_zero()).and_then(duration),
            retriable_headers: NEVER_PROCESSED
                .into_iter()
                .map(|reason| header_matcher("proxy-status", containing(reason)))
                .collect(),
            retry_host_predicate: vec![RetryHostPredicate {
                name: "envoy.retry_host_predicates.previous_hosts".into(),
                config_type: Some(previous),
            }],
            host_selection_retry_max_attempts: 5,
            ..RetryPolicy::default()
        }
    }
}

fn redirect_action(redirect: &Redirect, matched: &Match) -> RedirectAction {
    let code = match redirect.status_code.unwrap_or(302) {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    let scheme = redirect.scheme.map(|scheme| match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    });
    let path = redirect.path.as_ref().map(|path| match rewritten(path, matched) {
        Rewritten::Full(path) => PathRewriteSpecifier::PathRedirect(path),
        Rewritten::Prefix(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix),
        Rewritten::Pattern(pattern) => PathRewriteSpecifier::RegexRewrite(pattern),
    });
    RedirectAction {
        host_redirect: redirect.hostname.clone().unwrap_or_default(),
        port_redirect: redirect.port.map_or(0, |port| port.0.into()),
        response_code: code as i32,
        scheme_rewrite_specifier: scheme.map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned())),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    }
}

fn rewrite_url(rewrite: &UrlRewrite, matched: &Match, action: &mut RouteAction) {
    if let Some(host) = &rewrite.hostname {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host.clone()));
    }
    match rewrite.path.as_ref().map(|path| rewritten(path, matched)) {
        Some(Rewritten::Full(path)) => action.regex_rewrite = Some(substitute("^/.*", &escape(&path))),
        Some(Rewritten::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(Rewritten::Pattern(pattern)) => action.regex_rewrite = Some(pattern),
        None => {}
    }
}

enum Rewritten {
    Full(String),
    Prefix(String),
    Pattern(RegexMatchAndSubstitute),
}

fn rewritten(modifier: &PathModifier, matched: &Match) -> Rewritten {
    if modifier.kind == PathModifierKind::ReplaceFullPath {
        return Rewritten::Full(modifier.replace_full_path.clone().unwrap_or_default());
    }
    let new = modifier.replace_prefix_match.as_deref().unwrap_or_default().trim_end_matches('/');
    let old = match matched.path.kind {
        PathKind::PathPrefix => matched.path.value.trim_end_matches('/'),
        _ => "",
    };
    match (old, new) {
        // What remains begins with a slash, which must neither double nor get lost.
        ("", new) => Rewritten::Prefix(format!("{new}/")),
        (old, "") => Rewritten::Pattern(substitute(&format!("^{}/?", quote(old)), "/")),
        (_, new) => Rewritten::Prefix(new.to_owned()),
    }
}

fn substitute(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution: substitution.to_owned() }
}

/// Backslashes refer to groups in a substitution.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
}

/// A pattern that matches `text` and nothing else.
fn quote(text: &str) -> String {
    let special = |c: char| !c.is_ascii_alphanumeric() && !"/-_~%".contains(c) && c.is_ascii();
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn edit_headers(filter: &Filter, route: &mut Route) {
    if let Some(modifier) = &filter.request_header_modifier {
        route.request_headers_to_add.extend(additions(modifier));
        route.request_headers_to_remove.extend(modifier.remove.iter().cloned());
    }
    if let Some(modifier) = &filter.response_header_modifier {
        route.response_headers_to_add.extend(additions(modifier));
        route.response_headers_to_remove.extend(modifier.remove.iter().cloned());
    }
}

fn additions(modifier: &HeaderModifier) -> Vec<HeaderValueOption> {
    let one = |header: &Header, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue {
            key: header.name.clone(),
            // A percent sign would begin an operator.
            value: header.value.replace('%', "%%"),
            ..HeaderValue::default()
        }),
        append_action: action as i32,
        keep_empty_value: true,
        ..HeaderValueOption::default()
    };
    let set = modifier.set.iter().map(|header| one(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = modifier.add.iter().map(|header| one(header, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}
