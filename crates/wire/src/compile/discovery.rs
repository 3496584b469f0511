//! How a cluster finds its endpoints: `type`, or an extension in `cluster_type`.

use super::source::source;
use super::{Context, Result, address, duration, endpoint, flag, known, lower, not_empty, positive, uint, unpack};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::pb::envoy::extensions::clusters::aggregate::v3::ClusterConfig;
use crate::pb::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily as TypedFamily;
use crate::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use crate::pb::envoy::extensions::clusters::original_dst::v3::OriginalDstCluster;
use crate::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use crate::pb::google::protobuf::Any;
use crate::problem::{At, gather};
use crate::schema::type_name;
use model::address::Address;
use model::cluster::{Discovery, DnsFamily, DnsOptions, OriginalDst};
use pb::cluster::{ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, LbConfig, LbPolicy};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const DNS: &str = "envoy.extensions.clusters.dns.v3.DnsCluster";
const CARES: &str = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";
const AGGREGATE: &str = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";
const ORIGINAL_DST: &str = "envoy.extensions.clusters.original_dst.v3.OriginalDstCluster";

pub(super) fn discovery(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster) -> Result<Discovery> {
    if let Some(load) = &pb.load_assignment {
        not_empty(&at.field("load_assignment"), "cluster_name", &load.cluster_name)?;
    }
    match &pb.cluster_discovery_type {
        None => of_type(cx, at, pb, DiscoveryType::Static),
        Some(ClusterDiscoveryType::Type(number)) => of_type(cx, at, pb, known(at, "type", *number)?),
        Some(ClusterDiscoveryType::ClusterType(custom)) => extension(cx, at, pb, custom),
    }
}

fn of_type(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster, kind: DiscoveryType) -> Result<Discovery> {
    match kind {
        DiscoveryType::Static => {
            let load = pb.load_assignment.clone().unwrap_or_default();
            let names = endpoint::Names::AddressesOnly;
            let assignment = endpoint::assignment(&at.field("load_assignment"), names, &load)?;
            Ok(Discovery::Static(Arc::new(assignment)))
        }
        DiscoveryType::StrictDns => by_dns(at, pb, false, dns(at, pb)?),
        DiscoveryType::LogicalDns => by_dns(at, pb, true, dns(at, pb)?),
        DiscoveryType::Eds => eds(cx, at, pb),
        DiscoveryType::OriginalDst => {
            let config = match &pb.lb_config {
                Some(LbConfig::OriginalDstLbConfig(config)) => Some(config),
                _ => None,
            };
            let place = at.field("original_dst_lb_config");
            let header = config.filter(|config| config.use_http_header).map(|config| config.http_header_name.as_str());
            let port = config.and_then(|config| uint(&config.upstream_port_override));
            original_dst(at, pb, header, port.map(|port| address::port16(&place, "upstream_port_override", port)))
        }
    }
}

fn extension(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster, custom: &CustomClusterType) -> Result<Discovery> {
    let place = at.field("cluster_type");
    let Some(any) = &custom.typed_config else {
        let kind = match custom.name.as_str() {
            "envoy.cluster.static" => DiscoveryType::Static,
            "envoy.cluster.strict_dns" => DiscoveryType::StrictDns,
            "envoy.cluster.logical_dns" => DiscoveryType::LogicalDns,
            "envoy.cluster.eds" => DiscoveryType::Eds,
            "envoy.cluster.original_dst" => DiscoveryType::OriginalDst,
            _ => return place.field("typed_config").wrong("is required"),
        };
        return of_type(cx, at, pb, kind);
    };
    let inner = place.field("typed_config");
    match type_name(&any.type_url) {
        DNS => {
            let config: DnsCluster = unpack(&inner, any)?;
            by_dns(at, pb, config.all_addresses_in_single_endpoint, typed_dns(&inner, at, pb, &config)?)
        }
        AGGREGATE => aggregate(at, &inner, pb, any),
        ORIGINAL_DST => {
            let config: OriginalDstCluster = unpack(&inner, any)?;
            let header = config.use_http_header.then_some(config.http_header_name.as_str());
            let port = uint(&config.upstream_port_override);
            original_dst(at, pb, header, port.map(|port| address::port16(&inner, "upstream_port_override", port)))
        }
        other => inner.wrong(format!("cluster type `{other}` is not implemented; dns, aggregate and original_dst are")),
    }
}

fn aggregate(at: &At<'_>, inner: &At<'_>, pb: &pb::Cluster, any: &Any) -> Result<Discovery> {
    provides_balancing(at, pb)?;
    let config: ClusterConfig = unpack(inner, any)?;
    if config.clusters.is_empty() {
        return inner.field("clusters").wrong("must name at least one cluster");
    }
    Ok(Discovery::Aggregate(config.clusters.iter().map(|name| name.as_str().into()).collect()))
}

/// Such a cluster chooses by itself.
fn provides_balancing(at: &At<'_>, pb: &pb::Cluster) -> Result<()> {
    match pb.lb_policy == LbPolicy::ClusterProvided as i32 {
        true => Ok(()),
        false => at.field("lb_policy").wrong("must be CLUSTER_PROVIDED for this type of cluster"),
    }
}

fn original_dst(at: &At<'_>, pb: &pb::Cluster, header: Option<&str>, port: Option<Result<u16>>) -> Result<Discovery> {
    provides_balancing(at, pb)?;
    if pb.load_assignment.is_some() {
        return at.field("load_assignment").wrong("cannot be given for a cluster of type ORIGINAL_DST");
    }
    let header = header.map(|name| if name.is_empty() { "x-envoy-original-dst-host".into() } else { lower(name) });
    let cleanup = positive(at, "cleanup_interval", &pb.cleanup_interval)?;
    Ok(Discovery::OriginalDst(OriginalDst {
        header,
        port: port.transpose()?,
        cleanup: cleanup.unwrap_or(Duration::from_secs(5)),
    }))
}

fn eds(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster) -> Result<Discovery> {
    if pb.load_assignment.is_some() {
        return at.field("load_assignment").wrong("cannot be given for a cluster of type EDS");
    }
    let at = at.field("eds_cluster_config");
    let Some(config) = &pb.eds_cluster_config else { return at.wrong("is required for a cluster of type EDS") };
    let source = source(&at.field("eds_config"), at.required("eds_config", &config.eds_config)?)?;
    let name = if config.service_name.is_empty() { &pb.name } else { &config.service_name };
    let name: Arc<str> = name.as_str().into();
    cx.need(ResourceKind::Endpoints, name.clone(), source);
    Ok(Discovery::Eds(name))
}

fn by_dns(at: &At<'_>, pb: &pb::Cluster, logical: bool, dns: DnsOptions) -> Result<Discovery> {
    let place = at.field("load_assignment");
    let load = pb.load_assignment.clone().unwrap_or_default();
    let assignment = Arc::new(endpoint::assignment(&place, endpoint::Names::Allowed, &load)?);
    if !logical {
        return Ok(Discovery::StrictDns { assignment, dns: dns.into() });
    }
    one_endpoint(&place, &load)?;
    Ok(Discovery::LogicalDns { assignment, dns: dns.into() })
}

fn one_endpoint(at: &At<'_>, load: &ClusterLoadAssignment) -> Result<()> {
    match load.endpoints.as_slice() {
        [one] if one.lb_endpoints.len() == 1 => Ok(()),
        [_] => at.item("endpoints", 0).field("lb_endpoints").wrong("LOGICAL_DNS has exactly one endpoint"),
        _ => at.field("endpoints").wrong("LOGICAL_DNS has exactly one locality with one endpoint"),
    }
}

fn dns(at: &At<'_>, pb: &pb::Cluster) -> Result<DnsOptions> {
    let refresh = positive(at, "dns_refresh_rate", &pb.dns_refresh_rate)?.unwrap_or(Duration::from_secs(5));
    let rate = pb.dns_failure_refresh_rate.as_ref().map(|rate| (&rate.base_interval, &rate.max_interval));
    let (failure_base, failure_max) = failure(at, rate, refresh)?;
    let asked = asked(at, pb.typed_dns_resolver_config.as_ref(), pb)?;
    Ok(DnsOptions {
        refresh,
        respect_ttl: pb.respect_dns_ttl,
        min_refresh: Duration::ZERO,
        jitter: duration(at, "dns_jitter", &pb.dns_jitter)?.unwrap_or_default(),
        family: match known(at, "dns_lookup_family", pb.dns_lookup_family)? {
            DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        },
        resolvers: asked.resolvers,
        tcp_only: asked.tcp_only,
        absolute_names: asked.absolute_names,
        failure_base,
        failure_max,
        wait_at_start: flag(&pb.wait_for_warm_on_init).unwrap_or(true),
    })
}

fn typed_dns(inner: &At<'_>, at: &At<'_>, pb: &pb::Cluster, config: &DnsCluster) -> Result<DnsOptions> {
    let refresh = positive(inner, "dns_refresh_rate", &config.dns_refresh_rate)?.unwrap_or(Duration::from_secs(5));
    let rate = config.dns_failure_refresh_rate.as_ref().map(|rate| (&rate.base_interval, &rate.max_interval));
    let (failure_base, failure_max) = failure(inner, rate, refresh)?;
    let asked = match &config.typed_dns_resolver_config {
        Some(own) => asked(inner, Some(own), pb)?,
        None => asked(at, pb.typed_dns_resolver_config.as_ref(), pb)?,
    };
    let min_refresh = duration(inner, "dns_min_refresh_rate", &config.dns_min_refresh_rate)?.unwrap_or_default();
    if !min_refresh.is_zero() && min_refresh < Duration::from_secs(1) {
        return inner.field("dns_min_refresh_rate").wrong("must be at least 1s");
    }
    Ok(DnsOptions {
        refresh,
        respect_ttl: config.respect_dns_ttl,
        min_refresh,
        jitter: duration(inner, "dns_jitter", &config.dns_jitter)?.unwrap_or_default(),
        family: match known(inner, "dns_lookup_family", config.dns_lookup_family)? {
            TypedFamily::Unspecified | TypedFamily::Auto => DnsFamily::Auto,
            TypedFamily::V4Only => DnsFamily::V4Only,
            TypedFamily::V6Only => DnsFamily::V6Only,
            TypedFamily::V4Preferred => DnsFamily::V4Preferred,
            TypedFamily::All => DnsFamily::All,
        },
        resolvers: asked.resolvers,
        tcp_only: asked.tcp_only,
        absolute_names: asked.absolute_names,
        failure_base,
        failure_max,
        wait_at_start: flag(&pb.wait_for_warm_on_init).unwrap_or(true),
    })
}

type Pb = Option<crate::pb::google::protobuf::Duration>;

/// First and longest wait after a failure; the refresh rate unless configured.
fn failure(at: &At<'_>, rate: Option<(&Pb, &Pb)>, refresh: Duration) -> Result<(Duration, Duration)> {
    let Some((base, longest)) = rate else { return Ok((refresh, refresh)) };
    let at = at.field("dns_failure_refresh_rate");
    let base = positive(&at, "base_interval", base)?;
    let base = base.ok_or_else(|| at.field("base_interval").problem("is required"))?;
    let longest = positive(&at, "max_interval", longest)?.unwrap_or(base * 10);
    if longest < base {
        return at.field("max_interval").wrong("must not be less than base_interval");
    }
    Ok((base, longest))
}

/// Whom to ask, and how.
#[derive(Default)]
struct Asked {
    resolvers: Vec<SocketAddr>,
    tcp_only: bool,
    absolute_names: bool,
}

/// The resolver extension comes before the older fields of the cluster.
fn asked(at: &At<'_>, typed: Option<&core::TypedExtensionConfig>, pb: &pb::Cluster) -> Result<Asked> {
    let asked = read_asked(at, typed, pb)?;
    if asked.tcp_only && asked.resolvers.is_empty() {
        return at.wrong("use_tcp_for_dns_lookups needs resolvers; for the system's it is not implemented");
    }
    Ok(asked)
}

fn read_asked(at: &At<'_>, typed: Option<&core::TypedExtensionConfig>, pb: &pb::Cluster) -> Result<Asked> {
    let Some(extension) = typed else {
        let resolvers = resolvers(at, "dns_resolvers", &pb.dns_resolvers)?;
        return Ok(Asked { resolvers, tcp_only: pb.use_tcp_for_dns_lookups, absolute_names: false });
    };
    let at = at.field("typed_dns_resolver_config");
    let any = at.required("typed_config", &extension.typed_config)?;
    let at = at.field("typed_config");
    if type_name(&any.type_url) != CARES {
        return at.wrong(format!("resolver `{}` is not implemented; cares is", type_name(&any.type_url)));
    }
    let config: CaresDnsResolverConfig = unpack(&at, any)?;
    let options = config.dns_resolver_options.unwrap_or_default();
    Ok(Asked {
        resolvers: resolvers(&at, "resolvers", &config.resolvers)?,
        tcp_only: options.use_tcp_for_dns_lookups,
        absolute_names: options.no_default_search_domain,
    })
}

fn resolvers(at: &At<'_>, field: &str, list: &[core::Address]) -> Result<Vec<SocketAddr>> {
    gather(list.iter().enumerate().map(|(index, resolver)| {
        let at = at.item(field, index);
        match address::address(&at, resolver)? {
            Address::Tcp(address) => Ok(address),
            Address::Unix(_) => at.wrong("a resolver has an IP address and a port"),
        }
    }))
}
