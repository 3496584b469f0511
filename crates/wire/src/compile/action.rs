//! What a route does: forward, redirect or answer (`route.v3.RouteAction`, `RedirectAction`, `DirectResponseAction`).

use super::header::{self, header_lists, header_name};
use super::{
    Result, data, duration, filter, flag, follow, format, known, lb, line, lower, matcher, not_empty, retry, shared,
    template, tls, uint,
};
use crate::pb::envoy::config::core::v3::{Metadata, RoutingPriority};
use crate::pb::envoy::config::route::v3 as pb;
use crate::problem::{At, gather};
use model::retry::RetryPolicy;
use model::route::{
    Action, Connect, DirectResponse, Forward, GrpcTimeout, HostRewrite, Mirror, MirrorTarget, PathMatch, PathRewrite,
    Priority, Redirect, RedirectPath, RedirectScheme, Target, WeightedCluster, WeightedClusters,
};
use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
use pb::route_action::{ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier};
use pb::weighted_cluster::{RandomValueSpecifier, cluster_weight};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What the routes of one table share.
pub(super) struct Scope<'a> {
    /// The clusters there are, when they are to be checked.
    pub(super) clusters: Option<&'a BTreeSet<String>>,
    pub(super) known: &'a super::Scope,
    pub(super) table: &'a pb::RouteConfiguration,
}

/// What a route has of its virtual host and table where it says nothing itself.
#[derive(Clone, Default)]
pub(super) struct Inherited {
    pub(super) retry: Option<Arc<RetryPolicy>>,
    pub(super) hedge_on_per_try_timeout: bool,
    pub(super) mirrors: Arc<[Mirror]>,
}

impl Scope<'_> {
    fn cluster(&self, at: &At<'_>, name: &str) -> Result<Arc<str>> {
        if self.clusters.is_some_and(|clusters| !clusters.contains(name)) {
            let text = format!("no cluster is called `{name}`; with validate_clusters: false it may come later");
            return at.wrong(text);
        }
        Ok(name.into())
    }
}

pub(super) fn action(
    scope: &Scope<'_>,
    inherited: &Inherited,
    at: &At<'_>,
    pb: &pb::route::Action,
    matched: &PathMatch,
) -> Result<Action> {
    match pb {
        pb::route::Action::Route(route) => {
            Ok(Action::Forward(Box::new(forward(scope, inherited, &at.field("route"), route, matched)?)))
        }
        pb::route::Action::Redirect(to) => Ok(Action::Redirect(redirect(&at.field("redirect"), to)?.into())),
        pb::route::Action::DirectResponse(answer) => {
            Ok(Action::Respond(respond(scope, &at.field("direct_response"), answer)?.into()))
        }
        pb::route::Action::NonForwardingAction(_) => Ok(Action::NonForwarding),
        pb::route::Action::FilterAction(_) => at.field("filter_action").wrong("is not implemented"),
    }
}

fn forward(
    scope: &Scope<'_>,
    inherited: &Inherited,
    at: &At<'_>,
    pb: &pb::RouteAction,
    matched: &PathMatch,
) -> Result<Forward> {
    let longest = pb.max_stream_duration.as_ref();
    // It replaces the route's timeout.
    let timeout = match longest {
        Some(_) => Duration::ZERO,
        None => duration(at, "timeout", &pb.timeout)?.unwrap_or(Duration::from_secs(15)),
    };
    let own = pb.retry_policy.as_ref().map(|policy| retry::policy(&at.field("retry_policy"), policy));
    Ok(Forward {
        target: target(scope, at, pb)?,
        path_rewrite: path_rewrite(at, pb, matched)?,
        host_rewrite: host_rewrite(at, pb)?,
        append_x_forwarded_host: pb.append_x_forwarded_host,
        timeout,
        idle_timeout: duration(at, "idle_timeout", &pb.idle_timeout)?,
        max_stream_duration: match longest {
            None => None,
            Some(longest) => {
                duration(&at.field("max_stream_duration"), "max_stream_duration", &longest.max_stream_duration)?
            }
        },
        grpc_timeout: grpc_timeout(at, pb)?,
        priority: match known(at, "priority", pb.priority)? {
            RoutingPriority::Default => Priority::Default,
            RoutingPriority::High => Priority::High,
        },
        hedge_on_per_try_timeout: match &pb.hedge_policy {
            Some(hedge) => hedge.hedge_on_per_try_timeout,
            None => inherited.hedge_on_per_try_timeout,
        },
        mirrors: mirrors(scope, at, &pb.request_mirror_policies, &inherited.mirrors)?,
        retry: own.transpose()?.map(Arc::new).or_else(|| inherited.retry.clone()),
        hash: lb::hash_policies(at, &pb.hash_policy)?.into(),
        subset: subset(&[], pb.metadata_match.as_ref()),
        upgrades: upgrades(at, pb)?.into(),
        connect: connect(at, pb)?,
        internal_redirects: follow::policy(at, pb)?.map(Box::new),
        cluster_not_found_status: match known(
            at,
            "cluster_not_found_response_code",
            pb.cluster_not_found_response_code,
        )? {
            ClusterNotFoundResponseCode::ServiceUnavailable => 503,
            ClusterNotFoundResponseCode::NotFound => 404,
            ClusterNotFoundResponseCode::InternalServerError => 500,
        },
    })
}

fn grpc_timeout(at: &At<'_>, pb: &pb::RouteAction) -> Result<GrpcTimeout> {
    if let Some(longest) = &pb.max_stream_duration {
        let at = at.field("max_stream_duration");
        let Some(max) = duration(&at, "grpc_timeout_header_max", &longest.grpc_timeout_header_max)? else {
            return Ok(GrpcTimeout::Ignored);
        };
        let offset = duration(&at, "grpc_timeout_header_offset", &longest.grpc_timeout_header_offset)?;
        return Ok(GrpcTimeout::Stream { max, offset: offset.unwrap_or_default() });
    }
    let offset = duration(at, "grpc_timeout_offset", &pb.grpc_timeout_offset)?.unwrap_or_default();
    let max = duration(at, "max_grpc_timeout", &pb.max_grpc_timeout)?;
    Ok(max.map_or(GrpcTimeout::Ignored, |max| GrpcTimeout::Route { max, offset }))
}

/// `request_mirror_policies` of one level; where there are none, those of the level above.
pub(super) fn mirrors(
    scope: &Scope<'_>,
    at: &At<'_>,
    pb: &[pb::route_action::RequestMirrorPolicy],
    above: &Arc<[Mirror]>,
) -> Result<Arc<[Mirror]>> {
    if pb.is_empty() {
        return Ok(above.clone());
    }
    let mirrors = pb.iter().enumerate();
    let mirrors =
        gather(mirrors.map(|(index, policy)| mirror(scope, &at.item("request_mirror_policies", index), policy)));
    mirrors.map(Arc::from)
}

fn mirror(scope: &Scope<'_>, at: &At<'_>, pb: &pb::route_action::RequestMirrorPolicy) -> Result<Mirror> {
    let target = match (pb.cluster.as_str(), pb.cluster_header.as_str()) {
        ("", "") => return at.field("cluster").wrong("is required, or cluster_header"),
        (cluster, "") => MirrorTarget::Cluster(scope.cluster(&at.field("cluster"), cluster)?),
        ("", header) => MirrorTarget::ClusterHeader(header_name(&at.field("cluster_header"), header)?),
        _ => return at.field("cluster_header").wrong("cannot be set together with cluster"),
    };
    let fraction = pb.runtime_fraction.as_ref();
    let fraction = fraction.map(|fraction| matcher::fraction(&at.field("runtime_fraction"), fraction));
    Ok(Mirror {
        target,
        fraction_ppm: fraction.transpose()?.unwrap_or(1_000_000),
        keep_host: pb.disable_shadow_host_suffix_append,
        host: (!pb.host_rewrite_literal.is_empty()).then(|| pb.host_rewrite_literal.as_str().into()),
        mutations: header::mutations(at, "request_headers_mutations", &pb.request_headers_mutations)?,
    })
}

fn upgrades(at: &At<'_>, pb: &pb::RouteAction) -> Result<Vec<(Box<str>, bool)>> {
    let mut upgrades: Vec<(Box<str>, bool)> = Vec::new();
    for (index, upgrade) in pb.upgrade_configs.iter().enumerate() {
        let at = at.item("upgrade_configs", index);
        let name = lower(not_empty(&at, "upgrade_type", &upgrade.upgrade_type)?);
        if upgrades.iter().any(|(other, _)| *other == name) {
            return at.field("upgrade_type").wrong(format!("`{name}` is configured twice"));
        }
        upgrades.push((name, flag(&upgrade.enabled).unwrap_or(true)));
    }
    Ok(upgrades)
}

/// `connect_config`, which only the entry for CONNECT may have.
fn connect(at: &At<'_>, pb: &pb::RouteAction) -> Result<Option<Connect>> {
    let mut found = None;
    for (index, upgrade) in pb.upgrade_configs.iter().enumerate() {
        let Some(config) = &upgrade.connect_config else { continue };
        let at = at.item("upgrade_configs", index);
        let at = at.field("connect_config");
        if &*lower(&upgrade.upgrade_type) != "connect" {
            return at.wrong("is for the upgrade type CONNECT only");
        }
        let version = config.proxy_protocol_config.as_ref();
        let version = version.map(|config| tls::proxy_version(&at.field("proxy_protocol_config"), config));
        found = Some(Connect { proxy_protocol: version.transpose()?, allow_post: config.allow_post });
    }
    Ok(found)
}

fn target(scope: &Scope<'_>, at: &At<'_>, pb: &pb::RouteAction) -> Result<Target> {
    match at.required("cluster_specifier", &pb.cluster_specifier)? {
        ClusterSpecifier::Cluster(name) => {
            not_empty(at, "cluster", name)?;
            Ok(Target::Cluster(scope.cluster(&at.field("cluster"), name)?))
        }
        ClusterSpecifier::ClusterHeader(name) => {
            Ok(Target::ClusterHeader(header_name(&at.field("cluster_header"), name)?))
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            let of_route = subset(&[], pb.metadata_match.as_ref());
            let weighted = weighted_clusters(scope, &at.field("weighted_clusters"), weighted, &of_route)?;
            Ok(Target::Weighted(weighted.into()))
        }
        ClusterSpecifier::ClusterSpecifierPlugin(_) => at.field("cluster_specifier_plugin").wrong("is not implemented"),
        ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            at.field("inline_cluster_specifier_plugin").wrong("is not implemented")
        }
    }
}

/// The subset that `metadata_match` asks for, over what `of_route` asks for already.
pub(super) fn subset(of_route: &[(Box<str>, Box<str>)], pb: Option<&Metadata>) -> Arc<[(Box<str>, Box<str>)]> {
    let own = pb.and_then(|metadata| metadata.filter_metadata.get("envoy.lb")).map(data::pairs).unwrap_or_default();
    let inherited = of_route.iter().filter(|(key, _)| !own.iter().any(|(other, _)| other == key)).cloned();
    let mut all: Vec<_> = inherited.chain(own.iter().cloned()).collect();
    all.sort();
    shared(all)
}

fn weighted_clusters(
    scope: &Scope<'_>,
    at: &At<'_>,
    pb: &pb::WeightedCluster,
    of_route: &[(Box<str>, Box<str>)],
) -> Result<WeightedClusters> {
    if pb.clusters.is_empty() {
        return at.field("clusters").wrong("must have at least one cluster");
    }
    let clusters = pb.clusters.iter().enumerate();
    let clusters = clusters.map(|(index, one)| weighted_cluster(scope, &at.item("clusters", index), one, of_route));
    let clusters = gather(clusters)?;
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if total == 0 {
        return at.field("clusters").wrong("the sum of the weights must be greater than 0");
    }
    if total > u64::from(u32::MAX) {
        return at.field("clusters").wrong("the sum of the weights must not exceed 4294967295");
    }
    let header_name = match &pb.random_value_specifier {
        None => None,
        Some(RandomValueSpecifier::HeaderName(name)) => Some(header_name(&at.field("header_name"), name)?),
        Some(RandomValueSpecifier::UseHashPolicy(_)) => None,
    };
    let by_hash = matches!(&pb.random_value_specifier, Some(RandomValueSpecifier::UseHashPolicy(on)) if on.value);
    Ok(WeightedClusters { clusters, total, header_name, by_hash })
}

fn weighted_cluster(
    scope: &Scope<'_>,
    at: &At<'_>,
    pb: &pb::weighted_cluster::ClusterWeight,
    of_route: &[(Box<str>, Box<str>)],
) -> Result<WeightedCluster> {
    let host = pb.host_rewrite_specifier.as_ref();
    let (name, name_header) = match (pb.name.as_str(), pb.cluster_header.as_str()) {
        ("", "") => return at.field("name").wrong("must not be empty; or give cluster_header"),
        (name, "") => (scope.cluster(&at.field("name"), name)?, None),
        ("", header) => ("".into(), Some(header_name(&at.field("cluster_header"), header)?)),
        _ => return at.field("cluster_header").wrong("cannot be set together with name"),
    };
    Ok(WeightedCluster {
        name,
        name_header,
        weight: uint(&pb.weight).unwrap_or(0),
        edits: header::edits(at, &header_lists!(pb))?,
        filters: filter::of_route(scope.known, at, &pb.typed_per_filter_config)?,
        host_rewrite: host.map(|cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(text)| text.as_str().into()),
        subset: subset(of_route, pb.metadata_match.as_ref()),
    })
}

fn path_rewrite(at: &At<'_>, pb: &pb::RouteAction, matched: &PathMatch) -> Result<PathRewrite> {
    let given = [
        ("prefix_rewrite", !pb.prefix_rewrite.is_empty()),
        ("regex_rewrite", pb.regex_rewrite.is_some()),
        ("path_rewrite_policy", pb.path_rewrite_policy.is_some()),
        ("path_rewrite", !pb.path_rewrite.is_empty()),
    ];
    let mut given = given.into_iter().filter(|(_, set)| *set).map(|(name, _)| name);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        return at.field(second).wrong(format!("cannot be set together with {first}"));
    }
    if let Some(rewrite) = &pb.regex_rewrite {
        return Ok(PathRewrite::Regex(matcher::substitution(&at.field("regex_rewrite"), rewrite)?.into()));
    }
    if let Some(policy) = &pb.path_rewrite_policy {
        let rewrite = template::rewrite(&at.field("path_rewrite_policy"), policy, matched)?;
        return Ok(PathRewrite::Regex(rewrite.into()));
    }
    if !pb.path_rewrite.is_empty() {
        return Ok(PathRewrite::Full(format::format(&at.field("path_rewrite"), &pb.path_rewrite)?));
    }
    Ok(if pb.prefix_rewrite.is_empty() {
        PathRewrite::None
    } else {
        PathRewrite::Prefix(pb.prefix_rewrite.as_str().into())
    })
}

fn host_rewrite(at: &At<'_>, pb: &pb::RouteAction) -> Result<HostRewrite> {
    Ok(match &pb.host_rewrite_specifier {
        None => HostRewrite::None,
        Some(HostRewriteSpecifier::HostRewriteLiteral(text)) => HostRewrite::Literal(text.as_str().into()),
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) if on.value => HostRewrite::Auto,
        Some(HostRewriteSpecifier::AutoHostRewrite(_)) => HostRewrite::None,
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            HostRewrite::Header(header_name(&at.field("host_rewrite_header"), name)?)
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            HostRewrite::PathRegex(matcher::substitution(&at.field("host_rewrite_path_regex"), rewrite)?.into())
        }
        Some(HostRewriteSpecifier::HostRewrite(_)) => return at.field("host_rewrite").wrong("is not implemented"),
    })
}

fn redirect(at: &At<'_>, pb: &pb::RedirectAction) -> Result<Redirect> {
    let port = (pb.port_redirect != 0).then(|| super::address::port16(at, "port_redirect", pb.port_redirect));
    Ok(Redirect {
        status: match known(at, "response_code", pb.response_code)? {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        },
        scheme: match &pb.scheme_rewrite_specifier {
            None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => RedirectScheme::Keep,
            Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => RedirectScheme::Https,
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => RedirectScheme::Other(scheme.as_str().into()),
        },
        host: (!pb.host_redirect.is_empty()).then(|| pb.host_redirect.as_str().into()),
        port: port.transpose()?,
        path: match &pb.path_rewrite_specifier {
            None => RedirectPath::Keep,
            Some(PathRewriteSpecifier::PathRedirect(path)) => RedirectPath::Full(path.as_str().into()),
            Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => RedirectPath::Prefix(prefix.as_str().into()),
            Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
                RedirectPath::Regex(matcher::substitution(&at.field("regex_rewrite"), rewrite)?.into())
            }
            Some(PathRewriteSpecifier::PathRewrite(text)) => {
                RedirectPath::Formatted(format::format(&at.field("path_rewrite"), text)?)
            }
        },
        strip_query: pb.strip_query,
    })
}

fn respond(scope: &Scope<'_>, at: &At<'_>, pb: &pb::DirectResponseAction) -> Result<DirectResponse> {
    let status = u16::try_from(pb.status).ok().filter(|status| (200..600).contains(status));
    let Some(status) = status else {
        return at.field("status").wrong(format!("{} is not a status from 200 to 599", pb.status));
    };
    let body = match &pb.body {
        None => Vec::new(),
        Some(body) => data::bytes(&at.field("body"), body)?,
    };
    let limit = super::route::max_body(scope.table);
    if body.len() > limit as usize {
        let text = format!("has {} bytes; max_direct_response_body_size_bytes allows {limit}", body.len());
        return at.field("body").wrong(text);
    }
    let format = pb.body_format.as_ref().map(|body| line::body(&at.field("body_format"), body)).transpose()?;
    Ok(DirectResponse { status, body: body.into(), format })
}
