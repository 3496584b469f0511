//! Cases about which route and virtual host a request takes.

use super::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    [routes(), hosts()].into_iter().flatten().collect()
}

fn routes() -> Vec<Case> {
    let paths = [
        "/exact",
        "/exact?q=1",
        "/exact/",
        "/Exact",
        "/case",
        "/CASE",
        "/Case?x",
        "/sep",
        "/sep/",
        "/sep/x",
        "/separate",
        "/sep?q",
        "/re/12",
        "/re/",
        "/re/12x",
        "/re/12?q=3",
        "/re2/x",
        "/re2/yes/no",
        "/re2/z",
        "/pre",
        "/PREfix",
        "/prEsent",
        "/h/",
        "/absent/",
        "/both/",
        "/missing/",
        "/inv/",
        "/grpc",
        "/grpc/",
        "/grpcx",
        "/w0",
        "/w1",
        "/ch",
        "/nothing",
        "/",
        "/q/?e=1",
        "/q/?e=2",
        "/q/?e=1&e=2",
        "/q/?e=2&e=1",
        "/q/?p",
        "/q/?p=",
        "/q/?p=anything",
        "/q/?r=abc",
        "/q/?r=abcd",
        "/q/?r=",
        "/q/?x=1&p",
        "/q/?%65=1",
        "/q/",
        "/q",
        "/pq?x",
        "/pq",
        "//exact",
        "/exact/../exact",
        "/method/",
        "/sep%2Fx",
        "/exact;v=1",
        "/%65xact",
        "/nocluster",
    ];
    let with_headers: [(&str, &[&str]); 42] = [
        ("/h/", &["x-e: two", "x-e: one"]),
        ("/h/", &["x-e: one,two"]),
        ("/h/", &["x-p: zz", "x-p: ab"]),
        ("/h/", &["x-s: yz", "x-s: q"]),
        ("/h/", &["x-r: aab", "x-r: q"]),
        ("/h/", &["x-n: 100", "x-n: 7"]),
        ("/h/", &["x-e: one"]),
        ("/h/", &["X-E: one"]),
        ("/h/", &["x-e: One"]),
        ("/h/", &["x-e: one", "x-e: two"]),
        ("/h/", &["x-e:   one  "]),
        ("/h/", &["x-p: abc"]),
        ("/h/", &["x-p: ab"]),
        ("/h/", &["x-p: a"]),
        ("/h/", &["x-s: xyz"]),
        ("/h/", &["x-s: yzx"]),
        ("/h/", &["x-c: amidst"]),
        ("/h/", &["x-c: mi d"]),
        ("/h/", &["x-i: mixed"]),
        ("/h/", &["x-i: MIXED"]),
        ("/h/", &["x-r: aab"]),
        ("/h/", &["x-r: aabb"]),
        ("/h/", &["x-n: 5"]),
        ("/h/", &["x-n: 9"]),
        ("/h/", &["x-n: 10"]),
        ("/h/", &["x-n: -5"]),
        ("/h/", &["x-n: five"]),
        ("/h/", &["x-n: 7.5"]),
        ("/h/", &["x-there:"]),
        ("/h/", &["x-there: x"]),
        ("/inv/", &["x-v: no"]),
        ("/inv/", &["x-v: yes"]),
        ("/absent/", &["x-a: 1"]),
        ("/missing/", &["x-m: 1"]),
        ("/missing/", &["x-m:"]),
        ("/both/", &["x-1: 1"]),
        ("/both/", &["x-1: 1", "x-2: 2"]),
        ("/grpc/", &["content-type: application/grpc"]),
        ("/grpc/", &["content-type: application/grpc+proto"]),
        ("/grpc/", &["content-type: application/grpc-web"]),
        ("/ch", &["x-cluster: b"]),
        ("/nocluster", &["x-cluster: unknown"]),
    ];
    let mut cases: Vec<Case> = paths.iter().map(|path| get("routes", path, &[])).collect();
    cases.extend(with_headers.iter().map(|(path, headers)| get("routes", path, headers)));
    cases.push(get("routes", "/ch", &["x-cluster: unknown"]));
    for method in ["POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "PROPFIND"] {
        cases.push(case("routes", &format!("{method} /method/"), request(method, "/method/", "test", &[], "")));
    }
    let hosts = [
        "test",
        "TEST",
        "test:80",
        "test:{PORT}",
        "test.",
        "a.wild.example",
        "b.a.wild.example",
        "q-x.wild.example",
        "wild.example",
        ".wild.example",
        "other.example",
        "example",
        "api.foo",
        "api.",
        "API.x",
        "xapi.foo",
        "ported",
        "ported:8080",
        "ported:80",
        "upper.case",
        "UPPER.CASE",
        "empty.host",
        "unknown",
        "a.wild.example:80",
    ];
    cases.extend(
        hosts.iter().map(|host| case("routes", &format!("host {host}"), request("GET", "/exact", host, &[], ""))),
    );
    cases
}

fn hosts() -> Vec<Case> {
    ["shop", "shop:80", "shop:{PORT}", "SHOP:1", "shop:", "[::1]:80", "[::1]", "127.0.0.1:9", "other:7"]
        .iter()
        .map(|host| case("hosts", &format!("host {host}"), request("GET", "/", host, &[], "")))
        .collect()
}
