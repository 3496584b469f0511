//! The health check filter: who is taken for a checker, and what it is told.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/own", "/clusters", "/empty", "/empty-ok", "/missing", "/fractions", "/pass", "/kept", "/else"] {
        cases.push(get("health", path, &[]));
        cases.push(get("health", path, &["x-envoy-degraded: 1", "x-answer: header=x-envoy-degraded:1"]));
        let raw = request("POST", path, "test", &["Content-Length: 0"], "");
        cases.push(case("health", &format!("post {path}"), raw));
        cases.push(case("health", &format!("head {path}"), request("HEAD", path, "test", &[], "")));
        cases.push(get("health", &format!("{path}?query"), &[]));
    }
    cases.push(get("health", "/pass", &["x-answer: status=503; body=no"]));
    cases.push(get("health", "/own", &["Content-Type: application/grpc"]));
    cases.push(get("health", "/missing", &["Content-Type: application/grpc"]));
    cases
}
