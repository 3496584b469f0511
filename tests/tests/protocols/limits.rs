//! Admission control, adaptive concurrency and the age of connections, through both proxies.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, http};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;
use tests::backend::{Backend, Log};
use tests::client::{Answer, exchange};
use tests::process::get;

const ALL_TO_A: &str = "- { match: { prefix: / }, route: { cluster: a } }\n";

/// A bootstrap with `filter` before the router.
fn limited(filter: &str, port: u16) -> String {
    let text = http("", ALL_TO_A, &cluster("a", port, ""));
    text.replacen("http_filters:\n", &format!("http_filters:\n          - {filter}\n"), 1)
}

fn ask(proxy: &Proxy, wish: &str) -> Answer {
    let raw = format!("GET / HTTP/1.1\r\nHost: a\r\nx-answer: {wish}\r\n\r\n");
    exchange(proxy.port, raw.as_bytes(), 1).remove(0)
}

#[test]
fn no_more_at_once_than_the_limit() {
    const FILTER: &str = "{ name: limit, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency, gradient_controller_config: { concurrency_limit_params: { concurrency_update_interval: 3600s }, min_rtt_calc_params: { fixed_value: 0.01s, min_concurrency: 2 } } } }";
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("a", &log);
    for kind in BOTH {
        let proxy = Proxy::start(kind, "concurrency", &limited(FILTER, backend.port));
        let together = Barrier::new(5);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let one = || {
                together.wait();
                ask(&proxy, "delay-ms=700")
            };
            let all: Vec<_> = (0..5).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().expect("no panic")).collect()
        });
        let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
        assert_eq!(refused.len(), 3, "{kind:?}: {answers:?}");
        assert!(refused.iter().all(|answer| answer.body == b"reached concurrency limit"), "{kind:?}: {refused:?}");
        assert_eq!(ask(&proxy, "status=200").status, 200, "{kind:?}: there is room again");
    }
}

/// Nothing but errors: after a while nearly as many are refused as the configuration allows.
#[test]
fn failures_are_kept_away() {
    const FILTER: &str = "{ name: admission, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.admission_control.v3.AdmissionControl, sampling_window: 60s, success_criteria: {} } }";
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("a", &log);
    for kind in BOTH {
        let proxy = Proxy::start(kind, "admission", &limited(FILTER, backend.port));
        let client =
            || (0..75).map(|_| ask(&proxy, "status=500").status).skip(25).filter(|status| *status == 503).count();
        let refused: usize = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..6).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join().expect("no panic")).sum()
        });
        // 80 % of 300, give or take six standard deviations.
        assert!((198..=282).contains(&refused), "{kind:?}: {refused} of 300");
    }
}

/// A client of HTTP/2 that asks for nothing sees its connection end.
fn http2_ends(port: u16) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the proxy accepts");
        let (_send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::time::timeout(Duration::from_secs(10), connection).await.is_ok()
    })
}

/// A client that stays is let go when its connection has reached its age, over HTTP/1.1 and HTTP/2.
#[test]
fn connections_end_by_age() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("up", &log).port;
    let options = "common_http_protocol_options: { max_connection_duration: 0.2s, max_connection_duration_jitter: { \
                   value: 10 } }\ndrain_timeout: 0.1s\n";
    let config = http(options, "- { match: { prefix: / }, route: { cluster: up } }\n", &cluster("up", backend, ""));
    let scenario = |kind: Kind| {
        let proxy = Proxy::start(kind, "age", &config);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the proxy accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        let ended = [stream.read_to_end(&mut Vec::new()).is_ok(), http2_ends(proxy.port)];
        let name = "http.test.downstream_cx_max_duration_reached";
        let stats = get(proxy.admin, &format!("/stats?filter={name}")).unwrap_or_default();
        json!([ended, stats.lines().find(|line| line.starts_with(name))])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours, json!([[true, true], "http.test.downstream_cx_max_duration_reached: 2"]));
}

/// Silence has its time limit from the first moment, also while it is open which protocol the client will speak; a
/// request after a while of silence is served as ever.
#[test]
fn silent_connections_are_closed() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("up", &log).port;
    let options = "common_http_protocol_options: { idle_timeout: 2s }\n";
    let config = http(options, "- { match: { prefix: / }, route: { cluster: up } }\n", &cluster("up", backend, ""));
    let scenario = |kind: Kind, first_words: &[u8]| {
        let proxy = Proxy::start(kind, "silence", &config);
        let connect = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the proxy accepts");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
            stream
        };
        let (mut silent, mut asks) = (connect(), connect());
        silent.write_all(first_words).expect("sent");
        let mut answers = 0;
        for _ in 0..2 {
            asks.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
            let mut bytes = [0; 4096];
            let length = asks.read(&mut bytes).expect("an answer");
            answers += u32::from(bytes[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
            // Longer than a connection keeps the room for requests.
            std::thread::sleep(Duration::from_millis(1300));
        }
        let ends = [&mut silent, &mut asks].map(|stream| stream.read_to_end(&mut Vec::new()).is_ok());
        let name = "http.test.downstream_cx_idle_timeout";
        let stats = get(proxy.admin, &format!("/stats?filter={name}")).unwrap_or_default();
        json!([answers, ends, stats.lines().find(|line| line.starts_with(name))])
    };
    let expected = json!([2, [true, true], "http.test.downstream_cx_idle_timeout: 2"]);
    for kind in BOTH {
        assert_eq!(scenario(kind, b""), expected, "{kind:?}");
    }
    // Envoy does not close this one.
    assert_eq!(scenario(Kind::Ripstop, b"PRI * HT"), expected);
}
