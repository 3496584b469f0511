//! Cases about deadlines, retries, hedging, mirroring and circuit breakers.

use super::cases::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = deadlines();
    cases.extend(headers());
    cases.extend(mirrors());
    cases
}

fn deadlines() -> Vec<Case> {
    const SLOW: &str = "x-answer: delay-ms=600";
    const GRPC: &str = "content-type: application/grpc";
    let mut cases = Vec::new();
    for path in ["/longest", "/both", "/endless", "/cluster", "/tryidle", "/hedge"] {
        cases.push(get("resilience", path, &[]));
        cases.push(get("resilience", path, &[SLOW]));
        cases.push(get("resilience", path, &[SLOW, GRPC]));
    }
    for path in ["/grpcmax", "/grpcany", "/grpcstream"] {
        cases.push(get("resilience", path, &[SLOW]));
        for timeout in ["grpc-timeout: 100m", "grpc-timeout: 5S", "grpc-timeout: 5m", "grpc-timeout: x", "x: none"] {
            cases.push(get("resilience", path, &[GRPC, timeout]));
            cases.push(get("resilience", path, &[GRPC, timeout, SLOW]));
        }
    }
    for path in ["/high", "/tight", "/noretry"] {
        cases.push(get("resilience", path, &[]));
        cases.push(get("resilience", path, &["x-answer: status=503"]));
    }
    cases.push(get("resilience", "/limited", &["x-answer: status=429"]));
    cases.push(get("resilience", "/limited", &["x-answer: status=429;header=retry-after:0"]));
    cases
}

/// What trusted callers may say, on a listener that trusts loopback and on one that does not.
fn headers() -> Vec<Case> {
    let said: [&[&str]; 15] = [
        &["x-envoy-retry-on: 5xx", "x-answer: status=503"],
        &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 2", "x-answer: status=503"],
        &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 0", "x-answer: status=503"],
        &["x-envoy-retry-on: nonsense", "x-answer: status=503"],
        &["x-envoy-max-retries: 2", "x-answer: status=503"],
        &[
            "x-envoy-retry-on: retriable-status-codes",
            "x-envoy-retriable-status-codes: 418,419",
            "x-answer: status=418",
        ],
        &[
            "x-envoy-retry-on: retriable-headers",
            "x-envoy-retriable-header-names: X-Again",
            "x-answer: header=x-again:1",
        ],
        &["x-envoy-retry-grpc-on: unavailable", "x-answer: header=grpc-status:14"],
        &["x-envoy-retry-grpc-on: internal", "x-answer: header=grpc-status:14"],
        &["x-envoy-upstream-rq-timeout-ms: 200", "x-answer: delay-ms=600"],
        &["x-envoy-upstream-rq-timeout-ms: 0"],
        &["x-envoy-upstream-rq-timeout-ms: soon"],
        &["x-envoy-upstream-rq-per-try-timeout-ms: 200", "x-envoy-retry-on: 5xx", "x-answer: delay-ms=500"],
        &["x-envoy-expected-rq-timeout-ms: 200", "x-answer: delay-ms=600"],
        &["x-envoy-internal: true"],
    ];
    let mut cases = Vec::new();
    for listener in ["trusting", "resilience"] {
        for headers in said {
            cases.push(get(listener, "/plain", headers));
        }
    }
    for forwarded in
        ["x-forwarded-for: 127.0.0.2", "x-forwarded-for: 10.0.0.1", "x-forwarded-for: 127.0.0.2, 127.0.0.3"]
    {
        cases.push(get("trusting", "/plain", &[forwarded]));
    }
    cases
}

fn mirrors() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/mirror/all", "/mirror/host", "/mirror/none", "/mirror/header", "/mirror/two"] {
        cases.push(get("resilience", path, &[]));
        let body = request("POST", path, "shop:80", &["Content-Length: 5", "x-mirror: c"], "hello");
        cases.push(case("resilience", &format!("{path} post"), body));
    }
    cases.push(get("resilience", "/mirror/header", &["x-mirror: nowhere"]));
    cases.push(get("resilience", "/mirror/all", &["x-answer: status=503"]));
    // The copy may arrive after the answer.
    cases.iter_mut().for_each(|case| case.settle = true);
    cases
}
