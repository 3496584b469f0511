//! Tunnels in HTTP/2 streams: CONNECT, and WebSocket by extended CONNECT (RFC 8441), from clients and to upstreams.

use crate::connect::{PATIENCE, connect, echo, exactly, head, proxy, request};
use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, http};
use crate::tcp::server;
use bytes::Bytes;
use h2::ext::Protocol;
use http::Request;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

const OPTIONS: &str = "upgrade_configs: [{ upgrade_type: CONNECT }, { upgrade_type: websocket }]\n\
     http2_protocol_options: { allow_connect: true }";

const ROUTES: &str = "\
- match: { connect_matcher: {}, headers: [{ name: x-to, string_match: { exact: end } }] }
  route: { cluster: end, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- match: { connect_matcher: {} }
  route: { cluster: next }
- match: { prefix: /plain }
  direct_response: { status: 200, body: { inline_string: plain } }
- match: { prefix: / }
  route: { cluster: ws }
";

/// Switches to whatever is asked for, but for requests with `x-no`, and echoes.
fn switching(mut stream: TcpStream) -> String {
    let asked = head(&mut stream);
    if asked.contains("x-no") {
        let _ = stream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 4\r\n\r\nnope");
        return asked;
    }
    let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
    asked + "\n\n" + &echo(stream)
}

/// One request on a connection of its own, `ping` when it is answered: status, fields, data.
async fn dialog(port: u16, request: Request<()>) -> Result<Value, h2::Error> {
    let stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the proxy accepts");
    let (send, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await?;
    let driver = tokio::spawn(async move { drop(connection.await) });
    let (response, mut body) = send.ready().await?.send_request(request, false)?;
    let (parts, mut answer) = response.await?.into_parts();
    let (status, sent) = (parts.status.as_u16(), body.send_data(Bytes::from_static(b"ping"), false).is_ok());
    let mut data = Vec::new();
    while let Some(chunk) = answer.data().await {
        let chunk = chunk?;
        let _ = answer.flow_control().release_capacity(chunk.len());
        data.extend_from_slice(&chunk);
        if sent && data.ends_with(b"ping") {
            break;
        }
    }
    driver.abort();
    let mut fields: Vec<String> = parts.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    fields.retain(|line| !line.starts_with("date:") && !line.starts_with("x-request-id:"));
    fields.sort_unstable();
    Ok(json!([status, fields, String::from_utf8_lossy(&data)]))
}

fn ask(port: u16, request: Request<()>) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let limited = async { tokio::time::timeout(PATIENCE, dialog(port, request)).await.expect("an answer in time") };
    runtime.block_on(limited).unwrap_or_else(|error| json!(error.reason().map(|reason| format!("{reason:?}"))))
}

fn tunnel(field: &str) -> Request<()> {
    Request::connect("host.test:80").header(field, "end").body(()).expect("a request")
}

fn websocket(path: &str, field: &str) -> Request<()> {
    let mut request =
        Request::connect(format!("http://host.test{path}")).header(field, "1").body(()).expect("a request");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

#[test]
fn clients_get_tunnels() {
    let scenario = |kind: Kind| {
        let (end, at_end) = server(echo);
        let (next, at_next) = server(proxy);
        let (ws, at_ws) = server(switching);
        let clusters = cluster("end", end, "") + &cluster("next", next, "") + &cluster("ws", ws, "");
        let proxy = Proxy::start(kind, "streams", &http(OPTIONS, ROUTES, &clusters));
        let mut seen = Vec::new();
        for (request, upstream) in [
            (tunnel("x-to"), &at_end),
            (tunnel("x-other"), &at_next),
            (tunnel("x-no"), &at_next),
            (websocket("/chat?a=b", "x-a"), &at_ws),
            (websocket("/chat", "x-no"), &at_ws),
        ] {
            let answer = ask(proxy.port, request);
            let upstream = upstream.recv_timeout(PATIENCE);
            assert!(upstream.is_ok(), "{kind:?}: {answer}");
            seen.push(json!([answer, upstream.expect("a connection")]));
        }
        json!(seen)
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!((&ours[0][0][0], &ours[0][0][2], &ours[0][1]), (&json!(200), &json!("ping"), &json!("ping")));
    assert_eq!((&ours[3][0][0], &ours[3][0][2]), (&json!(200), &json!("ping")));
    assert_eq!((&ours[4][0][0], &ours[4][0][2]), (&json!(403), &json!("nope")));
}

/// What is not offered is refused: `allow_connect` is off.
#[test]
fn it_must_be_allowed() {
    let (ws, _seen) = server(switching);
    let all = ["end", "next", "ws"].map(|name| cluster(name, ws, "")).concat();
    let options = "upgrade_configs: [{ upgrade_type: websocket }]";
    let proxy = Proxy::start(Kind::Ripstop, "streams-off", &http(options, ROUTES, &all));
    assert_eq!(ask(proxy.port, websocket("/chat", "x-a")), json!("PROTOCOL_ERROR"));
}

const TO_HTTP2: &str = "typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": \
     type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: { \
     http2_protocol_options: { allow_connect: true } } } }\n";

/// An HTTP/1.1 client, each proxy, then an Envoy that it reaches over HTTP/2.
#[test]
fn upstreams_are_asked_for_tunnels() {
    let (end, at_end) = server(echo);
    let (ws, at_ws) = server(switching);
    let clusters = cluster("end", end, "") + &cluster("next", end, "") + &cluster("ws", ws, "");
    let last = Proxy::start(Kind::Envoy, "streams-last", &http(OPTIONS, ROUTES, &clusters));
    let scenario = |kind: Kind| {
        let all = ["next", "ws"].map(|name| cluster(name, last.port, TO_HTTP2)).concat();
        let routes = "- match: { connect_matcher: {} }\n  route: { cluster: next }\n- match: { prefix: / }\n  route: { cluster: ws }\n";
        let first = Proxy::start(kind, "streams-first", &http(OPTIONS, routes, &all));
        let upgrade = |more: &str| {
            format!(
                "GET /chat HTTP/1.1\r\nHost: host.test\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
            )
        };
        let mut seen = Vec::new();
        for (asked, echoed, upstream) in [
            (request("host.test", "x-to: end\r\n"), 4, &at_end),
            (upgrade(""), 4, &at_ws),
            (upgrade("x-no: 1\r\n"), 4, &at_ws),
        ] {
            let mut stream = connect(first.port);
            stream.write_all(asked.as_bytes()).expect("sent");
            let answer = head(&mut stream);
            let _ = stream.write_all(b"ping");
            let echo = exactly(&mut stream, echoed);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
            let upstream = upstream.recv_timeout(PATIENCE);
            assert!(upstream.is_ok(), "{kind:?}: {asked} {answer}");
            seen.push(json!([answer, echo, upstream.expect("a connection")]));
        }
        // Much, both ways at once.
        let mut stream = connect(first.port);
        stream.write_all(upgrade("").as_bytes()).expect("sent");
        head(&mut stream);
        let much = "0123456789".repeat(300_000);
        let mut writer = stream.try_clone().expect("a second handle");
        let text = much.clone();
        let sent = std::thread::spawn(move || writer.write_all(text.as_bytes()).is_ok());
        assert!(exactly(&mut stream, much.len()) == much, "{kind:?}");
        assert!(sent.join().expect("no panic"));
        drop(stream);
        assert!(at_ws.recv_timeout(PATIENCE).is_ok(), "{kind:?}");
        json!(seen)
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[1][1], "ping");
}
