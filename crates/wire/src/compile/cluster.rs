//! Clusters (`cluster.v3.Cluster`).

use super::cluster_http::{self, HttpUpstream};
use super::source::source;
use super::{Context, Result, address, endpoint, flag, hash_of, known, not_empty, positive, tls, uint};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::pb::envoy::config::core::v3 as core;
use crate::problem::{At, gather};
use model::address::Address;
use model::cluster::{
    Cluster, Discovery, DnsFamily, DnsOptions, Limits, OutlierDetection, RetryBudget, TcpKeepalive, TlsMatch,
    UpstreamProtocol,
};
use model::tls::ClientTls;
use pb::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
use std::sync::Arc;
use std::time::Duration;

pub fn cluster(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster) -> Result<Cluster> {
    let name = not_empty(at, "name", &pb.name)?;
    let http = cluster_http::upstream(at, pb)?;
    let socket = pb.transport_socket.as_ref();
    let tls = socket.map(|socket| client_tls(cx, &at.field("transport_socket"), &http, socket)).transpose()?.flatten();
    if http.protocol == UpstreamProtocol::Alpn && tls.is_none() {
        return at.field("transport_socket").wrong("must be TLS: auto_config chooses the protocol by ALPN");
    }
    let outlier = pb.outlier_detection.as_ref();
    let connection = pb.upstream_connection_options.as_ref();
    let common_lb = pb.common_lb_config.as_ref();
    let stat_name = if pb.alt_stat_name.is_empty() { name } else { pb.alt_stat_name.as_str() };
    let timeout = positive(at, "connect_timeout", &pb.connect_timeout)?;
    Ok(Cluster {
        name: name.into(),
        stat_name: stat_name.into(),
        discovery: discovery(cx, at, pb)?,
        policy: super::lb::policy(at, pb)?,
        connect_timeout: timeout.unwrap_or(Duration::from_secs(5)),
        protocol: http.protocol.clone(),
        http2: http.http2.clone(),
        tls,
        tls_matches: tls_matches(cx, at, &http, pb)?,
        limits: limits(at, pb)?,
        max_connections_per_host: max_connections_per_host(pb),
        max_stream_duration: http.max_stream_duration,
        outlier: outlier.map(|outlier| outlier_detection(&at.field("outlier_detection"), outlier)).transpose()?,
        health_check: super::health::check(at, pb)?.map(Arc::new),
        ignore_new_hosts_until_first_check: common_lb.is_some_and(|config| config.ignore_new_hosts_until_first_hc),
        close_connections_on_health_failure: pb.close_connections_on_host_health_failure,
        ignore_health_on_host_removal: pb.ignore_health_on_host_removal,
        idle_timeout: http.idle_timeout,
        max_requests_per_connection: http.max_requests_per_connection,
        tcp_keepalive: connection.and_then(|options| options.tcp_keepalive.as_ref()).map(tcp_keepalive),
        close_connections_on_host_removal: false,
        buffer_limit: uint(&pb.per_connection_buffer_limit_bytes).unwrap_or(1 << 20) as usize,
        panic_threshold: panic_threshold(at, pb)?,
        hash: hash_of(pb),
    })
}

fn client_tls(
    cx: &mut Context<'_>,
    at: &At<'_>,
    http: &HttpUpstream,
    socket: &core::TransportSocket,
) -> Result<Option<Arc<ClientTls>>> {
    let tls = tls::client(cx, at, socket)?;
    Ok(tls.map(|mut tls| {
        tls.auto_host_sni = http.auto_sni;
        tls.auto_san_validation |= http.auto_san_validation;
        Arc::new(tls)
    }))
}

fn tls_matches(cx: &mut Context<'_>, at: &At<'_>, http: &HttpUpstream, pb: &pb::Cluster) -> Result<Vec<TlsMatch>> {
    gather(pb.transport_socket_matches.iter().enumerate().map(|(index, one)| {
        let at = at.item("transport_socket_matches", index);
        let socket = at.required("transport_socket", &one.transport_socket)?;
        Ok(TlsMatch {
            name: not_empty(&at, "name", &one.name)?.into(),
            criteria: one.r#match.as_ref().map(super::data::pairs).unwrap_or_default(),
            tls: client_tls(cx, &at.field("transport_socket"), http, socket)?,
        })
    }))
}

fn discovery(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster) -> Result<Discovery> {
    let kind = match &pb.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(number)) => known(at, "type", *number)?,
        Some(ClusterDiscoveryType::ClusterType(_)) => {
            return at.field("cluster_type").wrong("is not implemented; use type");
        }
    };
    let load = pb.load_assignment.clone().unwrap_or_default();
    let place = at.field("load_assignment");
    if pb.load_assignment.is_some() {
        not_empty(&place, "cluster_name", &load.cluster_name)?;
    }
    match kind {
        DiscoveryType::Static => {
            let assignment = endpoint::assignment(&place, endpoint::Names::AddressesOnly, &load)?;
            Ok(Discovery::Static(Arc::new(assignment)))
        }
        DiscoveryType::StrictDns => {
            let assignment = Arc::new(endpoint::assignment(&place, endpoint::Names::Allowed, &load)?);
            Ok(Discovery::StrictDns { assignment, dns: dns(at, pb)? })
        }
        DiscoveryType::Eds => eds(cx, at, pb),
        DiscoveryType::LogicalDns | DiscoveryType::OriginalDst => {
            let text = format!("{} is not implemented; use STATIC, STRICT_DNS or EDS", kind.as_str_name());
            at.field("type").wrong(text)
        }
    }
}

fn eds(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster) -> Result<Discovery> {
    if pb.load_assignment.is_some() {
        return at.field("load_assignment").wrong("cannot be given for a cluster of type EDS");
    }
    let at = at.field("eds_cluster_config");
    let Some(config) = &pb.eds_cluster_config else { return at.wrong("is required for a cluster of type EDS") };
    let source = source(&at.field("eds_config"), at.required("eds_config", &config.eds_config)?)?;
    let name = if config.service_name.is_empty() { &pb.name } else { &config.service_name };
    cx.need(ResourceKind::Endpoints, name, source);
    Ok(Discovery::Eds(name.as_str().into()))
}

fn dns(at: &At<'_>, pb: &pb::Cluster) -> Result<DnsOptions> {
    let refresh = positive(at, "dns_refresh_rate", &pb.dns_refresh_rate)?.unwrap_or(Duration::from_secs(5));
    let (failure_base, failure_max) = match &pb.dns_failure_refresh_rate {
        None => (refresh, refresh),
        Some(rate) => {
            let at = at.field("dns_failure_refresh_rate");
            let base = positive(&at, "base_interval", &rate.base_interval)?;
            let base = base.ok_or_else(|| at.field("base_interval").problem("is required"))?;
            (base, positive(&at, "max_interval", &rate.max_interval)?.unwrap_or(base * 10))
        }
    };
    let resolvers = pb.dns_resolvers.iter().enumerate().map(|(index, resolver)| {
        let at = at.item("dns_resolvers", index);
        match address::address(&at, resolver)? {
            Address::Tcp(address) => Ok(address),
            Address::Unix(_) => at.wrong("a resolver has an IP address and a port"),
        }
    });
    Ok(DnsOptions {
        refresh,
        respect_ttl: pb.respect_dns_ttl,
        family: match known(at, "dns_lookup_family", pb.dns_lookup_family)? {
            DnsLookupFamily::Auto => DnsFamily::Auto,
            DnsLookupFamily::V4Only => DnsFamily::V4Only,
            DnsLookupFamily::V6Only => DnsFamily::V6Only,
            DnsLookupFamily::V4Preferred => DnsFamily::V4Preferred,
            DnsLookupFamily::All => DnsFamily::All,
        },
        resolvers: gather(resolvers)?,
        failure_base,
        failure_max,
        wait_at_start: flag(&pb.wait_for_warm_on_init).unwrap_or(true),
    })
}

fn limits(at: &At<'_>, pb: &pb::Cluster) -> Result<[Limits; 2]> {
    let mut limits = [Limits::default(); 2];
    let Some(breakers) = &pb.circuit_breakers else { return Ok(limits) };
    let at = at.field("circuit_breakers");
    for (index, thresholds) in breakers.thresholds.iter().enumerate() {
        let at = at.item("thresholds", index);
        let priority = known::<core::RoutingPriority>(&at, "priority", thresholds.priority)?;
        let defaults = Limits::default();
        limits[priority as usize] = Limits {
            max_connections: uint(&thresholds.max_connections).unwrap_or(defaults.max_connections),
            max_pending_requests: uint(&thresholds.max_pending_requests).unwrap_or(defaults.max_pending_requests),
            max_requests: uint(&thresholds.max_requests).unwrap_or(defaults.max_requests),
            max_retries: uint(&thresholds.max_retries),
            retry_budget: thresholds.retry_budget.as_ref().map(|budget| RetryBudget {
                percent: budget.budget_percent.as_ref().map_or(20.0, |percent| percent.value),
                min_concurrency: uint(&budget.min_retry_concurrency).unwrap_or(3),
            }),
        };
    }
    Ok(limits)
}

fn max_connections_per_host(pb: &pb::Cluster) -> Option<u32> {
    let thresholds = pb.circuit_breakers.iter().flat_map(|breakers| &breakers.per_host_thresholds);
    thresholds.filter_map(|thresholds| uint(&thresholds.max_connections)).next_back()
}

fn outlier_detection(at: &At<'_>, pb: &pb::OutlierDetection) -> Result<OutlierDetection> {
    // An enforcement of 100 percent is a switch; shares in between would need a decision per ejection.
    let enforced = |name: &str, percent: Option<u32>, default: bool| match percent {
        None => Ok(default),
        Some(0) => Ok(false),
        Some(100) => Ok(true),
        Some(other) => at.field(name).wrong(format!("{other} percent is not implemented; use 0 or 100")),
    };
    let off = |name: &str, percent: Option<u32>| match percent {
        None | Some(0) => Ok(()),
        Some(_) => at.field(name).wrong("is not implemented; only 0 can be set"),
    };
    off("enforcing_success_rate", uint(&pb.enforcing_success_rate))?;
    off("enforcing_local_origin_success_rate", uint(&pb.enforcing_local_origin_success_rate))?;
    off("enforcing_failure_percentage", uint(&pb.enforcing_failure_percentage))?;
    off("enforcing_failure_percentage_local_origin", uint(&pb.enforcing_failure_percentage_local_origin))?;
    if flag(&pb.always_eject_one_host) == Some(false) {
        return at.field("always_eject_one_host").wrong("is always true here");
    }
    let on_5xx = enforced("enforcing_consecutive_5xx", uint(&pb.enforcing_consecutive_5xx), true)?;
    let gateway = uint(&pb.enforcing_consecutive_gateway_failure);
    let on_gateway = enforced("enforcing_consecutive_gateway_failure", gateway, false)?;
    let local = uint(&pb.enforcing_consecutive_local_origin_failure);
    let on_local = enforced("enforcing_consecutive_local_origin_failure", local, true)?;
    let threshold = |on: bool, count: Option<u32>| if on { count.unwrap_or(5) } else { 0 };
    let base = positive(at, "base_ejection_time", &pb.base_ejection_time)?.unwrap_or(Duration::from_secs(30));
    let longest = positive(at, "max_ejection_time", &pb.max_ejection_time)?;
    if longest.is_some_and(|longest| longest < base) {
        return at.field("max_ejection_time").wrong("must not be less than base_ejection_time");
    }
    let percent = uint(&pb.max_ejection_percent).unwrap_or(10);
    if percent > 100 {
        return at.field("max_ejection_percent").wrong("must not be greater than 100");
    }
    Ok(OutlierDetection {
        consecutive_5xx: threshold(on_5xx, uint(&pb.consecutive_5xx)),
        consecutive_gateway_failure: threshold(on_gateway, uint(&pb.consecutive_gateway_failure)),
        consecutive_local_origin_failure: threshold(on_local, uint(&pb.consecutive_local_origin_failure)),
        split_external_local_origin_errors: pb.split_external_local_origin_errors,
        interval: positive(at, "interval", &pb.interval)?.unwrap_or(Duration::from_secs(10)),
        base_ejection_time: base,
        max_ejection_time: longest.unwrap_or(base.max(Duration::from_secs(300))),
        max_ejection_percent: percent,
    })
}

fn tcp_keepalive(pb: &core::TcpKeepalive) -> TcpKeepalive {
    let seconds = |value: u32| Duration::from_secs(value.into());
    TcpKeepalive {
        probes: uint(&pb.keepalive_probes),
        time: uint(&pb.keepalive_time).map(seconds),
        interval: uint(&pb.keepalive_interval).map(seconds),
    }
}

fn panic_threshold(at: &At<'_>, pb: &pb::Cluster) -> Result<f64> {
    let percent = pb.common_lb_config.as_ref().and_then(|config| config.healthy_panic_threshold);
    let value = percent.map_or(50.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&value) {
        let at = at.field("common_lb_config");
        return at.field("healthy_panic_threshold").wrong(format!("{value} is not a percentage from 0 to 100"));
    }
    Ok(value)
}
