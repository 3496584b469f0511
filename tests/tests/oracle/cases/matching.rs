//! Cases about the rarer conditions and actions of routes.

use super::{Case, case, get, request};

fn at(host: &str, path: &str, headers: &[&str]) -> Case {
    let name = format!("{host}{path} {}", headers.join(" "));
    Case { settle: true, ..case("matching", name.trim(), request("GET", path, host, headers, "")) }
}

pub(crate) fn all() -> Vec<Case> {
    [cookies(), templates(), paths(), rewriting(), weights(), mirrors(), groups(), again()]
        .into_iter()
        .flatten()
        .collect()
}

fn cookies() -> Vec<Case> {
    let lines: [&[&str]; 16] = [
        &[],
        &["Cookie: s=one"],
        &["Cookie: s=ones"],
        &["Cookie: s=\"one\""],
        &["Cookie: S=one"],
        &["Cookie: a=b; s=one"],
        &["Cookie: a=b;s=one"],
        &["Cookie: s=two; s=one"],
        &["Cookie: s=one; s=two"],
        &["Cookie: s=two", "Cookie: s=one"],
        &["Cookie: s=one; t=12"],
        &["Cookie: s=one; t=x"],
        &["Cookie: t=12", "Cookie: s=one"],
        &["Cookie: s"],
        &["Cookie: s="],
        &["Cookie: s = one"],
    ];
    let mut cases = Vec::new();
    for path in ["/e", "/p", "/i", "/two"] {
        cases.extend(lines.iter().map(|headers| at("cookies", path, headers)));
    }
    cases
}

fn templates() -> Vec<Case> {
    let paths = [
        "/one/x/end",
        "/one/x/end?q=1",
        "/one//end",
        "/one/x/y/end",
        "/one/x/end/",
        "/ONE/x/end",
        "/one/a.b-c_d~e/end",
        "/one/%41/end",
        "/one/a=b/end",
        "/one/a*b/end",
        "/rest",
        "/rest/",
        "/rest/a/b/c",
        "/rest/a?b=c",
        "/user/7/book/9",
        "/user/7/book/9?page=2",
        "/user/7/book/",
        "/user/7/book/9/x",
        "/deep/a/b",
        "/deep/",
        "/deep/a?x=y",
        "/v/api/1/z",
        "/v/web/1/z",
        "/v/api/1/2/z",
    ];
    paths.iter().map(|path| at("templates", path, &[])).collect()
}

fn paths() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in [
        "/exact",
        "/exact;v=1",
        "/exact;v=1/more",
        "/exact;v?q",
        "/exact/;v",
        "/prefix/;a",
        "/prefix;a/b",
        "/prefix/b;c?d",
        "/re/abc;x",
        "/re;x/abc",
        "/sep;x",
        "/sep/x;y",
        "/;exact",
    ] {
        cases.push(at("parameters", path, &[]));
    }
    for path in ["/presented", "/absent", "/validated", "/doubtful"] {
        cases.push(at("tls", path, &[]));
    }
    for path in ["/none", "/all"] {
        cases.push(at("shares", path, &[]));
    }
    cases.push(at("parameters", "/exact", &["x-internal-only: 1", "x-else: 2"]));
    cases
}

fn rewriting() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in
        ["/full", "/full?q=1", "/lone", "/lone?q=1", "/query?q=1", "/to", "/to?q=1", "/lonely/x?q=1", "/strip?q=1"]
    {
        for headers in [&[][..], &["x-part: /p"], &["x-part: p?r=s"]] {
            cases.push(at("rewriting", path, headers));
        }
    }
    cases
}

fn weights() -> Vec<Case> {
    let mut cases = Vec::new();
    for header in ["x-cluster: a", "x-cluster: c", "x-cluster: unknown", "x-cluster:", "x-else: a"] {
        cases.push(at("weights", "/header", &[header]));
    }
    for value in ["0", "9", "10", "29", "30", "99", "100", "129", "18446744073709551615"] {
        cases.push(at("weights", "/value", &[&format!("x-value: {value}")]));
    }
    cases
}

fn mirrors() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/host", "/route", "/edited"] {
        cases.push(at("mirrored", path, &["x-part: 1", "x-secret: 2"]));
        let body = request("POST", path, "mirrored", &["Content-Length: 5"], "hello");
        cases.push(Case { settle: true, ..case("matching", &format!("mirrored{path} post"), body) });
    }
    cases
}

fn groups() -> Vec<Case> {
    let mut cases = vec![at("grouped", "/", &[]), at("grouped", "/", &["x-part: 1"])];
    for headers in [&[][..], &["x-part: 1"]] {
        let raw = request("POST", "/", "grouped", headers, "");
        cases.push(Case { settle: true, ..case("matching", &format!("grouped post {}", headers.len()), raw) });
    }
    cases
}

/// Retries with what virtual hosts say.
fn again() -> Vec<Case> {
    let mut cases = vec![
        at("hedged", "/", &["x-answer: status=503"]),
        at("hedged", "/", &[]),
        at("hedged", "/own", &["x-answer: delay-ms=700"]),
        at("hedged", "/own", &["x-answer: status=503"]),
    ];
    for (path, size) in [("/", 5), ("/", 10), ("/", 11), ("/", 50), ("/more", 50), ("/more", 100), ("/more", 101)] {
        let length = format!("Content-Length: {size}");
        let body = "z".repeat(size);
        let raw = request("POST", path, "bodies", &["x-answer: status=503", &length], &body);
        cases.push(Case { settle: true, ..case("matching", &format!("bodies{path} {size}"), raw) });
    }
    cases.push(get("vhost", "/", &["x-host: one"]));
    cases.push(get("vhost", "/", &["x-host: two.example"]));
    cases.push(get("vhost", "/", &["x-host: TWO.example:80"]));
    cases.push(get("vhost", "/", &["x-host: other"]));
    cases.push(get("vhost", "/", &["x-host: one", "x-host: two.example"]));
    cases.push(get("vhost", "/", &[]));
    cases
}
