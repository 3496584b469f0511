//! A failing cluster is not finished off by retries.

use crate::support::{Kind, Proxy, cluster, http};
use std::sync::{Arc, Mutex};
use tests::backend::{Backend, Log};
use tests::client::exchange;

const CLIENTS: usize = 4;
const CONNECTIONS: usize = 50;
const REQUESTS: usize = 20;

/// Every second answer is an error and every request may be tried four times: without a budget that is half as much
/// load again and more.
#[test]
fn a_retry_storm_adds_at_most_a_fifth() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("a", &log);
    let routes = "- { match: { prefix: / }, route: { cluster: a, retry_policy: { retry_on: 5xx, num_retries: 3, retry_back_off: { base_interval: 0.001s } } } }\n";
    let proxy = Proxy::start(Kind::Ripstop, "storm", &http("", routes, &cluster("a", backend.port, "")));
    let requests = "GET / HTTP/1.1\r\nHost: a\r\nx-answer: every-other=503\r\n\r\n".repeat(REQUESTS);
    let succeeded: usize = std::thread::scope(|scope| {
        let client = || {
            let answers = (0..CONNECTIONS).flat_map(|_| exchange(proxy.port, requests.as_bytes(), REQUESTS));
            answers.filter(|answer| answer.status == 200).count()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).sum()
    });
    let offered = (CLIENTS * CONNECTIONS * REQUESTS) as f64;
    let load = log.lock().unwrap().len() as f64 / offered;
    println!("load {load:.3}, {succeeded} of {offered} succeeded");
    assert!((1.05..=1.2).contains(&load), "the backend got {load:.3} times the load");
    assert!(succeeded as f64 > offered * 0.55, "the retries that are granted help: {succeeded}");
}
