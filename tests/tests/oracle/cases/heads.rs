//! Cases about header edits, rewrites and redirects.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    [edits(), rewrites(), redirects()].into_iter().flatten().collect()
}

fn edits() -> Vec<Case> {
    let mut cases = vec![
        get("edits", "/append", &[]),
        get("edits", "/append", &["x-one: old", "x-two: old", "x-three: old", "x-four: old"]),
        get("edits", "/append", &["x-three: a", "x-three: b", "x-four: a", "x-four: b", "X-Two: a"]),
        get("edits", "/append", &["x-answer: header=x-one:old;header=x-two:old;header=x-three:old;header=x-four:old"]),
        get("edits", "/remove", &["x-drop: 1", "X-Drop: 2", "x-keep: 3", "User-Agent: me", "x-drop-host: 4"]),
        get("edits", "/remove", &["x-answer: header=x-gone:1;header=x-stays:2;header=x-gone-table:3"]),
        get("edits", "/order", &[]),
        get("edits", "/order", &["x-order: client"]),
        get("edits", "/weighted", &["x-drop: 1"]),
        get("edits", "/format", &["x-in: abcdef"]),
        get("edits", "/format?q=1", &[]),
        get("edits", "/direct", &[]),
        get("edits", "/redirect", &[]),
        get("edits", "/fail", &[]),
        get("edits", "/other", &["x-answer: header=x-order:backend"]),
        get("edits", "/unknown", &["x-answer: header=Server:mine;header=Date:yesterday;header=Via:else"]),
        get("edits", "/hop", &["x-answer: header=Connection:close;header=Keep-Alive:timeout=5"]),
        get("edits", "/hop2", &["x-answer: header=Connection:X-Named;header=X-Named:1;header=Proxy-Connection:close"]),
    ];
    cases.push(case(
        "edits",
        "POST /format",
        request("POST", "/format", "other:99", &["x-in: 1", "Content-Length: 2"], "hi"),
    ));
    cases
}

fn rewrites() -> Vec<Case> {
    let paths = [
        "/old/",
        "/old/x?q=1",
        "/old",
        "/strip",
        "/strip/x",
        "/stripped",
        "/strip?q",
        "/one",
        "/one?q",
        "/sep",
        "/sep/x",
        "/ci/x",
        "/Ci/X",
        "/re/a/b",
        "/re/a/b/c?q=1",
        "/re/a",
        "/all/foo/o",
        "/all/x?o=o",
        "/host/lit",
        "/host/auto",
        "/host/path/abc/d",
        "/host/path/",
        "/host/xfh",
        "/host/hdr",
        "/attempts",
    ];
    let mut cases: Vec<Case> = paths.iter().map(|path| get("rewrites", path, &[])).collect();
    cases.push(get("rewrites", "/host/hdr", &["x-host: from.header"]));
    cases.push(get("rewrites", "/host/hdr", &["x-host:"]));
    cases.push(get("rewrites", "/host/xfh", &["x-forwarded-host: before"]));
    cases.push(get("rewrites", "/old/y", &["x-envoy-original-path: /forged"]));
    cases.push(case("rewrites", "counted", request("GET", "/", "counted", &[], "")));
    cases.push(case("rewrites", "counted forged", request("GET", "/", "counted", &["x-envoy-attempt-count: 7"], "")));
    cases
}

fn redirects() -> Vec<Case> {
    let paths = [
        "/host",
        "/host/x?q=1",
        "/path",
        "/path/y?q=1",
        "/qfix?q=1",
        "/qfix",
        "/pre/",
        "/pre/x?q=1",
        "/rx/a/b?q=1",
        "/https",
        "/https/x?q=1",
        "/scheme/x",
        "/port/x",
        "/hp/x?y",
        "/c302",
        "/c303",
        "/c307",
        "/c308",
        "/strip?q=1",
        "/keepstrip/x?q=1",
        "/d200",
        "/d204",
        "/d418",
        "/d503",
        "/dempty",
        "/none",
    ];
    let mut cases: Vec<Case> = paths.iter().map(|path| get("redirects", path, &[])).collect();
    for (host, path) in [
        ("test:80", "/https"),
        ("test:443", "/https"),
        ("test:8080", "/https"),
        ("test:80", "/port"),
        ("[::1]:80", "/port"),
        ("tls.only", "/x?q"),
        ("tls.only:80", "/x"),
        ("tls.external", "/x"),
    ] {
        cases.push(case("redirects", &format!("{host}{path}"), request("GET", path, host, &[], "")));
    }
    cases.push(get("redirects", "/https", &["x-forwarded-proto: https"]));
    cases.push(case("redirects", "tls.only https", request("GET", "/", "tls.only", &["x-forwarded-proto: https"], "")));
    for (method, path) in [("HEAD", "/d200"), ("HEAD", "/host"), ("POST", "/d200"), ("POST", "/c307")] {
        cases.push(case("redirects", &format!("{method} {path}"), request(method, path, "test", &[], "")));
    }
    cases
}
