//! Cases about options of the connection manager, failures and limits.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    [options(), failures(), limits()].into_iter().flatten().collect()
}

fn options() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [
        "/a/../b",
        "/a/./b",
        "/../x",
        "/a//b",
        "/a%2fb",
        "/a%2Fb",
        "/%61",
        "/a%",
        "/a%zz",
        "/a\\b",
        "/a/..?x=/../y",
        "/%2e%2e/x",
        "/a;b/../c",
    ] {
        cases.push(get("normalize", path, &[]));
    }
    for path in ["//a///b", "/a//../b", "/a?x=//"] {
        cases.push(get("merge", path, &[]));
    }
    for listener in ["slash_reject", "slash_redirect", "slash_forward"] {
        for path in ["/a%2Fb", "/a%5cb?q=%2F", "/plain"] {
            cases.push(get(listener, path, &[]));
        }
    }
    for listener in ["underscore_reject", "underscore_drop"] {
        cases.push(get(listener, "/", &["x_y: 1", "x-z: 2"]));
        cases.push(get(listener, "/", &["x-z: 2"]));
    }
    for listener in ["server_pass", "server_append"] {
        cases.push(get(listener, "/", &[]));
        cases.push(get(listener, "/", &["x-answer: header=Server:theirs"]));
    }
    cases.push(get("server_pass", "/", &["x-forwarded-for: 1.1.1.1, 2.2.2.2"]));
    let edge: [&[&str]; 9] = [
        &[],
        &["x-forwarded-for: 9.9.9.9"],
        &["x-forwarded-for: 9.9.9.9, 8.8.8.8", "x-forwarded-proto: https"],
        &["x-envoy-internal: true"],
        &["x-request-id: mine"],
        &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 5", "x-envoy-upstream-rq-timeout-ms: 99"],
        &["via: 1.1 before"],
        &["x-answer: header=Via:1.1 upstream"],
        &["x-forwarded-client-cert: Hash=forged"],
    ];
    cases.extend(edge.iter().map(|headers| get("edge", "/", headers)));
    cases.push(case(
        "tcp",
        "passes bytes",
        request("GET", "/raw", "test", &["Connection: close", "x-answer: close"], ""),
    ));
    cases.push(case(
        "tcp",
        "passes odd bytes",
        "POST /raw HTTP/1.1\r\nhost: test\r\nX-Odd:  a  \r\nContent-Length: 3\r\n\r\nabc",
    ));
    cases
}

fn failures() -> Vec<Case> {
    let mut cases = vec![
        get("failures", "/gone", &[]),
        get("failures", "/gone", &["content-type: application/grpc"]),
        get("failures", "/empty", &[]),
        get("failures", "/empty", &["content-type: application/grpc"]),
        get("failures", "/quick", &["x-answer: delay-ms=600"]),
        get("failures", "/quick", &["x-answer: delay-ms=600", "content-type: application/grpc"]),
        get("failures", "/quick", &[]),
        get("failures", "/idle", &["x-answer: delay-ms=600"]),
        get("failures", "/never", &[]),
        get("failures", "/reset", &["x-answer: reset"]),
        get("failures", "/garbage", &["x-answer: garbage"]),
        get("failures", "/cut", &["x-answer: cut"]),
        get("failures", "/none", &["content-type: application/grpc", "x-answer: status=404"]),
        get("failures", "/r5xx", &["x-answer: status=503"]),
        get("failures", "/r5xx", &["x-answer: status=404"]),
        get("failures", "/r5xx", &["x-answer: reset"]),
        get("failures", "/rgw", &["x-answer: status=502"]),
        get("failures", "/rgw", &["x-answer: status=500"]),
        get("failures", "/rreset", &["x-answer: reset"]),
        get("failures", "/rreset", &["x-answer: status=503"]),
        get("failures", "/rcodes", &["x-answer: status=418"]),
        get("failures", "/rcodes", &["x-answer: status=429"]),
        get("failures", "/rcodes", &["x-answer: status=503"]),
        get("failures", "/r4xx", &["x-answer: status=409"]),
        get("failures", "/r4xx", &["x-answer: status=404"]),
        get("failures", "/rhdr", &["x-answer: status=200;header=x-again:1"]),
        get("failures", "/rhdr", &[]),
        get("failures", "/rconn", &[]),
        get("failures", "/rtry", &["x-answer: delay-ms=500"]),
        get("failures", "/rmatch", &["x-answer: status=503"]),
        get("failures", "/rmatch", &["x-answer: status=503", "x-retry: 1"]),
        get("failures", "/r5xx", &["x-answer: status=503;header=x-envoy-overloaded:true"]),
    ];
    let post = |name: &str, path: &str, headers: &[&str], body: &str| {
        case("failures", name, request("POST", path, "test", headers, body))
    };
    cases.push(post("post retried with body", "/r5xx", &["x-answer: status=503", "Content-Length: 5"], "hello"));
    cases.push(post(
        "post chunked retried",
        "/r5xx",
        &["x-answer: status=503", "Transfer-Encoding: chunked"],
        "5\r\nhello\r\n0\r\n\r\n",
    ));
    cases.push(post("post reset", "/rreset", &["x-answer: reset", "Content-Length: 5"], "hello"));
    for round in 1..=4 {
        cases.push(case("failures", &format!("rmixed {round}"), request("GET", "/rmixed", "test", &[], "")));
    }
    cases
}

fn limits() -> Vec<Case> {
    let long = |size: usize| format!("x-long: {}", "z".repeat(size));
    let many = |count: usize| -> Vec<String> { (0..count).map(|number| format!("x-{number}: v")).collect() };
    let with = |name: &str, headers: Vec<String>| {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        case("limits", name, request("GET", "/", "test", &headers, ""))
    };
    vec![
        with("head fits", vec![long(4000)]),
        with("head too large", vec![long(9000)]),
        with("head far too large", vec![long(100_000)]),
        with("path too large", vec![]),
        with("fields fit", many(10)),
        with("too many fields", many(40)),
        case("limits", "long path", request("GET", &format!("/{}", "p".repeat(9000)), "test", &[], "")),
    ]
}
