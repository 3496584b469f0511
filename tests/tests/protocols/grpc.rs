//! gRPC through the proxy: a grpcio client and server, HTTP/2 on both sides.

use crate::support::{BOTH, HTTP2, Proxy, Server, client, cluster, http};
use serde_json::json;
use tests::process::Unused;

const ROUTES: &str = "- { match: { prefix: /test.Test/, headers: [{ name: x-route, string_match: { exact: quick } }] }, route: { cluster: grpc, timeout: 0.3s } }\n\
     - { match: { prefix: /test.Test/, headers: [{ name: x-route, string_match: { exact: gone } }] }, route: { cluster: gone } }\n\
     - { match: { prefix: /test.Test/ }, route: { cluster: grpc, timeout: 0s } }\n";

#[test]
fn every_kind_of_call() {
    let server = Server::start("grpc-server");
    let nobody = Unused::reserve();
    let clusters = cluster("grpc", server.port, HTTP2) + &cluster("gone", nobody.port, HTTP2);
    let reports = BOTH.map(|kind| {
        let proxy = Proxy::start(kind, "grpc", &http("", ROUTES, &clusters));
        client("grpc-client", proxy.port)
    });
    let [envoy, mut ours] = reports;
    for (scenario, wanted) in [
        ("unary", json!(["ping", [["x-hello", "test"]], [["x-bye", "now"], ["x-data-bin", [0, 1, 255]]], "OK"])),
        ("big", json!(true)),
        (
            "error",
            json!({"code": "FAILED_PRECONDITION", "details": "as asked: 100% é", "trailers": [["x-why", "asked"]]}),
        ),
        ("server streaming", json!(true)),
        ("client streaming", json!("1000000")),
        ("deadline", json!("DEADLINE_EXCEEDED")),
        ("cancel", json!([["0", "1", "2"], "yes"])),
        ("backend away", json!("UNAVAILABLE")),
        ("many", json!(true)),
    ] {
        assert_eq!(ours[scenario], wanted, "{scenario}");
    }
    assert_eq!(ours["bidirectional"].as_array().map(Vec::len), Some(20));
    for (scenario, theirs) in envoy.as_object().expect("an object") {
        assert_eq!(ours[scenario].take(), *theirs, "{scenario}: ours is on the left, Envoy's on the right");
    }
}
