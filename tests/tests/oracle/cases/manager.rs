//! Cases about what the connection manager finds out of clients, and about the answers it gives itself.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = clients();
    cases.extend(replies());
    cases.extend(early());
    cases
}

fn clients() -> Vec<Case> {
    let lists: [&[&str]; 9] = [
        &[],
        &["x-forwarded-for: 1.2.3.4"],
        &["x-forwarded-for: 1.2.3.4, 5.6.7.8"],
        &["x-forwarded-for: 1.2.3.4,5.6.7.8,9.9.9.9"],
        &["x-forwarded-for: 1.2.3.4", "x-forwarded-for: 5.6.7.8"],
        &["x-forwarded-for: 10.0.0.1"],
        &["x-forwarded-for: junk, 5.6.7.8"],
        &["x-forwarded-for: 5.6.7.8, junk"],
        &["x-forwarded-for: 2001:db8::1"],
    ];
    let mut cases = Vec::new();
    for listener in ["xff_none", "xff_hops", "xff_cidrs", "xff_append", "edge_hops"] {
        for headers in lists {
            cases.push(get(listener, "/", headers));
            let more = ["x-envoy-retry-on: 5xx", "x-envoy-internal: true", "x-forwarded-port: 99"];
            cases.push(get(listener, "/more", &[headers, &more].concat()));
        }
    }
    for header in
        ["x-client: 1.2.3.4", "x-client: 1.2.3.4:99", "x-client: ::1", "x-client: junk", "x-client:", "x-else: 1"]
    {
        for listener in ["client_header", "client_strict"] {
            cases.push(get(listener, "/", &[header]));
            cases.push(get(listener, "/", &[header, "x-forwarded-for: 10.1.1.1", "x-envoy-retry-on: 5xx"]));
        }
    }
    cases
}

fn replies() -> Vec<Case> {
    const GRPC: &str = "content-type: application/grpc";
    let paths = ["/none", "/gone", "/direct", "/direct503", "/redirect", "/late", "/empty", "/abort", "/ok", "/made"];
    let mut cases = Vec::new();
    for listener in ["mapped", "mapped_json"] {
        for path in paths {
            let delay = if path == "/late" { "x-answer: delay-ms=400" } else { "x-a: 1" };
            cases.push(get(listener, path, &[delay]));
            cases.push(get(listener, path, &[delay, GRPC]));
            cases.push(get(listener, path, &[delay, "x-teapot: 1"]));
            cases.push(get(listener, path, &[delay, "x-special: 1"]));
            cases.push(case(listener, &format!("head {path}"), request("HEAD", path, "test", &[delay], "")));
        }
        cases.push(case(listener, "bad request", "GET / HTTP/1.1\r\nHost: te st\r\n\r\n"));
        cases.push(case(listener, "no host", "GET / HTTP/1.1\r\n\r\n"));
    }
    cases
}

/// Headers changed before anything else looks at them.
fn early() -> Vec<Case> {
    let mut cases = Vec::new();
    for headers in [&[][..], &["x-drop: 1", "x-keep: 2"], &["x-in: given"], &["x-drop-this: 1", "x-dropped: 2"]] {
        cases.push(get("early", "/", headers));
        cases.push(get("early", "/routed", headers));
    }
    cases.push(get("early", "/", &["x-forwarded-proto: https"]));
    cases.push(get("early", "/scheme", &[]));
    cases
}
