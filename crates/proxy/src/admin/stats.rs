//! `/stats` and `/stats/prometheus`: Envoy's names, Envoy's text, Envoy's tags.

use crate::telemetry::metrics::Distribution;
use crate::telemetry::stats::{Owner, Total};
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt::Write;

type Read = BTreeMap<Owner, BTreeMap<String, Total>>;

/// What to show.
#[derive(Default)]
pub(super) struct Filter {
    pub(super) pattern: Option<Regex>,
    pub(super) used_only: bool,
}

impl Filter {
    fn admits(&self, name: &str, total: &Total) -> bool {
        let used = match total {
            Total::Counter(value) | Total::Gauge(value) => *value > 0,
            Total::Histogram(values) => values.count() > 0,
        };
        (used || !self.used_only) && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
    }
}

/// Process-wide figures that belong to no listener or cluster.
pub(super) fn server(values: &[(&str, u64)]) -> BTreeMap<String, Total> {
    values.iter().map(|(name, value)| ((*name).to_string(), Total::Gauge(*value))).collect()
}

fn flat(read: &Read, extra: &BTreeMap<String, Total>, filter: &Filter) -> BTreeMap<String, Total> {
    let owned = read
        .iter()
        .flat_map(|(owner, totals)| totals.iter().map(move |(name, total)| (owner.metric(name), total.clone())));
    let mut all: BTreeMap<String, Total> = BTreeMap::new();
    for (name, total) in owned.chain(extra.iter().map(|(name, total)| (name.clone(), total.clone()))) {
        if filter.admits(&name, &total) {
            merge(&mut all, name, total);
        }
    }
    all
}

/// Two listeners may share a stat prefix.
fn merge(all: &mut BTreeMap<String, Total>, name: String, total: Total) {
    match (all.get_mut(&name), total) {
        (Some(Total::Counter(sum) | Total::Gauge(sum)), Total::Counter(value) | Total::Gauge(value)) => *sum += value,
        (Some(Total::Histogram(sum)), Total::Histogram(values)) => sum.merge(&values),
        (_, total) => {
            all.insert(name, total);
        }
    }
}

/// `name: value` lines, histograms last.
pub(super) fn text(read: &Read, extra: &BTreeMap<String, Total>, filter: &Filter) -> String {
    let mut out = String::new();
    let mut histograms = String::new();
    for (name, total) in flat(read, extra, filter) {
        // Writing to a String cannot fail.
        let _ = match total {
            Total::Counter(value) | Total::Gauge(value) => writeln!(out, "{name}: {value}"),
            Total::Histogram(values) => writeln!(histograms, "{name}: {}", quantiles(&values)),
        };
    }
    out + &histograms
}

const QUANTILES: [(&str, f64); 10] = [
    ("P0", 0.0),
    ("P25", 0.25),
    ("P50", 0.5),
    ("P75", 0.75),
    ("P90", 0.9),
    ("P95", 0.95),
    ("P99", 0.99),
    ("P99.5", 0.995),
    ("P99.9", 0.999),
    ("P100", 1.0),
];

fn quantiles(values: &Distribution) -> String {
    if values.count() == 0 {
        return "No recorded values".to_string();
    }
    let each = QUANTILES.map(|(name, q)| format!("{name}(nan,{:.3})", values.quantile_millis(q)));
    each.join(" ")
}

/// Envoy's JSON form: `{"stats":[{"name":..,"value":..},..]}`.
pub(super) fn json(read: &Read, extra: &BTreeMap<String, Total>, filter: &Filter) -> String {
    let mut stats = Vec::new();
    let mut histograms = Vec::new();
    for (name, total) in flat(read, extra, filter) {
        match total {
            Total::Counter(value) | Total::Gauge(value) => {
                stats.push(serde_json::json!({"name": name, "value": value}));
            }
            Total::Histogram(values) => {
                let values: Vec<_> = QUANTILES
                    .iter()
                    .map(|(_, q)| serde_json::json!({"interval": null, "cumulative": values.quantile_millis(*q)}))
                    .collect();
                histograms.push(serde_json::json!({"name": name, "values": values}));
            }
        }
    }
    let supported: Vec<f64> = QUANTILES.iter().map(|(_, q)| q * 100.0).collect();
    let histograms = serde_json::json!({"supported_quantiles": supported, "computed_quantiles": histograms});
    stats.push(serde_json::json!({ "histograms": histograms }));
    serde_json::json!({ "stats": stats }).to_string()
}

/// Upper bounds of histogram buckets in milliseconds, as Envoy exports them.
const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The text exposition format, one `# TYPE` per family.
pub(super) fn prometheus(read: &Read, extra: &BTreeMap<String, Total>, filter: &Filter) -> String {
    let mut families: BTreeMap<String, (&'static str, BTreeMap<String, Total>)> = BTreeMap::new();
    for (owner, totals) in read {
        for (name, total) in totals {
            if filter.admits(&owner.metric(name), total) {
                let (family, labels) = tagged(owner, name);
                let entry = families.entry(family).or_insert((kind(total), BTreeMap::new()));
                merge(&mut entry.1, labels, total.clone());
            }
        }
    }
    for (name, total) in extra {
        if filter.admits(name, total) {
            let entry = families.entry(clean(name)).or_insert((kind(total), BTreeMap::new()));
            entry.1.insert(String::new(), total.clone());
        }
    }
    let mut out = String::new();
    for (family, (kind, series)) in &families {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {family} {kind}");
        for (labels, total) in series {
            write_series(&mut out, family, labels, total);
        }
    }
    out
}

fn kind(total: &Total) -> &'static str {
    match total {
        Total::Counter(_) => "counter",
        Total::Gauge(_) => "gauge",
        Total::Histogram(_) => "histogram",
    }
}

fn write_series(out: &mut String, family: &str, labels: &str, total: &Total) {
    let _ = match total {
        Total::Counter(value) | Total::Gauge(value) => writeln!(out, "{family}{{{labels}}} {value}"),
        Total::Histogram(values) => {
            let comma = if labels.is_empty() { "" } else { "," };
            for bound in BUCKETS {
                let count = values.at_most_millis(bound);
                let _ = writeln!(out, "{family}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
            }
            let count = values.count();
            let _ = writeln!(out, "{family}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{family}_sum{{{labels}}} {}", values.sum_micros as f64 / 1000.0);
            writeln!(out, "{family}_count{{{labels}}} {count}")
        }
    };
}

/// Family name and labels of a metric: the parts that vary become Envoy's tags.
fn tagged(owner: &Owner, name: &str) -> (String, String) {
    let (scope, labels) = scope(owner);
    let upstream = matches!(owner, Owner::Cluster(_) | Owner::Group { .. });
    let side = if upstream { "upstream" } else { "downstream" };
    if let Some(code) = name.strip_prefix("rq_").filter(|code| code.as_bytes()[0].is_ascii_digit()) {
        return match code.strip_suffix("xx") {
            Some(class) => {
                (format!("envoy_{scope}_{side}_rq_xx"), format!("envoy_response_code_class=\"{class}\",{labels}"))
            }
            None => (format!("envoy_{scope}_{side}_rq"), format!("envoy_response_code=\"{code}\",{labels}")),
        };
    }
    let full = owner.metric(name);
    let rest = full.rsplit_once(&format!("{}.", owner_text(owner))).map_or(full.as_str(), |(_, rest)| rest);
    (clean(&format!("{scope}.{rest}")), labels)
}

/// What all families of an owner begin with, and the labels that tell it from others of its kind.
fn scope(owner: &Owner) -> (&'static str, String) {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let (scope, tag, value) = match owner {
        Owner::Listener(value) => ("listener", "envoy_listener_address", value.replace(':', "_")),
        Owner::Http(value) => ("http", "envoy_http_conn_manager_prefix", value.to_string()),
        Owner::Tcp(value) => ("tcp", "envoy_tcp_prefix", value.to_string()),
        Owner::Cluster(value) | Owner::Call { cluster: value, .. } => {
            ("cluster", "envoy_cluster_name", value.to_string())
        }
        Owner::Guard("connection_limit", value) => {
            ("connection_limit", "envoy_connection_limit_prefix", value.to_string())
        }
        Owner::Guard(kind, value) => (*kind, "envoy_local_network_ratelimit_prefix", value.to_string()),
        Owner::Group { host, kind, name } => {
            let (scope, tag) = match *kind {
                "route" => ("vhost_route", "envoy_route"),
                _ => ("vhost_vcluster", "envoy_virtual_cluster"),
            };
            return (scope, format!("{tag}=\"{}\",envoy_virtual_host=\"{}\"", escape(name), escape(host)));
        }
    };
    (scope, format!("{tag}=\"{}\"", escape(&value)))
}

fn owner_text(owner: &Owner) -> String {
    match owner {
        Owner::Listener(value) => value.replace(':', "_"),
        Owner::Http(value) | Owner::Tcp(value) | Owner::Cluster(value) | Owner::Guard(_, value) => value.to_string(),
        Owner::Group { name, .. } => name.to_string(),
        Owner::Call { cluster, .. } => cluster.to_string(),
    }
}

/// A valid Prometheus name with Envoy's prefix.
fn clean(name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' };
    format!("envoy_{}", name.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::stats::GroupStats;
    use crate::telemetry::{ClusterStats, Registry};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn forms() {
        let registry = Registry::default();
        let stats: Arc<ClusterStats> = registry.add(Owner::Cluster("shop.web".into()));
        stats.upstream_rq_total.add(3);
        stats.responses.note(200);
        stats.ssl_handshake.inc();
        stats.upstream_rq_time.record(Duration::from_millis(7));
        let owner = Owner::Group { host: "all".into(), kind: "vcluster", name: "pay".into() };
        let group: Arc<GroupStats> = registry.add(owner);
        group.upstream_rq_total.inc();
        let read = registry.read();
        let none = BTreeMap::new();
        let used = Filter { used_only: true, ..Filter::default() };
        let lines = text(&read, &none, &used);
        assert!(lines.contains("cluster.shop.web.upstream_rq_total: 3\n"), "{lines}");
        assert!(lines.contains("vhost.all.vcluster.pay.upstream_rq_total: 1\n"), "{lines}");
        assert!(lines.contains("cluster.shop.web.upstream_rq_200: 1\n"), "{lines}");
        assert!(lines.contains("cluster.shop.web.ssl.handshake: 1\n"), "{lines}");
        let scrape = prometheus(&read, &none, &used);
        for line in [
            "envoy_vhost_vcluster_upstream_rq_total{envoy_virtual_cluster=\"pay\",envoy_virtual_host=\"all\"} 1\n",
            "# TYPE envoy_cluster_upstream_rq_total counter\n",
            "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"shop.web\"} 3\n",
            "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"shop.web\"} 1\n",
            "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"shop.web\"} 1\n",
            "envoy_cluster_ssl_handshake{envoy_cluster_name=\"shop.web\"} 1\n",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"shop.web\",le=\"10\"} 1\n",
        ] {
            assert!(scrape.contains(line), "{line} in {scrape}");
        }
        assert!(json(&read, &none, &used).contains("\"value\":3"));
    }
}
