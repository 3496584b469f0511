//! WebSocket through the proxy: client and server are the `websockets` library.

use crate::support::{BOTH, Proxy, Server, client, cluster, http};
use serde_json::json;

#[test]
fn messages_pings_and_closes() {
    let server = Server::start("websocket");
    let routes = "- { match: { prefix: /denied }, route: { cluster: ws, upgrade_configs: [{ upgrade_type: websocket, enabled: false }] } }\n\
                  - { match: { prefix: / }, route: { cluster: ws } }\n";
    let config = http("upgrade_configs: [{ upgrade_type: websocket }]", routes, &cluster("ws", server.port, ""));
    let reports = BOTH.map(|kind| client("websocket", Proxy::start(kind, "websocket", &config).port, &[]));
    let wanted = json!({
        "subprotocol": "chat", "text": true, "binary": true, "empty": true, "big": true, "big binary": true,
        "ping": true, "ping by server": "ponged", "closed by server": [4001, "as asked"], "closed by client": 4002,
        "server saw": "[4002, 'by the client']", "denied": 403,
    });
    assert_eq!(reports[1], wanted);
    assert_eq!(reports[0], wanted, "Envoy");
}

#[test]
fn upgrades_must_be_configured() {
    let server = Server::start("websocket");
    let routes = "- { match: { prefix: / }, route: { cluster: ws } }\n";
    let config = http("", routes, &cluster("ws", server.port, ""));
    for kind in BOTH {
        let status = client("websocket", Proxy::start(kind, "no-websocket", &config).port, &["/ws"]);
        assert_eq!(status, json!(403), "{kind:?}");
    }
}
