//! The live table: one row per edge of the mesh, read from the sidecars' own counters.

use super::load::Totals;
use crate::up::admin;
use crate::up::run::Mesh;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

/// Counters of one caller's cluster.
#[derive(Clone, Debug, Default)]
struct Counters {
    requests: u64,
    failed: u64,
    handshakes: u64,
    p50: f64,
    p99: f64,
}

/// Everything the sidecars say at one moment: (caller, called) to counters.
pub(super) struct Reading {
    at: Instant,
    edges: BTreeMap<(String, String), Counters>,
}

impl Reading {
    pub(super) async fn take(mesh: &Mesh) -> Reading {
        let mut edges: BTreeMap<(String, String), Counters> = BTreeMap::new();
        let workloads = mesh.files().map(|files| files.workloads.clone()).unwrap_or_default();
        for workload in &workloads {
            let Some(placement) = mesh.placements().get(&workload.name) else { continue };
            // A sidecar that does not answer has nothing to add.
            let Ok((200, text)) = admin::get(placement.admin, "/stats?usedonly&filter=^cluster.outbound").await else {
                continue;
            };
            for line in text.lines() {
                let caller = workload.name.split('-').next().unwrap_or_default();
                read_line(line, caller, &mut edges);
            }
        }
        Reading { at: Instant::now(), edges }
    }
}

/// `cluster.outbound|80||orders.default.svc.cluster.local.upstream_rq_total: 12`
fn read_line(line: &str, caller: &str, edges: &mut BTreeMap<(String, String), Counters>) {
    let Some((name, value)) = line.split_once(": ") else { return };
    let Some(rest) = name.split_once("||").map(|(_, rest)| rest) else { return };
    let Some((host, metric)) = rest.split_once(".svc.cluster.local.") else { return };
    let called = host.split('.').next().unwrap_or(host).to_string();
    let edge = edges.entry((caller.to_string(), called)).or_default();
    let number = || value.parse::<u64>().unwrap_or(0);
    match metric {
        "upstream_rq_total" => edge.requests += number(),
        "upstream_rq_5xx" => edge.failed += number(),
        "ssl.handshake" => edge.handshakes += number(),
        "upstream_rq_time" => {
            edge.p50 = edge.p50.max(quantile(value, "P50("));
            edge.p99 = edge.p99.max(quantile(value, "P99("));
        }
        _ => {}
    }
}

/// `P50(nan,1.250)` among others.
fn quantile(text: &str, name: &str) -> f64 {
    let Some((_, rest)) = text.split_once(name) else { return 0.0 };
    let inside = rest.split(')').next().unwrap_or_default();
    inside.rsplit(',').next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[derive(Debug)]
pub(super) struct Row {
    from: String,
    to: String,
    per_second: f64,
    success: f64,
    p50: f64,
    p99: f64,
    mtls: bool,
    /// Percent of the calls from `from` to this service that this version got; `None` without versions.
    share: Option<f64>,
}

pub(super) fn rows(before: &Reading, now: &Reading) -> Vec<Row> {
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let nothing = Counters::default();
    let since = |key: &(String, String)| {
        let (old, new) = (before.edges.get(key).unwrap_or(&nothing), &now.edges[key]);
        (new.requests.saturating_sub(old.requests), new.failed.saturating_sub(old.failed))
    };
    let base = |name: &str| name.rsplit_once("-v").map(|(base, _)| base.to_string());
    let mut all = Vec::new();
    // A sidecar has a cluster for every service of the mesh; an edge is one that was called.
    for (key, counters) in now.edges.iter().filter(|(_, counters)| counters.requests > 0) {
        let (requests, failed) = since(key);
        let share = base(&key.1).map(|service| {
            let siblings =
                now.edges.keys().filter(|other| other.0 == key.0 && base(&other.1).as_ref() == Some(&service));
            let sum: u64 = siblings.map(|other| since(other).0).sum();
            100.0 * requests as f64 / sum.max(1) as f64
        });
        all.push(Row {
            from: key.0.clone(),
            to: key.1.clone(),
            per_second: requests as f64 / seconds,
            success: if requests == 0 { 100.0 } else { 100.0 * (1.0 - failed as f64 / requests as f64).max(0.0) },
            p50: counters.p50,
            p99: counters.p99,
            mtls: counters.handshakes > 0,
            share,
        });
    }
    all
}

pub(super) fn text(rows: &[Row], totals: Totals) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{:<10} {:<14} {:>8} {:>9} {:>9} {:>9}  {:<5} {:>6}",
        "from", "to", "req/s", "success", "p50 ms", "p99 ms", "mTLS", "share"
    );
    for row in rows {
        let share = row.share.map_or_else(String::new, |share| format!("{share:.0} %"));
        let mtls = if row.mtls { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "{:<10} {:<14} {:>8.1} {:>7.2} % {:>9.1} {:>9.1}  {mtls:<5} {share:>6}",
            row.from, row.to, row.per_second, row.success, row.p50, row.p99
        );
    }
    let _ = writeln!(out, "visitors: {} served, {} failed", totals.succeeded, totals.failed);
    out
}

pub(super) fn json(rows: &[Row], totals: Totals) -> serde_json::Value {
    let edges: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "from": row.from, "to": row.to, "requests_per_second": row.per_second, "success_percent": row.success,
                "p50_ms": row.p50, "p99_ms": row.p99, "mtls": row.mtls, "share_percent": row.share,
            })
        })
        .collect();
    json!({"edges": edges, "visitors": {"succeeded": totals.succeeded, "failed": totals.failed}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_edges() {
        let mut edges = BTreeMap::new();
        for line in [
            "cluster.outbound|80||catalog-v1.default.svc.cluster.local.upstream_rq_total: 12",
            "cluster.outbound|80||catalog-v1.default.svc.cluster.local.ssl.handshake: 1",
            "cluster.outbound|80||catalog-v1.default.svc.cluster.local.upstream_rq_time: P0(nan,0.100) P50(nan,1.250) P99(nan,9.500)",
            "cluster.control.upstream_rq_total: 3",
        ] {
            read_line(line, "orders", &mut edges);
        }
        let edge = &edges[&("orders".to_string(), "catalog-v1".to_string())];
        assert_eq!((edge.requests, edge.handshakes), (12, 1));
        assert_eq!((edge.p50, edge.p99), (1.25, 9.5));
        assert_eq!(edges.len(), 1);
    }
}
