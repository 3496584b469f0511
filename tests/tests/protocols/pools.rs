//! Requests that wait for a connection, through both proxies.

use crate::support::{BOTH, HTTP2, Kind, Proxy, cluster, http};
use crate::tcp::server;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Barrier;
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::get;

const ROUTES: &str = "- { match: { prefix: / }, route: { cluster: a, timeout: 0.3s } }\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// All that come while the first HTTP/2 connection is being opened wait for it.
#[test]
fn one_connection_is_opened_for_all() {
    let backend = Backend::start_h2("a", &Log::default());
    for kind in BOTH {
        let proxy = Proxy::start(kind, "pool-shared", &http("", ROUTES, &cluster("a", backend.port, HTTP2)));
        let together = Barrier::new(20);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    together.wait();
                    assert_eq!(exchange(proxy.port, REQUEST, 1)[0].status, 200, "{kind:?}");
                });
            }
        });
        let opened = get(proxy.admin, "/stats?filter=^cluster.a.upstream_cx_total$").unwrap_or_default();
        assert!(opened.contains("cluster.a.upstream_cx_total: 1\n"), "{kind:?}: {opened}");
    }
}

/// A request that waited for a connection in vain leaves its place to the next.
#[test]
fn who_gives_up_waits_no_more() {
    // It accepts, and never answers the handshake.
    let silent = |mut stream: TcpStream| stream.read_to_end(&mut Vec::new()).is_ok();
    for protocol in ["", HTTP2] {
        let (port, _seen) = server(silent);
        let more = format!(
            "circuit_breakers: {{ thresholds: [{{ max_pending_requests: 1 }}] }}\ntransport_socket: {{ name: tls, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext }} }}\n{protocol}"
        );
        let config =
            http("", ROUTES, &cluster("a", port, &more)).replace("connect_timeout: 1s", "connect_timeout: 20s");
        let statuses = |kind: Kind| {
            let proxy = Proxy::start(kind, "pool-pending", &config);
            [(); 3].map(|()| exchange(proxy.port, REQUEST, 1)[0].status)
        };
        for kind in BOTH {
            assert_eq!(statuses(kind), [504; 3], "{kind:?}");
        }
    }
}
