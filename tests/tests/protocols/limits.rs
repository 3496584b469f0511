//! Admission control and adaptive concurrency, through both proxies.

use crate::support::{BOTH, Proxy, cluster, http};
use std::sync::{Arc, Barrier, Mutex};
use tests::backend::{Backend, Log};
use tests::client::{Answer, exchange};

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
