//! The overload manager of both proxies, under a pressure that a file names.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, http};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::{get, scratch};

const ROUTES: &str = "- { match: { prefix: / }, route: { cluster: up } }\n";
const MONITORS: &str = "type.googleapis.com/envoy.extensions.resource_monitors";

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(15), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn stat(proxy: &Proxy, name: &str) -> u64 {
    let text = get(proxy.admin, &format!("/stats?filter={name}$")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn config(actions: &[(&str, &str)], backend: u16) -> String {
    let trigger = "trigger";
    let actions = actions.iter().map(|(name, value)| {
        format!(
            "  - {{ name: envoy.overload_actions.{name}, triggers: [{{ name: {trigger}, threshold: {{ value: {value} }} }}] }}\n"
        )
    });
    format!(
        "{}overload_manager:\n  refresh_interval: 0.05s\n  resource_monitors:\n  - {{ name: trigger, typed_config: {{ \
         \"@type\": {MONITORS}.injected_resource.v3.InjectedResourceConfig, filename: '{{FOLDER}}/pressure' }} }}\n  \
         actions:\n{}",
        http("", ROUTES, &cluster("up", backend, "")),
        actions.collect::<String>()
    )
}

/// Replaces the file as a whole.
fn press(folder: &Path, pressure: &str) {
    std::fs::write(folder.join("fresh"), pressure).expect("a file");
    std::fs::rename(folder.join("fresh"), folder.join("pressure")).expect("replaced");
}

fn backend() -> u16 {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    Backend::start("up", &log).port
}

fn ask(port: u16) -> Value {
    let answers = exchange(port, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", 1);
    let Some(answer) = answers.first() else { return Value::Null };
    let close = answer.headers.iter().any(|(name, value)| name == "connection" && value == "close");
    json!([answer.status, String::from_utf8_lossy(&answer.body), close])
}

#[test]
fn requests_and_connections_are_shed_by_pressure() {
    let port = backend();
    let scenario = |kind: Kind| {
        let folder = scratch(&format!("overload-{kind:?}"));
        press(&folder, "0.1");
        let actions = [
            ("disable_http_keepalive", "0.5"),
            ("stop_accepting_requests", "0.7"),
            ("reject_incoming_connections", "0.9"),
        ];
        let proxy = Proxy::start_in(kind, &folder, &config(&actions, port), &[]);
        let mut seen = Vec::new();
        for (pressure, active) in [
            ("0.1", None),
            ("0.5", Some("disable_http_keepalive")),
            ("0.75", Some("stop_accepting_requests")),
            ("0.95", Some("reject_incoming_connections")),
            ("0.2", None),
        ] {
            press(&folder, pressure);
            let wanted = pressure.trim_start_matches("0.").parse::<u64>().expect("a number");
            let wanted = if wanted < 10 { wanted * 10 } else { wanted };
            until(pressure, || stat(&proxy, "overload.trigger.pressure") == wanted);
            let name = |action: &str| format!("overload.envoy.overload_actions.{action}.active");
            until("the action shows", || active.is_none_or(|action| stat(&proxy, &name(action)) == 1));
            seen.push((pressure, ask(proxy.port)));
        }
        let counts = ["http.test.downstream_rq_overload_close", "http.test.downstream_cx_overload_disable_keepalive"];
        let counts = counts.map(|name| (name, stat(&proxy, name) > 0));
        let _ = std::fs::remove_dir_all(&folder);
        json!([seen, counts])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[0][0][1], json!([200, "up", false]));
    assert_eq!(ours[0][2][1][0], 503);
}

#[test]
fn connections_wait_while_none_are_accepted() {
    let port = backend();
    for kind in BOTH {
        let folder = scratch(&format!("overload-stop-{kind:?}"));
        press(&folder, "0.1");
        let proxy = Proxy::start_in(kind, &folder, &config(&[("stop_accepting_connections", "0.9")], port), &[]);
        press(&folder, "1.0");
        until("it stops", || stat(&proxy, "overload.envoy.overload_actions.stop_accepting_connections.active") == 1);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the kernel accepts");
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        client.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
        let mut space = [0; 512];
        assert!(client.read(&mut space).is_err(), "{kind:?} answers though it accepts nothing");
        press(&folder, "0.1");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        let count = client.read(&mut space).expect("an answer");
        assert!(space[..count].starts_with(b"HTTP/1.1 200 OK\r\n"), "{kind:?}");
        let _ = std::fs::remove_dir_all(&folder);
    }
}

#[test]
fn connections_are_limited() {
    let port = backend();
    let scenario = |kind: Kind| {
        let config = format!(
            "{}overload_manager:\n  resource_monitors:\n  - {{ name: \
             envoy.resource_monitors.global_downstream_max_connections, typed_config: {{ \"@type\": \
             {MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig, max_active_downstream_connections: 2 }} }}\n",
            http("", ROUTES, &cluster("up", port, ""))
        );
        let proxy = Proxy::start(kind, "overload-connections", &config);
        let serves = |stream: &mut TcpStream| {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut space = [0; 512];
            matches!(stream.read(&mut space), Ok(1..))
        };
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the kernel accepts");
        let (mut one, mut two) = (connect(), connect());
        let both = [serves(&mut one), serves(&mut two)];
        let third = serves(&mut connect());
        let overflow = format!("listener.127.0.0.1_{}.downstream_global_cx_overflow", proxy.port);
        // The connection may close before it is counted.
        until("it is counted", || stat(&proxy, &overflow) > 0);
        let counted = stat(&proxy, &overflow);
        drop(one);
        until("there is room again", || serves(&mut connect()));
        json!([both, third, counted])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours, json!([[true, true], false, 1]));
}

/// Network filters that close connections: too many at a time, or too many at once.
#[test]
fn network_filters_limit_connections() {
    const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.network";
    let (port, seen) = crate::tcp::server(|mut stream: TcpStream| {
        let mut space = [0; 16];
        while let Ok(count @ 1..) = stream.read(&mut space) {
            if stream.write_all(&space[..count]).is_err() {
                return;
            }
        }
    });
    let served = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        let _ = stream.write_all(b"ping");
        matches!(stream.read(&mut [0; 16]), Ok(1..))
    };
    let scenario = |kind: Kind| {
        let with = |filter: &str| {
            let text = crate::tcp::tcp("", &cluster("up", port, ""));
            let text = text.replacen(
                "- name: tcp\n",
                &format!("- {{ name: guard, typed_config: {{ \"@type\": {FILTERS}.{filter} }} }}\n      - name: tcp\n"),
                1,
            );
            Proxy::start(kind, "guards", &text)
        };
        let connect =
            |proxy: &Proxy| TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the kernel accepts");
        let proxy = with("connection_limit.v3.ConnectionLimit, stat_prefix: some, max_connections: 1, delay: 0.05s");
        let mut first = connect(&proxy);
        let one = [served(&mut first), served(&mut connect(&proxy)), served(&mut first)];
        let names = ["connection_limit.some.limited_connections", "connection_limit.some.active_connections"];
        let limited = names.map(|name| stat(&proxy, name));
        drop(first);
        until("there is room again", || served(&mut connect(&proxy)));
        let bucket = "{ max_tokens: 2, tokens_per_fill: 1, fill_interval: 1000s }";
        let proxy = with(&format!("local_ratelimit.v3.LocalRateLimit, stat_prefix: some, token_bucket: {bucket}"));
        let many = [(); 4].map(|()| served(&mut connect(&proxy)));
        json!([one, limited, many, stat(&proxy, "local_rate_limit.some.rate_limited")])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours, json!([[true, false, true], [1, 1], [true, true, false, false], 2]));
    drop(seen);
}

#[test]
fn load_shed_points_turn_away_by_pressure() {
    let port = backend();
    let scenario = |kind: Kind| {
        let folder = scratch(&format!("shed-points-{kind:?}"));
        press(&folder, "0.1");
        let points = [("http_connection_manager_decode_headers", "0.5"), ("tcp_listener_accept", "0.9")].map(|(name, value)| {
            format!(
                "  - {{ name: envoy.load_shed_points.{name}, triggers: [{{ name: trigger, threshold: {{ value: {value} }} }}] }}\n"
            )
        });
        let config = config(&[], port).replace("  actions:\n", &format!("  loadshed_points:\n{}", points.concat()));
        let proxy = Proxy::start_in(kind, &folder, &config, &[]);
        let mut seen = Vec::new();
        for (pressure, wanted) in [("0.1", [0, 0]), ("0.6", [100, 0]), ("0.95", [100, 100]), ("0.2", [0, 0])] {
            press(&folder, pressure);
            until(pressure, || {
                let names = ["http_connection_manager_decode_headers", "tcp_listener_accept"];
                names.map(|name| stat(&proxy, &format!("overload.envoy.load_shed_points.{name}.scale_percent")))
                    == wanted
            });
            seen.push(ask(proxy.port));
        }
        let counts = ["http.test.downstream_rq_overload_close"].map(|name| (name, stat(&proxy, name)));
        let _ = std::fs::remove_dir_all(&folder);
        json!([seen, counts])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[0][1][0], json!(503));
}
