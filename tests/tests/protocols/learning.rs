//! Policies that learn from answers: latencies, failures, load reports.

use crate::support::{BOTH, Kind, Proxy, http};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;

const HOSTS: [&str; 4] = ["h0", "h1", "h2", "h3"];

fn own(name: &str) -> String {
    format!(
        "{{ name: {name}, typed_config: {{ \"@type\": type.googleapis.com/google.protobuf.Struct, value: {{}} }} }}"
    )
}

/// One cluster with these hosts and this policy, which is an extension.
fn start(kind: Kind, name: &str, backends: &[Backend], extension: &str) -> Proxy {
    let host = |backend: &Backend| {
        let socket = format!("socket_address: {{ address: 127.0.0.1, port_value: {} }}", backend.port);
        format!("{{ endpoint: {{ address: {{ {socket} }} }} }}")
    };
    let hosts: Vec<String> = backends.iter().map(host).collect();
    let cluster = format!(
        "- {{ name: a, type: STATIC, connect_timeout: 1s, load_balancing_policy: {{ policies: [{{ \
         typed_extension_config: {extension} }}] }}, load_assignment: {{ cluster_name: a, endpoints: [{{ lb_endpoints: \
         [{}] }}] }} }}\n",
        hosts.join(", ")
    );
    Proxy::start(kind, name, &http("", "- { match: { prefix: / }, route: { cluster: a } }\n", &cluster))
}

/// Percent of the requests by host.
fn shares(proxy: &Proxy, answer: &str, count: usize) -> BTreeMap<String, usize> {
    let request = format!("GET / HTTP/1.1\r\nHost: test\r\nx-answer: {answer}\r\n\r\n");
    let mut counts = BTreeMap::new();
    for answer in exchange(proxy.port, request.repeat(count).as_bytes(), count) {
        let host = answer.headers.iter().find(|(name, _)| name == "x-backend").map(|(_, value)| value.clone());
        *counts.entry(host.unwrap_or_default()).or_insert(0) += 1;
    }
    counts.values_mut().for_each(|found| *found = *found * 100 / count);
    counts
}

fn backends() -> Vec<Backend> {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    HOSTS.iter().map(|name| Backend::start(name, &log)).collect()
}

#[test]
fn slow_and_failing_hosts_get_little() {
    let backends = backends();
    for (policy, answer) in [
        ("ripstop.dev/adaptive", "on=h1; delay-ms=100"),
        ("ripstop.dev/adaptive", "on=h1; status=503"),
        ("envoy.load_balancing_policies.peak_ewma", "on=h1; delay-ms=100"),
    ] {
        let proxy = start(Kind::Ripstop, "learning", &backends, &own(policy));
        let found = shares(&proxy, answer, 300);
        let share = |host: &str| found.get(host).copied().unwrap_or(0);
        assert!(share("h1") <= 10, "{policy}, {answer}: {found:?}");
    }
}

/// Hosts that are half as loaded get twice as much, in Envoy and in Ripstop.
#[test]
fn weights_follow_reports() {
    const REPORTS: &str = "on=h0; header=endpoint-load-metrics:TEXT cpu_utilization=0.2,rps_fractional=100; on=h1; \
        header=endpoint-load-metrics:TEXT cpu_utilization=0.4,rps_fractional=100; on=h2; \
        header=endpoint-load-metrics:JSON {\"cpu_utilization\":0.8,\"rps_fractional\":100}; on=h3; \
        header=endpoint-load-metrics:TEXT application_utilization=0.4,cpu_utilization=9,rps_fractional=100";
    const EXPECTED: [usize; 4] = [44, 22, 11, 22];
    let extension = "{ name: x, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies.\
        client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin, blackout_period: 0s, weight_update_period: \
        0.1s } }";
    let backends = backends();
    for kind in BOTH {
        let proxy = start(kind, "reports", &backends, extension);
        let begin = Instant::now();
        loop {
            let found = shares(&proxy, REPORTS, 200);
            let near = HOSTS
                .iter()
                .zip(EXPECTED)
                .all(|(host, expected)| found.get(*host).copied().unwrap_or(0).abs_diff(expected) <= 3);
            if near {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(15), "{kind:?}: {found:?}");
        }
    }
}
