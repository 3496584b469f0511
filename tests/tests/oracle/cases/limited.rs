//! Cases about header mutation, buffering and rate limits.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    [mutations(), buffering(), rates()].into_iter().flatten().collect()
}

fn mutations() -> Vec<Case> {
    let mut cases = Vec::new();
    for listener in ["limited", "limited_wins"] {
        for path in ["/mutate", "/mutate/x?y=1", "/plain", "/direct", "/gone", "/off"] {
            cases.push(get(listener, path, &[]));
            let headers = ["x-who: client", "x-all: client", "x-drop: 1", "x-is-gone: 2", "x-stays: 3"];
            cases.push(get(listener, path, &headers));
            cases.push(get(listener, path, &["x-answer: header=x-who:backend;header=x-all:backend;status=404"]));
        }
    }
    for path in [
        "/query",
        "/query?a=1",
        "/query?add=1&absent=1&over=1&only=1&drop=1",
        "/query?z=1&a=2&z=3",
        "/query?drop&drop=2",
        "/query?x=%20y&e=",
        "/query?x=a+b",
        "/query?%41=%zz",
        "/query?a=b=c",
        "/query?&&",
    ] {
        cases.push(get("limited", path, &[]));
    }
    cases
}

fn buffering() -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, size) in [("/small", 5), ("/small", 6), ("/small", 100), ("/plain", 100), ("/plain", 101), ("/off", 500)]
    {
        let length = format!("Content-Length: {size}");
        let body = "b".repeat(size);
        for headers in [&[][..], &["content-type: application/grpc"], &["Expect: 100-continue"]] {
            let raw = request("POST", path, "test", &[headers, &[&length]].concat(), &body);
            cases.push(case("limited", &format!("{path} {size} {}", headers.join("")), raw));
        }
        let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", size);
        let raw = request("POST", path, "test", &["Transfer-Encoding: chunked"], &chunked);
        cases.push(case("limited", &format!("{path} {size} chunked"), raw));
    }
    let empty = request("POST", "/plain", "test", &["Transfer-Encoding: chunked"], "0\r\n\r\n");
    cases.push(case("limited", "empty chunked", empty));
    cases.push(case("limited", "zero length", request("POST", "/plain", "test", &["Content-Length: 0"], "")));
    let again = request("POST", "/again", "test", &["Content-Length: 5", "x-answer: status=503"], "hello");
    cases.push(case("limited", "buffered and again", again));
    cases
}

/// The order matters: each takes a token.
fn rates() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/rate/two", "/rate/none", "/rate/told", "/rate/disabled"] {
        for round in 1..=4 {
            cases.push(case("limited", &format!("{path} {round}"), request("GET", path, "test", &[], "")));
        }
        cases.push(get("limited", path, &["content-type: application/grpc"]));
        cases.push(case(
            "limited",
            &format!("post {path}"),
            request("POST", path, "test", &["Content-Length: 2"], "hi"),
        ));
    }
    cases
}
