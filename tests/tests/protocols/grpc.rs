//! gRPC through the proxy: a grpcio client and server, HTTP/2 on both sides.

use crate::support::{BOTH, HTTP2, Proxy, Server, assert_same, client, cluster, http};
use tests::process::Unused;

const ROUTES: &str = "\
- { match: { prefix: /test.Peer/ }, route: { cluster: peer, timeout: 0s } }
- { match: { prefix: /gone.Peer/ }, route: { cluster: gone } }
- { match: { prefix: /unknown.Peer/ }, route: { cluster_header: x-cluster } }
- { match: { prefix: /quick.Peer/ }, route: { cluster: peer, prefix_rewrite: /test.Peer/, timeout: 0.3s } }
- match: { prefix: /limited.Peer/ }
  route: { cluster: peer, prefix_rewrite: /test.Peer/, max_stream_duration: { max_stream_duration: 0.3s } }
- { match: { prefix: /direct.Peer/ }, direct_response: { status: 403, body: { inline_string: \"not here: 100% \\u00fc\" } } }
- { match: { prefix: /moved.Peer/ }, redirect: { host_redirect: elsewhere.test } }
";

/// What the proxy decides and with which status; everything else ends as it does without a proxy.
const DECIDED: [(&str, &str); 9] = [
    ("no route", "UNIMPLEMENTED"),
    ("no cluster", "UNAVAILABLE"),
    ("backend away", "UNAVAILABLE"),
    ("route answers itself", "PERMISSION_DENIED"),
    ("route redirects", "UNKNOWN"),
    ("route timeout", "UNAVAILABLE"),
    ("route timeout reached the server", "ended"),
    ("longest duration", "DEADLINE_EXCEEDED"),
    ("longest duration reached the server", "ended"),
];

#[test]
fn calls_end_as_through_envoy_and_as_without_a_proxy() {
    let direct = client("grpc", Server::start("grpc").port, &[]);
    let [envoy, mut ours] = BOTH.map(|kind| {
        // A server for each: it remembers which calls have ended.
        let server = Server::start("grpc");
        let nobody = Unused::reserve();
        let clusters = cluster("peer", server.port, HTTP2) + &cluster("gone", nobody.port, HTTP2);
        let proxy = Proxy::start(kind, "grpc", &http("", ROUTES, &clusters));
        client("grpc", proxy.port, &["routes"])
    });
    assert_same(["Envoy", "Ripstop"], &envoy, &ours);
    for (name, status) in DECIDED {
        let result = ours.as_object_mut().and_then(|all| all.remove(name)).unwrap_or_default();
        assert_eq!(result.get(0).unwrap_or(&result), status, "{name}: {result}");
    }
    assert_same(["without a proxy", "Ripstop"], &direct, &ours);
    assert_eq!(direct.as_object().map(serde_json::Map::len), Some(26));
}
