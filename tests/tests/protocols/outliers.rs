//! Failing hosts are left out and come back, in Envoy and in Ripstop; their counters have the same names and values.

use crate::support::{BOTH, Kind, Proxy, http};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::{Unused, get};

const HOSTS: [&str; 5] = ["h0", "h1", "h2", "h3", "h4"];
const PATIENCE: Duration = Duration::from_secs(20);

/// Fields of `outlier_detection`, and the counters that must be 1 when the first host is out.
const CLUSTERS: [(&str, &str, &[&str]); 4] = [
    (
        "five",
        "consecutive_5xx: 3, max_ejection_percent: 20, enforcing_success_rate: 0",
        &["ejections_enforced_consecutive_5xx", "ejections_consecutive_5xx", "ejections_total"],
    ),
    (
        "gateway",
        "consecutive_5xx: 0, consecutive_gateway_failure: 3, enforcing_consecutive_gateway_failure: 100, \
         max_ejection_percent: 20, enforcing_success_rate: 0",
        &["ejections_enforced_consecutive_gateway_failure"],
    ),
    (
        "rate",
        "consecutive_5xx: 0, success_rate_minimum_hosts: 5, success_rate_request_volume: 3, success_rate_stdev_factor: \
         1000, always_eject_one_host: true, max_ejection_percent: 0",
        &["ejections_enforced_success_rate"],
    ),
    (
        "percentage",
        "consecutive_5xx: 0, enforcing_success_rate: 0, failure_percentage_threshold: 60, enforcing_failure_percentage: \
         100, failure_percentage_minimum_hosts: 5, failure_percentage_request_volume: 3, max_ejection_percent: 20",
        &["ejections_enforced_failure_percentage"],
    ),
];

fn cluster(name: &str, ports: &[u16], outliers: &str, more: &str) -> String {
    let host = |port: &u16| {
        format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}")
    };
    let hosts: Vec<String> = ports.iter().map(host).collect();
    format!(
        "- {{ name: {name}, type: STATIC, connect_timeout: 1s, outlier_detection: {{ interval: 0.5s, base_ejection_time: \
         1s, {outliers} }}, {more} load_assignment: {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{}] }}] }} }}\n",
        hosts.join(", ")
    )
}

/// Outlier counters of a cluster.
fn counters(proxy: &Proxy, cluster: &str) -> BTreeMap<String, u64> {
    let prefix = format!("cluster.{cluster}.outlier_detection.");
    let text = get(proxy.admin, "/stats").expect("statistics");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once(": "));
    lines.map(|(name, value)| (name.to_string(), value.trim().parse().expect("a number"))).collect()
}

/// Who answered so many requests, each sent when the one before is answered.
fn hosts(proxy: &Proxy, path: &str, answer: &str, count: usize) -> Vec<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nx-answer: {answer}\r\n\r\n");
    let answers = exchange(proxy.port, request.repeat(count).as_bytes(), count);
    let backend = |headers: &[(String, String)]| {
        headers.iter().find(|(name, _)| name == "x-backend").map(|(_, value)| value.clone()).unwrap_or_default()
    };
    answers.iter().map(|answer| backend(&answer.headers)).collect()
}

/// Asks, and keeps sending requests meanwhile, until it is so.
fn until(
    proxy: &Proxy,
    path: &str,
    answer: &str,
    cluster: &str,
    what: &str,
    is: impl Fn(&BTreeMap<String, u64>) -> bool,
) {
    let start = Instant::now();
    loop {
        let found = counters(proxy, cluster);
        if is(&found) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {found:?}");
        hosts(proxy, path, answer, 10);
    }
}

#[test]
fn a_failing_host_is_left_out_and_comes_back() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backends: Vec<Backend> = HOSTS.iter().map(|name| Backend::start(name, &log)).collect();
    let ports: Vec<u16> = backends.iter().map(|backend| backend.port).collect();
    let clusters: String = CLUSTERS.iter().map(|(name, fields, _)| cluster(name, &ports, fields, "")).collect();
    let route = |(name, ..): &(&str, &str, &[&str])| {
        format!("- {{ match: {{ path: /{name} }}, route: {{ cluster: {name} }} }}\n")
    };
    let routes: String = CLUSTERS.iter().map(route).collect();
    let proxies = BOTH.map(|kind| Proxy::start(kind, "outliers", &http("", &routes, &clusters)));
    // A worker has counters from when it knows the cluster.
    proxies.iter().for_each(|proxy| drop(hosts(proxy, "/five", "", 1)));
    let names = proxies.each_ref().map(|proxy| counters(proxy, "five").into_keys().collect::<Vec<_>>());
    let missing: Vec<_> = names[0].iter().filter(|name| !names[1].contains(name) && !name.contains("degrad")).collect();
    assert!(missing.is_empty(), "counters that only Envoy has: {missing:?}");
    std::thread::scope(|scope| {
        for proxy in &proxies {
            for (name, _, expected) in CLUSTERS {
                scope.spawn(move || fail_and_return(proxy, name, expected));
            }
        }
    });
}

fn fail_and_return(proxy: &Proxy, name: &str, expected: &[&str]) {
    let path = format!("/{name}");
    let path = path.as_str();
    let active = |counters: &BTreeMap<String, u64>| counters["ejections_active"] == 1;
    until(proxy, path, "on=h0; status=503", name, "is left out", active);
    let found = counters(proxy, name);
    for counter in expected {
        assert_eq!(found.get(*counter), Some(&1), "{name} {counter}: {found:?}");
    }
    let during = hosts(proxy, path, "", 25);
    assert!(
        counters(proxy, name)["ejections_active"] == 0 || !during.contains(&"h0".to_string()),
        "{name}: {during:?}"
    );
    let back = |counters: &BTreeMap<String, u64>| counters["ejections_active"] == 0;
    until(proxy, path, "", name, "comes back", back);
    // Envoy's workers learn of it a moment later.
    let start = Instant::now();
    while !hosts(proxy, path, "", 10).contains(&"h0".to_string()) {
        assert!(start.elapsed() < PATIENCE, "{name}: it is back and gets nothing");
    }
}

/// Failures on the way count apart from the server's, and too many hosts are never left out.
#[test]
fn local_failures_and_the_most_that_go() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("h0", &log);
    let gone = [Unused::reserve(), Unused::reserve()];
    let ports = [backend.port, gone[0].port, gone[1].port];
    let split = "split_external_local_origin_errors: true, consecutive_local_origin_failure: 2, ";
    let local = cluster("local", &ports, &format!("{split} max_ejection_percent: 40"), "");
    let routes = "- { match: { path: /local }, route: { cluster: local } }\n";
    for kind in BOTH {
        let proxy = Proxy::start(kind, "local-outliers", &http("", routes, &local));
        let overflow = |counters: &BTreeMap<String, u64>| counters["ejections_overflow"] > 0;
        until(&proxy, "/local", "", "local", "one is left out, the other may not be", overflow);
        let found = counters(&proxy, "local");
        assert_eq!(found["ejections_active"], 1, "{kind:?}: {found:?}");
        assert_eq!(found["ejections_enforced_consecutive_local_origin_failure"], found["ejections_enforced_total"]);
        assert_eq!(found["ejections_enforced_consecutive_5xx"], 0, "{kind:?}: {found:?}");
    }
}

/// Ripstop's own monitor: a host whose success rate is too low goes, and comes back for one request at a time.
#[test]
fn a_low_success_rate_and_probes() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backends: Vec<Backend> = HOSTS[..2].iter().map(|name| Backend::start(name, &log)).collect();
    let ports: Vec<u16> = backends.iter().map(|backend| backend.port).collect();
    let monitor = "consecutive_5xx: 0, max_ejection_percent: 50, monitors: [{ name: ripstop.dev/success_rate, \
        typed_config: { \"@type\": type.googleapis.com/google.protobuf.Struct, value: { threshold: 60, window: 10s, \
        minimum_requests: 6 } } }]";
    let routes = "- { match: { path: /windowed }, route: { cluster: windowed } }\n";
    let proxy = Proxy::start(Kind::Ripstop, "windowed", &http("", routes, &cluster("windowed", &ports, monitor, "")));
    let failing = "on=h0; status=500";
    until(&proxy, "/windowed", failing, "windowed", "three ejections", |counters| {
        counters["ejections_enforced_total"] >= 3
    });
    let met = log.lock().unwrap().iter().filter(|seen| seen.backend == "h0").count();
    let ejections = counters(&proxy, "windowed")["ejections_enforced_total"] as usize;
    assert!(met < 6 + ejections, "the failing host got {met} requests before {ejections} ejections");
    let healed = |counters: &BTreeMap<String, u64>| counters["ejections_active"] == 0;
    until(&proxy, "/windowed", "", "windowed", "comes back", healed);
    let after = hosts(&proxy, "/windowed", "", 20);
    assert_eq!(after.iter().filter(|host| *host == "h0").count(), 10, "{after:?}");
}
