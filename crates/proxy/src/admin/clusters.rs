//! `/clusters`: every host of every cluster with its counters, summed over workers.

use crate::state::clusters::hosts_at_rest;
use crate::worker::ClusterReport;
use model::Snapshot;
use model::health::{ActiveHealth, HealthTable};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// One host, summed.
#[derive(Default)]
struct Host {
    hostname: String,
    requests: u64,
    errors: u64,
    active: u64,
    weight: u32,
    ejected: bool,
    healthy: bool,
    degraded: bool,
    draining: bool,
    checked: ActiveHealth,
}

type Clusters = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Host>>;

/// What workers report, and the clusters that none of them used yet.
fn sum(reports: &[Vec<ClusterReport>], snapshot: &Snapshot, health: &HealthTable) -> Clusters {
    let mut clusters = Clusters::new();
    for report in reports.iter().flatten() {
        add(&mut clusters, report);
    }
    for (name, cluster) in &snapshot.clusters {
        if !clusters.contains_key(name) {
            add(&mut clusters, &ClusterReport::new(name, &hosts_at_rest(snapshot, health, cluster)));
        }
    }
    clusters
}

fn add(clusters: &mut Clusters, report: &ClusterReport) {
    let hosts = clusters.entry(report.name.clone()).or_default();
    for host in &report.hosts {
        let total = hosts.entry(host.address.clone()).or_default();
        total.hostname = host.hostname.to_string();
        total.requests += host.requests;
        total.errors += host.errors;
        total.active += u64::from(host.active);
        total.weight = host.weight;
        total.ejected |= host.ejected;
        total.healthy = host.health.usable();
        total.degraded = host.health == model::endpoint::Health::Degraded;
        total.draining = host.health == model::endpoint::Health::Draining;
        total.checked = host.checked;
    }
}

/// Envoy's flags in Envoy's order.
fn flags(host: &Host) -> String {
    let checked = &host.checked;
    let flags = [
        (checked.failed, "/failed_active_hc"),
        (host.ejected, "/failed_outlier_check"),
        (!host.healthy, "/failed_eds_health"),
        (checked.degraded, "/degraded_active_hc"),
        (host.degraded, "/degraded_eds_health"),
        (checked.leaving, "/pending_dynamic_removal"),
        (checked.pending, "/pending_active_hc"),
        (checked.timeout, "/active_hc_timeout"),
        (host.draining, "/eds_status_draining"),
    ];
    let set: String = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
    if set.is_empty() { "healthy".into() } else { set }
}

/// `cluster::address::metric::value` lines.
pub(super) fn text(reports: &[Vec<ClusterReport>], snapshot: &Snapshot, health: &HealthTable) -> String {
    let mut out = String::new();
    for (name, hosts) in sum(reports, snapshot, health) {
        if let Some(cluster) = snapshot.clusters.get(&name) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}::observability_name::{}", cluster.stat_name);
            for (priority, limits) in ["default_priority", "high_priority"].into_iter().zip(&cluster.limits) {
                let _ = writeln!(out, "{name}::{priority}::max_connections::{}", limits.max_connections);
                let _ = writeln!(out, "{name}::{priority}::max_pending_requests::{}", limits.max_pending_requests);
                let _ = writeln!(out, "{name}::{priority}::max_requests::{}", limits.max_requests);
                if let Some(most) = limits.max_retries {
                    let _ = writeln!(out, "{name}::{priority}::max_retries::{most}");
                }
            }
            let _ = writeln!(
                out,
                "{name}::added_via_api::{}",
                !matches!(cluster.discovery, model::cluster::Discovery::Static(_))
            );
        }
        for (address, host) in hosts {
            let _ = writeln!(out, "{name}::{address}::rq_active::{}", host.active);
            let _ = writeln!(out, "{name}::{address}::rq_error::{}", host.errors);
            let _ = writeln!(out, "{name}::{address}::rq_success::{}", host.requests.saturating_sub(host.errors));
            let _ = writeln!(out, "{name}::{address}::rq_total::{}", host.requests);
            let _ = writeln!(out, "{name}::{address}::hostname::{}", host.hostname);
            let _ = writeln!(out, "{name}::{address}::health_flags::{}", flags(&host));
            let _ = writeln!(out, "{name}::{address}::weight::{}", host.weight);
        }
    }
    out
}

/// The shape of `envoy.admin.v3.Clusters`.
pub(super) fn json(reports: &[Vec<ClusterReport>], snapshot: &Snapshot, health: &HealthTable) -> String {
    let clusters: Vec<_> = sum(reports, snapshot, health)
        .into_iter()
        .map(|(name, hosts)| {
            let hosts: Vec<_> = hosts.iter().map(|(address, host)| host_status(address, host)).collect();
            let stat_name = snapshot.clusters.get(&name).map(|cluster| cluster.stat_name.to_string());
            json!({"name": &*name, "observability_name": stat_name, "host_statuses": hosts})
        })
        .collect();
    json!({ "cluster_statuses": clusters }).to_string()
}

fn host_status(address: &str, host: &Host) -> serde_json::Value {
    let socket = match address.parse::<std::net::SocketAddr>() {
        Ok(socket) => json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}}),
        Err(_) => json!({"pipe": {"path": address}}),
    };
    let counter = |name: &str, value: u64| json!({"name": name, "type": "COUNTER", "value": value.to_string()});
    json!({
        "address": socket,
        "stats": [
            counter("rq_error", host.errors),
            counter("rq_success", host.requests.saturating_sub(host.errors)),
            counter("rq_total", host.requests),
            {"name": "rq_active", "type": "GAUGE", "value": host.active.to_string()},
        ],
        "health_status": {
            "eds_health_status": match (host.healthy, host.degraded) {
                (false, _) => "UNHEALTHY",
                (true, true) => "DEGRADED",
                (true, false) => "HEALTHY",
            },
            "failed_active_health_check": host.checked.failed,
            "failed_active_degraded_check": host.checked.degraded,
            "pending_dynamic_removal": host.checked.leaving,
            "pending_active_hc": host.checked.pending,
            "active_hc_timeout": host.checked.timeout,
            "failed_outlier_check": host.ejected,
        },
        "weight": host.weight,
        "hostname": host.hostname,
    })
}
