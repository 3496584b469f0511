//! gRPC-Web through both proxies to a grpcio server, from HTTP/1.1 and HTTP/2, plain and in base64.

use crate::support::{BOTH, HTTP2, Kind, Proxy, Server, assert_same, cluster, http};
use serde_json::{Value, json};
use tests::ask::{self, Ask};
use tests::client::{Answer, exchange};
use tests::process::get;

const ROUTES: &str = "- { match: { prefix: / }, route: { cluster: peer } }\n";
/// Before the router.
const FILTER: &str = "http_filters:\n          - { name: web, typed_config: { \"@type\": \
     type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb } }\n";

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &length[..], message].concat()
}

fn base64(data: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for piece in data.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*piece.get(at).unwrap_or(&0)));
        out.extend((0..4).map(
            |at| {
                if at <= piece.len() { ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] } else { b'=' }
            },
        ));
    }
    out
}

/// A call: the method, its message, and more fields.
type Call = (&'static str, &'static [u8], &'static [(&'static str, &'static str)]);

const CALLS: &[Call] = &[
    ("Echo", b"hello", &[("x-echo-a", "1")]),
    ("Echo", b"", &[]),
    ("Seen", b"", &[("x-grpc-web", "1"), ("te", "trailers"), ("x-user-agent", "grpc-web-javascript/0.1")]),
    ("Count", b"3 4", &[]),
    ("Count", b"0 4", &[]),
    ("Count", b"20 5000", &[]),
    ("Total", b"all of it", &[]),
    ("Fail", b"5", &[]),
    ("FailLate", b"", &[]),
    ("Nope", b"", &[]),
];

fn describe(answer: &Answer) -> Value {
    let varying = ["date", "x-envoy-upstream-service-time", "server"];
    let mut headers: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| !varying.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    // What differs by nature in what the server saw.
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    let body = match body.split_once("\"x-request-id\", \"") {
        Some((before, after)) => format!("{before}{}", &after[36..]),
        None => body,
    };
    json!([answer.status, headers, body, answer.cut])
}

fn call(port: u16, http2: bool, kind: &str, accept: &str, (method, message, more): &Call) -> Value {
    let framed = frame(message);
    let body = if kind.contains("text") { base64(&framed) } else { framed };
    let mut headers = vec![("content-type".to_string(), format!("application/grpc-web{kind}"))];
    if !accept.is_empty() {
        headers.push(("accept".into(), accept.into()));
    }
    headers.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    let ask =
        Ask { method: "POST".into(), path: format!("/test.Peer/{method}"), authority: "test".into(), headers, body };
    match http2 {
        true => describe(&ask::exchange(port, &ask)),
        false => describe(&exchange(port, &ask.http1(), 1)[0]),
    }
}

#[test]
fn every_form_of_every_call() {
    let server = Server::start("grpc");
    let scenario = |kind: Kind| {
        let config = http("", ROUTES, &cluster("peer", server.port, HTTP2)).replacen("http_filters:\n", FILTER, 1);
        let proxy = Proxy::start(kind, "grpc-web", &config);
        let mut seen = serde_json::Map::new();
        for http2 in [false, true] {
            for kind in ["", "+proto", "-text", "-text+proto"] {
                for accept in ["", "application/grpc-web-text"] {
                    for one in CALLS {
                        // Pieces of base64 depend on how the answer is cut on its way, and hide what varies.
                        if !accept.is_empty() && matches!(one.0, "Count" | "Seen") {
                            continue;
                        }
                        let name = format!("{} {} {kind} {accept} {http2}", one.0, String::from_utf8_lossy(one.1));
                        seen.insert(name, call(proxy.port, http2, kind, accept, one));
                    }
                }
            }
        }
        let stats = get(proxy.admin, "/stats?filter=grpc").unwrap_or_default();
        let mut stats: Vec<&str> = stats.lines().filter(|line| line.starts_with("cluster.peer.grpc-web")).collect();
        stats.sort_unstable();
        json!({ "calls": seen, "stats": stats })
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    let body = &ours["calls"]["Echo hello   false"][2];
    assert!(
        body.as_str().expect("text").ends_with("grpc-status:0\r\ngrpc-message:\r\ntrailing-x-echo-a:1\r\n"),
        "{body}"
    );
}
