//! Active health checks through both proxies: what endpoints are asked, what their answers lead to, what is logged.

use crate::support::{BOTH, HTTP2, Kind, Proxy, Server, assert_same, cluster, http};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::client::exchange;
use tests::process::{get, scratch};

/// A service that says of itself how it is.
struct Service {
    port: u16,
    status: Arc<AtomicU16>,
    /// The last check, as it came.
    asked: Arc<Mutex<String>>,
}

impl Service {
    fn start(name: &'static str, extra: &'static str) -> Service {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(String::new())));
        let service = Service { port, status: status.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (status, asked) = (status.clone(), asked.clone());
                std::thread::spawn(move || serve(stream, name, extra, &status, &asked));
            }
        });
        service
    }
}

fn serve(mut stream: TcpStream, name: &str, extra: &str, status: &AtomicU16, asked: &Mutex<String>) {
    let mut raw = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        raw.push(byte[0]);
        if !raw.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut raw)).into_owned();
        let check = text.contains(" /well");
        let status = if check { status.load(Ordering::Relaxed) } else { 200 };
        if check {
            *asked.lock().expect("no panic") = text;
        }
        let answer = format!("HTTP/1.1 {status} Reason\r\n{extra}content-length: {}\r\n\r\n{name}", name.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(15), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What `/clusters` says of the health of `port`.
fn flags(proxy: &Proxy, port: u16) -> String {
    let text = get(proxy.admin, "/clusters").unwrap_or_default();
    let wanted = format!("127.0.0.1:{port}::health_flags::");
    text.lines().find_map(|line| line.split_once(&wanted)).map(|(_, flags)| flags.to_string()).unwrap_or_default()
}

fn stat(proxy: &Proxy, name: &str) -> u64 {
    let text = get(proxy.admin, &format!("/stats?filter={name}$")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The names of those that answered some requests, each once.
fn answering(port: u16) -> Vec<String> {
    let many = "GET /any HTTP/1.1\r\nHost: test\r\n\r\n".repeat(12);
    let answers = exchange(port, many.as_bytes(), 12);
    let mut names: Vec<String> =
        answers.iter().map(|answer| format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))).collect();
    names.sort();
    names.dedup();
    names
}

fn cluster_of(ports: &[u16], more: &str) -> String {
    let endpoints: Vec<String> = ports
        .iter()
        .map(|port| {
            format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}")
        })
        .collect();
    let list = endpoints.join(", ");
    format!(
        "- name: up\n  type: STATIC\n  connect_timeout: 1s\n  load_assignment: {{ cluster_name: up, endpoints: [{{ \
         lb_endpoints: [{list}] }}] }}\n  common_lb_config: {{ healthy_panic_threshold: {{ value: 0 }}, update_merge_window: 0s }}\n{}",
        crate::support::indent(more, 2)
    )
}

const ROUTES: &str = "- { match: { prefix: / }, route: { cluster: up } }\n";

/// Quick checks; `what` is the check itself, `more` further fields.
fn checks(what: &str, more: &str) -> String {
    format!(
        "health_checks:\n- timeout: 1s\n  interval: 0.03s\n  no_traffic_interval: 0.03s\n  unhealthy_threshold: 2\n  \
         healthy_threshold: 2\n{}{}",
        crate::support::indent(more, 2),
        crate::support::indent(what, 2)
    )
}

/// The event log without what differs from run to run.
fn events(folder: &std::path::Path, ports: &[u16]) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("events.log")).unwrap_or_default();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &mut lines {
        assert!(line["timestamp"].as_str().is_some_and(|time| time.starts_with("20")), "{line}");
        line["timestamp"] = Value::Null;
        let port = &mut line["host"]["socket_address"]["port_value"];
        *port = json!(ports.iter().position(|known| Some(u64::from(*known)) == port.as_u64()));
    }
    lines
}

fn http_scenario(kind: Kind) -> Value {
    let services = [Service::start("one", ""), Service::start("two", "")];
    let ports = services.each_ref().map(|service| service.port);
    let folder = scratch(&format!("health-http-{kind:?}"));
    let check = "http_health_check:\n  path: /well?all\n  host: doctor\n  expected_statuses: [{ start: 200, end: 205 }]\n  \
                 retriable_statuses: [{ start: 500, end: 501 }]\n  request_headers_to_add: [{ header: { key: x-check, \
                 value: 'yes' } }]\n";
    let log = "event_logger:\n- name: log\n  typed_config:\n    \"@type\": \
               type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink\n    \
               event_log_path: '{FOLDER}/events.log'\n";
    let config = http("", ROUTES, &cluster_of(&ports, &checks(check, log)));
    let proxy = Proxy::start_in(kind, &folder, &config, &[]);
    let mut seen = Vec::new();
    let mut note = |what: &str| {
        let flags = ports.map(|port| flags(&proxy, port));
        seen.push(json!({ "after": what, "flags": flags, "answers": answering(proxy.port) }));
    };
    until("both are well", || ports.iter().all(|port| flags(&proxy, *port) == "healthy"));
    note("start");
    services[0].status.store(503, Ordering::Relaxed);
    until("one has failed", || flags(&proxy, ports[0]) != "healthy");
    note("an answer that counts at once");
    services[0].status.store(202, Ordering::Relaxed);
    until("one is well again", || flags(&proxy, ports[0]) == "healthy");
    services[1].status.store(500, Ordering::Relaxed);
    until("two has failed", || flags(&proxy, ports[1]) != "healthy");
    note("retriable answers");
    services[0].status.store(404, Ordering::Relaxed);
    until("one has failed", || flags(&proxy, ports[0]) != "healthy");
    note("nobody is well");
    until("the log is written", || events(&folder, &ports).len() >= 6);
    let asked = services[0].asked.lock().expect("no panic").to_ascii_lowercase();
    let mut asked: Vec<&str> = asked.lines().filter(|line| !line.is_empty()).collect();
    asked.sort_unstable();
    let stats =
        ["attempt", "success", "failure"].map(|name| stat(&proxy, &format!("cluster.up.health_check.{name}")) > 3);
    let healthy = stat(&proxy, "cluster.up.health_check.healthy");
    let mut events = events(&folder, &ports);
    // The two endpoints' first events come in any order.
    events[..2].sort_by_key(|event| event["host"]["socket_address"]["port_value"].as_u64());
    let _ = std::fs::remove_dir_all(&folder);
    json!({ "seen": seen, "asked": asked, "stats": stats, "healthy": healthy, "events": events })
}

#[test]
fn http_checks() {
    let [theirs, ours] = BOTH.map(http_scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours["seen"][1]["answers"], json!(["200 two"]));
}

/// The service says who it is, and that others should be preferred.
#[test]
fn identity_and_degradation() {
    let scenario = |kind: Kind| {
        let named =
            Service::start("named", "x-envoy-upstream-healthchecked-cluster: shop\r\nx-envoy-degraded: yes\r\n");
        let other = Service::start("other", "x-envoy-upstream-healthchecked-cluster: else\r\n");
        let check = "http_health_check: { path: /well, service_name_matcher: { prefix: sh } }\n";
        let config = http("", ROUTES, &cluster_of(&[named.port, other.port], &checks(check, "")));
        let proxy = Proxy::start(kind, "health-identity", &config);
        until("both are known", || stat(&proxy, "cluster.up.health_check.verify_cluster") >= 4);
        let asked = named.asked.lock().expect("no panic").clone();
        json!([flags(&proxy, named.port), flags(&proxy, other.port), asked.contains("host: up\r\n")])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours, json!(["/degraded_active_hc", "/failed_active_hc", true]));
}

/// Greets, then answers `ping` with `pong`; or says nothing at all.
fn greeter(answers: bool) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut space = [0; 64];
                while let Ok(1..) = stream.read(&mut space) {
                    if answers && stream.write_all(b"hello po").and_then(|()| stream.write_all(b"ng")).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn tcp_checks() {
    let scenario = |kind: Kind| {
        let gone = tests::process::Unused::reserve();
        let ports = [greeter(true), greeter(false), gone.port];
        let check =
            "tcp_health_check: { send: { text: '70696e67' }, receive: [{ text: '6865' }, { text: '706f6e67' }] }\n";
        let quick = checks(check, "").replace("timeout: 1s", "timeout: 0.2s");
        let proxy = Proxy::start(kind, "health-tcp", &http("", ROUTES, &cluster_of(&ports, &quick)));
        until("all are known", || stat(&proxy, "cluster.up.health_check.network_failure") >= 4);
        until("time-outs show", || flags(&proxy, ports[1]).contains("timeout"));
        json!([ports.map(|port| flags(&proxy, port)), stat(&proxy, "cluster.up.health_check.healthy")])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[1], 1);
}

#[test]
fn grpc_checks() {
    let scenario = |kind: Kind| {
        let server = Server::start("grpc");
        let flags_of = |service: &str| {
            let check = checks(&format!("grpc_health_check: {{ service_name: '{service}' }}\n"), "");
            let config = http("", ROUTES, &cluster("up", server.port, &format!("{HTTP2}{check}")));
            let proxy = Proxy::start(kind, "health-grpc", &config);
            until("some checks are done", || stat(&proxy, "cluster.up.health_check.attempt") >= 3);
            until("it is known", || !flags(&proxy, server.port).contains("pending"));
            flags(&proxy, server.port)
        };
        json!(["", "down", "unknown"].map(flags_of))
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours, json!(["healthy", "/failed_active_hc", "/failed_active_hc"]));
}

/// Endpoints may be checked elsewhere, or not at all.
#[test]
fn endpoints_with_checks_of_their_own() {
    let scenario = |kind: Kind| {
        let [doctor, service] = [Service::start("doctor", ""), Service::start("service", "")];
        let gone = tests::process::Unused::reserve();
        let own = format!("health_check_config: {{ port_value: {}, hostname: mine }}", doctor.port);
        let none = "health_check_config: { disable_active_health_check: true }";
        let config = cluster_of(&[service.port, gone.port], &checks("http_health_check: { path: /well }\n", ""))
            .replacen(&format!("{} }} }}", service.port), &format!("{} }} }}, {own}", service.port), 1)
            .replacen(&format!("{} }} }}", gone.port), &format!("{} }} }}, {none}", gone.port), 1);
        let proxy = Proxy::start(kind, "health-own", &http("", ROUTES, &config));
        doctor.status.store(503, Ordering::Relaxed);
        until("its doctor says no", || flags(&proxy, service.port) == "/failed_active_hc");
        let asked = doctor.asked.lock().expect("no panic").clone();
        json!([asked.contains("host: mine\r\n"), flags(&proxy, gone.port)])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
}

/// A response to any request may say that its sender is not well; the checks decide when it is again.
#[test]
fn endpoints_may_say_that_they_are_unwell() {
    let scenario = |kind: Kind| {
        let services =
            [Service::start("one", ""), Service::start("two", "x-envoy-immediate-health-check-fail: true\r\n")];
        let ports = services.each_ref().map(|service| service.port);
        let slow = checks("http_health_check: { path: /well }\n", "").replace("0.03s", "300s");
        let proxy = Proxy::start(kind, "health-unwell", &http("", ROUTES, &cluster_of(&ports, &slow)));
        until("both are well", || ports.iter().all(|port| flags(&proxy, *port) == "healthy"));
        let first = answering(proxy.port);
        until("two has failed", || flags(&proxy, ports[1]).contains("/failed_active_hc"));
        until("workers know", || answering(proxy.port) == ["200 one"]);
        json!([first, stat(&proxy, "cluster.up.health_check.passive_failure") > 0, flags(&proxy, ports[0])])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[0], json!(["200 one", "200 two"]));
}
