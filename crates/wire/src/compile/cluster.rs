//! Clusters (`cluster.v3.Cluster`).

use super::cluster_http::{self, HttpUpstream};
use super::{Context, Result, address, hash_of, known, not_empty, positive, tls, uint};
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::pb::envoy::config::core::v3 as core;
use crate::problem::{At, gather};
use model::address::Address;
use model::cluster::{
    Cluster, Connections, Discovery, Eyeballs, Limits, RetryBudget, TcpKeepalive, TlsMatch, UpstreamProtocol,
};
use model::endpoint::EndpointTarget;
use model::listener::ProxyVersion;
use model::tls::ClientTls;
use pb::cluster::PreconnectPolicy;
use pb::upstream_connection_options::{FirstAddressFamilyVersion, HappyEyeballsConfig};
use std::sync::Arc;
use std::time::Duration;

pub fn cluster(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Cluster) -> Result<Cluster> {
    let name = not_empty(at, "name", &pb.name)?;
    let http = cluster_http::upstream(at, pb)?;
    let socket = pb.transport_socket.as_ref();
    let own = socket.map(|socket| transport(cx, &at.field("transport_socket"), &http, socket)).transpose()?;
    let (tls, proxy_protocol) = own.unwrap_or_default();
    if http.protocol == UpstreamProtocol::Alpn && tls.is_none() {
        return at.field("transport_socket").wrong("must be TLS: auto_config chooses the protocol by ALPN");
    }
    let outlier = pb.outlier_detection.as_ref();
    let connections = Connections { proxy_protocol, ..connections(at, pb, &http)? };
    let keepalive = pb.upstream_connection_options.as_ref().and_then(|options| options.tcp_keepalive.as_ref());
    let common_lb = pb.common_lb_config.as_ref();
    let timeout = positive(at, "connect_timeout", &pb.connect_timeout)?;
    let discovery = super::discovery::discovery(cx, at, pb)?;
    let chosen = matches!(discovery, Discovery::OriginalDst(_) | Discovery::Aggregate(_));
    let balancing = if chosen { super::lb::Balancing::chosen() } else { super::lb::balancing(at, pb)? };
    let name: Arc<str> = name.into();
    Ok(Cluster {
        stat_name: if pb.alt_stat_name.is_empty() { name.clone() } else { pb.alt_stat_name.as_str().into() },
        name,
        policy: balancing.policy,
        localities: balancing.localities,
        subsets: balancing.subsets.map(Box::new),
        discovery,
        connect_timeout: timeout.unwrap_or(Duration::from_secs(5)),
        protocol: http.protocol.clone(),
        http2: http.http2.clone(),
        tls,
        tls_matches: tls_matches(cx, at, &http, pb)?,
        limits: limits(at, pb)?,
        max_connections_per_host: max_connections_per_host(pb),
        max_stream_duration: http.max_stream_duration,
        outlier: outlier
            .map(|outlier| super::outlier::detection(&at.field("outlier_detection"), outlier).map(Box::new))
            .transpose()?,
        health_check: super::health::check(at, pb)?.map(Arc::new),
        ignore_new_hosts_until_first_check: common_lb.is_some_and(|config| config.ignore_new_hosts_until_first_hc),
        close_connections_on_health_failure: pb.close_connections_on_host_health_failure,
        ignore_health_on_host_removal: pb.ignore_health_on_host_removal,
        idle_timeout: http.idle_timeout,
        max_requests_per_connection: http.max_requests_per_connection,
        tcp_keepalive: keepalive.map(|keepalive| tcp_keepalive(keepalive).into()),
        connections: (connections != Connections::USUAL).then(|| connections.into()),
        close_connections_on_host_removal: false,
        buffer_limit: uint(&pb.per_connection_buffer_limit_bytes).unwrap_or(1 << 20) as usize,
        panic_threshold: panic_threshold(at, pb)?,
        hash: hash_of(pb),
    })
}

/// TLS and PROXY protocol.
type Transport = (Option<Arc<ClientTls>>, Option<ProxyVersion>);

fn transport(
    cx: &mut Context<'_>,
    at: &At<'_>,
    http: &HttpUpstream,
    socket: &core::TransportSocket,
) -> Result<Transport> {
    let transport = tls::transport(cx, at, socket)?;
    let tls = transport.tls.map(|mut tls| {
        tls.auto_host_sni = http.auto_sni;
        tls.auto_san_validation |= http.auto_san_validation;
        Arc::new(tls)
    });
    Ok((tls, transport.proxy_protocol))
}

fn tls_matches(cx: &mut Context<'_>, at: &At<'_>, http: &HttpUpstream, pb: &pb::Cluster) -> Result<Vec<TlsMatch>> {
    gather(pb.transport_socket_matches.iter().enumerate().map(|(index, one)| {
        let at = at.item("transport_socket_matches", index);
        let socket = at.required("transport_socket", &one.transport_socket)?;
        let (tls, proxy_protocol) = transport(cx, &at.field("transport_socket"), http, socket)?;
        Ok(TlsMatch {
            name: not_empty(&at, "name", &one.name)?.into(),
            criteria: one.r#match.as_ref().map(super::data::pairs).unwrap_or_default(),
            tls,
            proxy_protocol,
        })
    }))
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

pub(super) fn tcp_keepalive(pb: &core::TcpKeepalive) -> TcpKeepalive {
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

fn connections(at: &At<'_>, pb: &pb::Cluster, http: &HttpUpstream) -> Result<Connections> {
    let eyeballs = pb.upstream_connection_options.as_ref().and_then(|options| options.happy_eyeballs_config.as_ref());
    let bind = pb.upstream_bind_config.as_ref().map(|config| bind(&at.field("upstream_bind_config"), config));
    let preconnect = pb.preconnect_policy.as_ref();
    Ok(Connections {
        bind: bind.transpose()?.unwrap_or_default(),
        eyeballs: eyeballs.map(|config| happy_eyeballs(at, config)).transpose()?.unwrap_or_default(),
        max_duration: http.max_connection_duration,
        duration_jitter: http.connection_duration_jitter,
        proxy_protocol: None,
        preconnect: preconnect.map(|policy| preconnect_ratio(at, policy)).transpose()?.unwrap_or_default(),
    })
}

fn bind(at: &At<'_>, pb: &core::BindConfig) -> Result<Vec<std::net::SocketAddr>> {
    let one = |at: &At<'_>, pb: &core::SocketAddress| match address::socket_target(at, pb)? {
        EndpointTarget::Address(Address::Tcp(address)) => Ok(address),
        _ => at.field("address").wrong("must be an IP address"),
    };
    let first = pb.source_address.iter().map(|source| one(&at.field("source_address"), source));
    let extra = pb.extra_source_addresses.iter().enumerate().map(|(index, extra)| {
        let at = at.item("extra_source_addresses", index);
        one(&at.field("address"), at.required("address", &extra.address)?)
    });
    gather(first.chain(extra))
}

fn happy_eyeballs(at: &At<'_>, pb: &HappyEyeballsConfig) -> Result<Eyeballs> {
    let at = at.field("upstream_connection_options");
    let at = at.field("happy_eyeballs_config");
    let first =
        known::<FirstAddressFamilyVersion>(&at, "first_address_family_version", pb.first_address_family_version)?;
    let count = uint(&pb.first_address_family_count).unwrap_or(1);
    if count == 0 {
        return at.field("first_address_family_count").wrong("must be at least 1");
    }
    Ok(Eyeballs {
        v6_first: match first {
            FirstAddressFamilyVersion::Default => None,
            FirstAddressFamilyVersion::V4 => Some(false),
            FirstAddressFamilyVersion::V6 => Some(true),
            FirstAddressFamilyVersion::Pipe | FirstAddressFamilyVersion::Internal => {
                return at.field("first_address_family_version").wrong("must be DEFAULT, V4 or V6");
            }
        },
        first_count: count as usize,
    })
}

fn preconnect_ratio(at: &At<'_>, pb: &PreconnectPolicy) -> Result<f64> {
    let at = at.field("preconnect_policy");
    let ratio = pb.per_upstream_preconnect_ratio.as_ref().map_or(1.0, |ratio| ratio.value);
    if !(1.0..=3.0).contains(&ratio) {
        return at.field("per_upstream_preconnect_ratio").wrong(format!("{ratio} is not within 1 and 3"));
    }
    Ok(ratio)
}
