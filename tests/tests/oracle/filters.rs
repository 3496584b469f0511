//! Cases about the filters before the router: faults and cross-origin requests.

use super::cases::{Case, case, get, request};

pub(crate) fn all() -> Vec<Case> {
    let mut cases = faults();
    cases.extend(cors());
    cases
}

fn faults() -> Vec<Case> {
    const GRPC: &str = "content-type: application/grpc";
    let mut cases = Vec::new();
    for path in [
        "/abort/503",
        "/abort/grpc",
        "/abort/never",
        "/abort/other",
        "/abort/matched",
        "/abort/weighted",
        "/abort/header",
        "/delay/fixed",
        "/delay/abort",
        "/rate",
    ] {
        cases.push(get("filters", path, &[]));
        cases.push(get("filters", path, &[GRPC]));
        cases.push(case("filters", &format!("head {path}"), request("HEAD", path, "test", &[], "")));
        let body = request("POST", path, "test", &["Content-Length: 5"], "hello");
        cases.push(case("filters", &format!("post {path}"), body));
    }
    cases.push(get("filters", "/abort/matched", &["x-fault: 1"]));
    cases.push(get("filters", "/rate", &["x-answer: size=5000"]));
    for headers in [
        &["x-envoy-fault-abort-request: 507"][..],
        &["x-envoy-fault-abort-request: 507", GRPC],
        &["x-envoy-fault-abort-request: 99"],
        &["x-envoy-fault-abort-request: soon"],
        &["x-envoy-fault-abort-grpc-request: 7"],
        &["x-envoy-fault-abort-grpc-request: 7", GRPC],
        &["x-envoy-fault-abort-request: 507", "x-envoy-fault-abort-request-percentage: 0"],
        &["x-envoy-fault-abort-request: 507", "x-envoy-fault-abort-request-percentage: 100"],
    ] {
        cases.push(get("filters", "/abort/header", headers));
    }
    cases
}

fn cors() -> Vec<Case> {
    let mut cases = Vec::new();
    let origins = [
        "http://a.test",
        "http://A.test",
        "http://b.test",
        "http://x.wild.test",
        "https://abc.re.test",
        "http://table.test",
        "null",
        "",
    ];
    for path in ["/", "/cors/open", "/cors/off", "/cors/strict", "/cors/direct", "/cors/gone"] {
        for origin in origins {
            let origin = format!("Origin: {origin}");
            cases.push(get("filters", path, &[&origin]));
            let asks: [(&str, &[&str]); 3] = [
                ("plain options", &[&origin]),
                ("preflight", &[&origin, "Access-Control-Request-Method: PUT"]),
                (
                    "private",
                    &[&origin, "Access-Control-Request-Method: PUT", "Access-Control-Request-Private-Network: true"],
                ),
            ];
            for (name, headers) in asks {
                let raw = request("OPTIONS", path, "test", headers, "");
                cases.push(case("filters", &format!("{name} {path} {origin}"), raw));
            }
        }
    }
    cases.push(get("filters", "/", &["Origin: http://a.test", "x-answer: header=access-control-allow-origin:*"]));
    cases
}
