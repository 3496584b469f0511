//! Cases about redirects that the proxy follows itself.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let to = |status: u16, location: &str| format!("x-answer: status={status};header=location:{location}");
    for location in [
        "http://to/welcome",
        "http://to/welcome?q=1",
        "http://to/welcome#part",
        "http://to:8080/welcome",
        "http://to",
        "http://to/",
        "http://to?q",
        "http://to/direct",
        "http://to/redirect",
        "http://to/gone",
        "http://to/late",
        "http://to/nowhere",
        "http://unknown/",
        "https://to/welcome",
        "HTTP://to/welcome",
        "http://user@to/welcome",
        "/welcome",
        "//to/welcome",
        "http:///welcome",
        "http://to/a b",
        "ftp://to/welcome",
        "nonsense",
        "",
        "http://test/plain",
        "http://test/off",
    ] {
        for path in ["/plain", "/cross", "/three"] {
            cases.push(get("follow", path, &[&to(302, location)]));
        }
    }
    for path in ["/plain", "/old", "/codes", "/some", "/off"] {
        for status in [200, 300, 301, 302, 303, 304, 307, 308, 404] {
            cases.push(get("follow", path, &[&to(status, "http://to/welcome")]));
        }
    }
    for (path, location) in [
        ("/listed", "http://to/welcome"),
        ("/listed", "http://to/direct"),
        ("/safe", "http://to/welcome"),
        ("/safe", "https://to/welcome"),
        ("/once", "http://to/welcome"),
        ("/once", "http://test/once"),
        ("/rewrite?q=1", "http://to/welcome"),
        ("/copy", "http://to/welcome"),
    ] {
        cases.push(get("follow", path, &[&to(302, location)]));
        cases.push(get("follow", path, &[&to(302, location), "x-forwarded-proto: https"]));
    }
    let copied = "x-answer: status=302;header=location:http://to/welcome;header=x-copied:1;header=x-copied:2";
    cases.push(get("follow", "/copy", &[copied, "x-copied: mine", "x-other: mine"]));
    cases.extend(bodies());
    // The tables above overlap.
    let mut seen = std::collections::BTreeSet::new();
    cases.retain(|case| seen.insert(case.name.clone()));
    cases
}

fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, status) in [("/codes", 301), ("/codes", 302), ("/codes", 303), ("/codes", 307), ("/codes", 308)] {
        let answer = format!("x-answer: status={status};header=location:http://to/welcome");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            let plain = request(method, path, "test", &[&answer], "");
            cases.push(case("follow", &format!("{method} {path} {status}"), plain));
            let body = request(method, path, "test", &[&answer, "Content-Length: 5"], "hello");
            cases.push(case("follow", &format!("{method} {path} {status} body"), body));
            let chunked =
                request(method, path, "test", &[&answer, "Transfer-Encoding: chunked"], "3\r\nabc\r\n0\r\n\r\n");
            cases.push(case("follow", &format!("{method} {path} {status} chunked"), chunked));
        }
    }
    cases
}
