//! Kinds of clusters and of their connections, through both proxies.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, http};
use crate::upstreams::{answers as listens, program};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::{Process, Unused, get, ports, scratch};

const ROUTES: &str = "- { match: { prefix: / }, route: { cluster: up } }\n";

fn backend(name: &str) -> u16 {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    Backend::start(name, &log).port
}

/// Status and body of the answers to a request that is sent some times on one connection.
fn answers(port: u16, headers: &str, count: usize) -> Vec<String> {
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{headers}\r\n").repeat(count);
    let answers = exchange(port, many.as_bytes(), count);
    let mut texts: Vec<String> =
        answers.iter().map(|answer| format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))).collect();
    texts.sort();
    texts.dedup();
    texts
}

fn stat(proxy: &Proxy, name: &str) -> u64 {
    let text = get(proxy.admin, &format!("/stats?filter={name}$")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn both(scenario: impl Fn(Kind) -> Value) -> Value {
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    ours
}

fn aggregate(members: &str) -> String {
    format!(
        "- name: up\n  connect_timeout: 1s\n  lb_policy: CLUSTER_PROVIDED\n  cluster_type:\n    name: \
         envoy.clusters.aggregate\n    typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: {members} }}\n"
    )
}

#[test]
fn an_aggregate_prefers_its_first_member() {
    let (one, two) = (backend("one"), backend("two"));
    let ours = both(|kind| {
        let sick = cluster("sick", one, "").replace(
            &format!("port_value: {one} }} }} }}"),
            &format!("port_value: {one} }} }} }}, health_status: UNHEALTHY"),
        );
        let members = format!("{sick}{}{}", cluster("first", one, ""), cluster("second", two, ""));
        let through = |list: &str| {
            let proxy = Proxy::start(kind, "aggregate", &http("", ROUTES, &format!("{}{members}", aggregate(list))));
            answers(proxy.port, "", 10)
        };
        json!([through("[first, second]"), through("[sick, second]")])
    });
    assert_eq!(ours, json!([["200 one"], ["200 two"]]));
}

#[test]
fn a_cluster_that_nobody_used_is_shown() {
    let port = backend("one");
    let ours = both(|kind| {
        let tired = cluster("tired", port, "").replace(
            &format!("port_value: {port} }} }} }}"),
            &format!("port_value: {port} }} }} }}, health_status: DEGRADED"),
        );
        let clusters = format!("{}{}{tired}", cluster("up", port, ""), cluster("unused", port, ""));
        let proxy = Proxy::start(kind, "unused", &http("", ROUTES, &clusters));
        assert_eq!(answers(proxy.port, "", 1), ["200 one"]);
        let names =
            ["membership_total", "membership_healthy", "membership_degraded", "membership_change", "upstream_rq_total"];
        let figures = |cluster: &str| names.map(|name| stat(&proxy, &format!("cluster.{cluster}.{name}")));
        let text = get(proxy.admin, "/clusters").unwrap_or_default();
        let of = |cluster: &str| -> Vec<String> {
            let metrics = ["::rq_total::", "::health_flags::", "::weight::", "::max_requests::"];
            let wanted = |line: &&str| {
                line.starts_with(&format!("{cluster}::")) && metrics.iter().any(|metric| line.contains(metric))
            };
            text.lines().filter(wanted).map(str::to_owned).collect()
        };
        json!(["up", "unused", "tired"].map(|cluster| json!([figures(cluster), of(cluster)])))
    });
    assert_eq!(ours[0][0], json!([1, 1, 0, 1, 1]));
    assert_eq!(ours[1][0], json!([1, 1, 0, 1, 0]));
    assert_eq!(ours[2][0], json!([1, 0, 1, 1, 0]));
    assert_eq!(ours[1][1].as_array().map(Vec::len), Some(5), "{ours}");
}

#[test]
fn a_logical_name_is_one_endpoint() {
    let port = backend("one");
    let ours = both(|kind| {
        let config = cluster("up", port, "dns_lookup_family: V4_ONLY\n")
            .replace("type: STATIC", "type: LOGICAL_DNS")
            .replace("address: 127.0.0.1", "address: localhost");
        let kind_of = "  cluster_type:\n    name: envoy.clusters.dns\n    typed_config: { \"@type\": \
                       type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, dns_lookup_family: V4_ONLY, \
                       all_addresses_in_single_endpoint: true }\n";
        let typed = cluster("up", port, "").replace("address: 127.0.0.1", "address: localhost");
        let typed = typed.replace("  type: STATIC\n", kind_of);
        let mut seen = Vec::new();
        for config in [config, typed] {
            let proxy = Proxy::start(kind, "logical", &http("", ROUTES, &config));
            seen.push((answers(proxy.port, "", 3), stat(&proxy, "cluster.up.membership_total")));
        }
        json!(seen)
    });
    assert_eq!(ours, json!([[["200 one"], 1], [["200 one"], 1]]));
}

#[test]
fn a_header_may_choose_the_destination() {
    let (one, two) = (backend("one"), backend("two"));
    let ours = both(|kind| {
        let config = "- name: up\n  connect_timeout: 1s\n  type: ORIGINAL_DST\n  lb_policy: CLUSTER_PROVIDED\n  \
                      original_dst_lb_config: { use_http_header: true }\n";
        let proxy = Proxy::start(kind, "original", &http("", ROUTES, config));
        let to = |value: String| answers(proxy.port, &format!("x-envoy-original-dst-host: {value}\r\n"), 2);
        json!([
            to(format!("127.0.0.1:{one}")),
            to(format!("127.0.0.1:{two}")),
            to("nowhere".into()),
            answers(proxy.port, "", 1),
            stat(&proxy, "cluster.up.original_dst_host_invalid"),
        ])
    });
    assert_eq!(ours[0], json!(["200 one"]));
    assert_eq!(ours[1], json!(["200 two"]));
}

#[test]
fn the_next_address_is_tried() {
    let (one, gone) = (backend("one"), Unused::reserve());
    let ours = both(|kind| {
        let more = format!(
            "additional_addresses: [{{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {one} }} }} }}]"
        );
        let bad = format!("port_value: {} }} }}", gone.port);
        let config = cluster("up", gone.port, "").replace(&bad, &format!("{bad}, {more}"));
        let proxy = Proxy::start(kind, "eyeballs", &http("", ROUTES, &config));
        json!(answers(proxy.port, "", 3))
    });
    assert_eq!(ours, json!(["200 one"]));
}

#[test]
fn connections_are_kept_ready_and_grow_old() {
    let port = backend("one");
    let ours = both(|kind| {
        let ready = "preconnect_policy: { per_upstream_preconnect_ratio: 2.0 }\n";
        let proxy = Proxy::start(kind, "preconnect", &http("", ROUTES, &cluster("up", port, ready)));
        answers(proxy.port, "", 1);
        let start = Instant::now();
        while stat(&proxy, "cluster.up.upstream_cx_total") < 2 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ready = stat(&proxy, "cluster.up.upstream_cx_total");
        let brief = "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \
                     \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    \
                     explicit_http_config: { http_protocol_options: {} }\n    common_http_protocol_options: { \
                     max_connection_duration: 0.05s }\n";
        let proxy = Proxy::start(kind, "old", &http("", ROUTES, &cluster("up", port, brief)));
        for _ in 0..2 {
            answers(proxy.port, "x-answer: delay-ms=100\r\n", 1);
        }
        json!([ready, stat(&proxy, "cluster.up.upstream_cx_total")])
    });
    assert_eq!(ours, json!([2, 2]));
}

/// nginx over TLS, with and without HTTP/2, says which protocol a request came by.
fn nginx(folder: &std::path::Path, [both_ports, old]: [u16; 2]) -> Process {
    let at = folder.display();
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["up".to_string()]).expect("a name").self_signed(&key);
    std::fs::write(folder.join("up.pem"), certificate.expect("a certificate").pem()).expect("written");
    std::fs::write(folder.join("up.key"), key.serialize_pem()).expect("written");
    let server = |listen: String| {
        format!(
            "server {{ listen 127.0.0.1:{listen}; ssl_certificate {at}/up.pem; ssl_certificate_key {at}/up.key; location / {{ \
             return 200 $server_protocol; }} }}\n"
        )
    };
    let text = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 1; events {{}}\nhttp {{ access_log off; \
         client_body_temp_path {at}/t; proxy_temp_path {at}/t; fastcgi_temp_path {at}/t; uwsgi_temp_path {at}/t; \
         scgi_temp_path {at}/t;\n{}{} }}\n",
        server(format!("{both_ports} ssl http2")),
        server(format!("{old} ssl"))
    );
    std::fs::write(folder.join("nginx.conf"), text).expect("written");
    let (config, prefix) = (folder.join("nginx.conf").display().to_string(), at.to_string());
    let process = Process::start("nginx", folder, &program("nginx"), &["-c", &config, "-p", &prefix]);
    listens(both_ports, &process);
    process
}

fn curl(port: u16, protocol: &str) -> String {
    let url = format!("http://127.0.0.1:{port}/");
    let output = Command::new("curl").args(["-s", "--max-time", "10", protocol, &url]).output().expect("curl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The protocol to the upstream: what ALPN says, or what the client used.
#[test]
fn protocols_are_agreed_or_taken_over() {
    let folder = scratch("protocols-nginx");
    let ports = ports();
    let _nginx = nginx(&folder, ports);
    let options = |choice: &str| {
        format!(
            "transport_socket:\n  name: tls\n  typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext }}\n\
             typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \"@type\": \
             type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    {choice}: {{ \
             http_protocol_options: {{}}, http2_protocol_options: {{}} }}\n"
        )
    };
    let ours = both(|kind| {
        let ask = |choice: &str, upstream: u16, client: &str| {
            let proxy = Proxy::start(kind, "protocols", &http("", ROUTES, &cluster("up", upstream, &options(choice))));
            curl(proxy.port, client)
        };
        json!([
            ask("auto_config", ports[0], "--http1.1"),
            ask("auto_config", ports[1], "--http1.1"),
            ask("auto_config", ports[1], "--http2-prior-knowledge"),
            ask("use_downstream_protocol_config", ports[0], "--http1.1"),
            ask("use_downstream_protocol_config", ports[0], "--http2-prior-knowledge"),
        ])
    });
    assert_eq!(ours, json!(["HTTP/2.0", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/2.0"]));
    let _ = std::fs::remove_dir_all(&folder);
}
