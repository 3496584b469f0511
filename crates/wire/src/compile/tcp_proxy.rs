//! The TCP proxy filter (`tcp_proxy.v3.TcpProxy`).

use super::action::subset;
use super::{Context, Result, access_log, duration, format, header, not_empty, on_demand, positive, uint};
use crate::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use crate::problem::{At, gather};
use model::listener::{TcpCluster, TcpProxy, TcpTarget, Tunneling};
use std::time::Duration;
use tcp::tcp_proxy::ClusterSpecifier;

pub(super) fn tcp_proxy(cx: &Context<'_>, at: &At<'_>, pb: &tcp::TcpProxy) -> Result<TcpProxy> {
    let attempts = uint(&pb.max_connect_attempts).unwrap_or(1);
    if attempts == 0 {
        return at.field("max_connect_attempts").wrong("must be at least 1");
    }
    let max_duration = duration(at, "max_downstream_connection_duration", &pb.max_downstream_connection_duration)?;
    let jitter = pb.max_downstream_connection_duration_jitter_percentage.as_ref().map_or(0.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&jitter) {
        let at = at.field("max_downstream_connection_duration_jitter_percentage");
        return at.wrong(format!("{jitter} is not a percentage from 0 to 100"));
    }
    let back_off = pb.backoff_options.as_ref().map(|options| {
        let at = at.field("backoff_options");
        let base = positive(&at, "base_interval", &options.base_interval)?;
        let base = base.ok_or_else(|| at.field("base_interval").problem("is required"))?;
        let longest = positive(&at, "max_interval", &options.max_interval)?.unwrap_or(base * 10);
        if longest < base {
            return at.field("max_interval").wrong("must not be less than base_interval");
        }
        Ok((base, longest))
    });
    let on_demand = pb.on_demand.as_ref().filter(|one| one.odcds_config.is_some()).map(|one| {
        let (at, default) = (at.field("on_demand"), Duration::from_secs(60));
        on_demand::clusters(cx.scope, &at, "odcds_config", &one.odcds_config, &one.timeout, default)
    });
    Ok(TcpProxy {
        stat_prefix: not_empty(at, "stat_prefix", &pb.stat_prefix)?.into(),
        target: target(at, pb)?,
        tunneling: pb
            .tunneling_config
            .as_ref()
            .map(|config| tunneling(&at.field("tunneling_config"), config))
            .transpose()?,
        idle_timeout: duration(at, "idle_timeout", &pb.idle_timeout)?.unwrap_or(Duration::from_secs(3600)),
        max_duration: max_duration.unwrap_or_default(),
        duration_jitter: jitter,
        max_connect_attempts: attempts,
        hash_source_ip: hash_source_ip(at, pb)?,
        connect_back_off: back_off.transpose()?,
        on_demand: on_demand.transpose()?,
        access_logs: access_log::logs(at, "access_log", &pb.access_log)?,
    })
}

fn target(at: &At<'_>, pb: &tcp::TcpProxy) -> Result<TcpTarget> {
    let all = subset(&[], pb.metadata_match.as_ref());
    match at.required("cluster_specifier", &pb.cluster_specifier)? {
        ClusterSpecifier::Cluster(name) => {
            Ok(TcpTarget::Cluster(TcpCluster { name: not_empty(at, "cluster", name)?.into(), subset: all }))
        }
        ClusterSpecifier::WeightedClusters(weighted) => {
            let at = at.field("weighted_clusters");
            let clusters = weighted.clusters.iter().enumerate().map(|(index, one)| {
                let at = at.item("clusters", index);
                if one.weight == 0 {
                    return at.field("weight").wrong("must be at least 1");
                }
                let subset = subset(&all, one.metadata_match.as_ref());
                Ok((TcpCluster { name: not_empty(&at, "name", &one.name)?.into(), subset }, one.weight))
            });
            let clusters = gather(clusters)?;
            if clusters.is_empty() {
                return at.field("clusters").wrong("must have at least one cluster");
            }
            let total = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
            Ok(TcpTarget::Weighted { clusters, total })
        }
    }
}

fn tunneling(at: &At<'_>, pb: &tcp::tcp_proxy::TunnelingConfig) -> Result<Tunneling> {
    let hostname = not_empty(at, "hostname", &pb.hostname)?;
    if !pb.use_post && !pb.post_path.is_empty() {
        return at.field("post_path").wrong("needs use_post");
    }
    let path = if pb.post_path.is_empty() { "/" } else { &pb.post_path };
    if !path.starts_with('/') {
        return at.field("post_path").wrong("must start with `/`");
    }
    Ok(Tunneling {
        hostname: format::format(&at.field("hostname"), hostname)?,
        post_path: pb.use_post.then(|| path.into()),
        headers: header::add(at, "headers_to_add", &pb.headers_to_add)?,
    })
}

/// `hash_policy`; Envoy allows at most one.
fn hash_source_ip(at: &At<'_>, pb: &tcp::TcpProxy) -> Result<bool> {
    use crate::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;
    if pb.hash_policy.len() > 1 {
        return at.field("hash_policy").wrong("must not have more than one entry");
    }
    let Some(policy) = pb.hash_policy.first() else { return Ok(false) };
    let at = at.item("hash_policy", 0);
    match at.required("policy_specifier", &policy.policy_specifier)? {
        PolicySpecifier::SourceIp(_) => Ok(true),
        PolicySpecifier::FilterState(_) => at.field("filter_state").wrong("is not implemented"),
    }
}
