//! Tunnels through both proxies: CONNECT that ends there or goes on to another proxy, and TCP that asks for one.

use crate::support::{BOTH, HTTP2, Kind, Proxy, assert_same, cluster, http};
use crate::tcp::{server, tcp};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;
use tests::process::{Unused, get, scratch};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the proxy accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// What arrives until the end, which is sent back as it comes.
pub(crate) fn echo(mut stream: TcpStream) -> String {
    let (mut got, mut space) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = stream.read(&mut space) {
        got.extend_from_slice(&space[..count]);
        if stream.write_all(&space[..count]).is_err() {
            break;
        }
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// Up to the empty line; byte by byte, so that nothing after it is lost.
pub(crate) fn head(stream: &mut TcpStream) -> String {
    let (mut got, mut byte) = (Vec::new(), [0]);
    while !got.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        got.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&got).into_owned();
    let mut lines: Vec<&str> = text.trim_end().split("\r\n").collect();
    lines.retain(|line| !line.starts_with("date:") && !line.starts_with("x-request-id:"));
    lines[1..].sort_unstable();
    lines.join("\n")
}

/// A proxy that grants every tunnel, but those of requests with `x-no`, and echoes.
pub(crate) fn proxy(mut stream: TcpStream) -> String {
    let asked = head(&mut stream);
    if asked.contains("x-no") {
        let _ = stream.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 4\r\n\r\nnope");
        return asked;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 Granted\r\nx-granted: yes\r\ntransfer-encoding: chunked\r\n\r\nwelcome");
    asked + "\n\n" + &echo(stream)
}

pub(crate) fn exactly(stream: &mut TcpStream, count: usize) -> String {
    let mut got = vec![0; count];
    let read = stream.read_exact(&mut got);
    format!("{}{}", String::from_utf8_lossy(&got).trim_end_matches('\0'), if read.is_err() { " cut" } else { "" })
}

/// A request, at once `early`, then `ping`; `echoed` bytes come back.
fn dialog(port: u16, request: &str, early: &str, echoed: usize) -> Value {
    let mut stream = connect(port);
    stream.write_all(format!("{request}{early}").as_bytes()).expect("sent");
    let answer = head(&mut stream);
    stream.write_all(b"ping").expect("sent");
    let echo = exactly(&mut stream, echoed);
    json!([answer, echo])
}

pub(crate) fn request(host: &str, more: &str) -> String {
    format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n{more}\r\n")
}

const ROUTES: &str = "\
- match: { connect_matcher: {}, headers: [{ name: x-to, string_match: { exact: end } }] }
  route: { cluster: end, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- match: { connect_matcher: {}, headers: [{ name: x-to, string_match: { exact: told } }] }
  route: { cluster: end, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { proxy_protocol_config: { version: V1 } } }] }
- match: { connect_matcher: {} }
  route: { cluster: next }
- match: { prefix: / }
  route: { cluster: end, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }
";

#[test]
fn tunnels_end_here_or_go_on() {
    let scenario = |kind: Kind| {
        let (end, arrived) = server(echo);
        let (next, asked) = server(proxy);
        let clusters = cluster("end", end, "") + &cluster("next", next, "");
        let proxy =
            Proxy::start(kind, "connect", &http("upgrade_configs: [{ upgrade_type: CONNECT }]", ROUTES, &clusters));
        let mut seen = Vec::new();
        let mut try_one = |request: &str, early: &str, echoed: usize, at_end: bool| {
            let dialog = dialog(proxy.port, request, early, echoed);
            let upstream = if at_end { &arrived } else { &asked };
            seen.push(json!([dialog, upstream.recv_timeout(PATIENCE).expect("the upstream sees a connection")]));
        };
        try_one(&request("end.test", "x-to: end\r\n"), "", 4, true);
        try_one(&request("end.test", "x-to: end\r\nContent-Length: 0\r\n"), "early ", 10, true);
        try_one(&request("next.test", ""), "", 11, false);
        try_one(&request("next.test", ""), "early ", 17, false);
        try_one(&request("next.test", "x-no: 1\r\n"), "", 4, false);
        // The port of the client differs from run to run.
        let mut told = connect(proxy.port);
        told.write_all(request("end.test", "x-to: told\r\n").as_bytes()).expect("sent");
        let (from, to) = (told.local_addr().expect("bound").port(), proxy.port);
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n");
        let answer = head(&mut told);
        seen.push(json!([answer, exactly(&mut told, line.len()) == line]));
        drop(told);
        assert_eq!(arrived.recv_timeout(PATIENCE).expect("a connection"), line, "{kind:?}");
        let stat = |name: &str| get(proxy.admin, &format!("/stats?filter=http.test.{name}$")).unwrap_or_default();
        let lines = ["downstream_cx_upgrades_total", "downstream_rq_ws_on_non_ws_route"]
            .map(|name| stat(name).lines().find(|line| line.starts_with("http.test")).map(str::to_string));
        json!([seen, lines])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[0][1][0][1], "early ping");
    assert_eq!(ours[0][3][0][1], "welcomeearly ping");
    assert_eq!(ours[0][4][0][1], "nope");
}

/// `allow_post`: a body that goes on as it is, and comes back as the body of the answer.
#[test]
fn posts_as_tunnels() {
    let scenario = |kind: Kind| {
        let (end, arrived) = server(echo);
        let config = http("", ROUTES, &(cluster("end", end, "") + &cluster("next", end, "")));
        let proxy = Proxy::start(kind, "connect-post", &config);
        let mut stream = connect(proxy.port);
        let chunked = "POST /any HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
        stream.write_all(chunked.as_bytes()).expect("sent");
        let answer = head(&mut stream);
        let first = exactly(&mut stream, 8);
        stream.write_all(b"3\r\ntwo\r\n").expect("sent");
        let second = exactly(&mut stream, 8);
        stream.write_all(b"0\r\n\r\n").expect("sent");
        let last = exactly(&mut stream, 5);
        json!([answer, first, second, last, arrived.recv_timeout(PATIENCE).expect("a connection")])
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[4], "onetwo");
}

/// What a client may do that Envoy does not let it: end its half and still be answered.
#[test]
fn halves_close_apart() {
    fn whole(mut stream: TcpStream) -> String {
        let mut got = String::new();
        let _ = stream.read_to_string(&mut got);
        let _ = stream.write_all(b"the answer");
        got
    }
    let (end, arrived) = server(whole);
    let config = http(
        "upgrade_configs: [{ upgrade_type: CONNECT }]",
        ROUTES,
        &(cluster("end", end, "") + &cluster("next", end, "")),
    );
    let proxy = Proxy::start(Kind::Ripstop, "connect-halves", &config);
    let mut stream = connect(proxy.port);
    stream.write_all(request("end.test", "x-to: end\r\n").as_bytes()).expect("sent");
    head(&mut stream);
    stream.write_all(b"all there is").expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert_eq!(
        (answer.as_str(), arrived.recv_timeout(PATIENCE).expect("a connection").as_str()),
        ("the answer", "all there is")
    );
}

const LOG: &str = ", access_log: [{ name: log, typed_config: { \"@type\": \
     type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: '{FOLDER}/access.log', log_format: \
     { text_format_source: { inline_string: \"%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% \
     %UPSTREAM_REQUEST_ATTEMPT_COUNT%\\n\" } } } }]";

#[test]
fn tcp_asks_for_tunnels() {
    let gone = Unused::reserve();
    let scenario = |kind: Kind| {
        let (port, asked) = server(proxy);
        let mut seen = Vec::new();
        for (index, (more, echoed, tunnels)) in [
            ("hostname: 'host.test:443'", 11, 1),
            ("hostname: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:1', headers_to_add: [{ header: { key: x-a, value: '%PROTOCOL%' } }]", 11, 1),
            ("hostname: host.test, headers_to_add: [{ header: { key: X-No, value: '1' } }]", 0, 3),
        ]
        .into_iter()
        .enumerate()
        {
            let folder = scratch(&format!("through-{kind:?}-{index}"));
            let more = format!("{LOG}, max_connect_attempts: 3, tunneling_config: {{ {more} }}");
            let proxy = Proxy::start_in(kind, &folder, &tcp(&more, &cluster("up", port, "")), &[]);
            let mut stream = connect(proxy.port);
            stream.write_all(b"ping").expect("sent");
            let mut echo = exactly(&mut stream, echoed);
            if echoed == 0 {
                echo = (!matches!(stream.read(&mut [0]), Ok(1..))).to_string();
            }
            drop(stream);
            let asked: Vec<String> = (0..tunnels).map(|_| asked.recv_timeout(PATIENCE).expect("asked")).collect();
            let log = crate::tcp::logged(&folder);
            seen.push(json!([echo, asked, log]));
            let _ = std::fs::remove_dir_all(&folder);
        }
        let folder = scratch(&format!("through-gone-{kind:?}"));
        let more = format!("{LOG}, max_connect_attempts: 2, tunneling_config: {{ hostname: h:1 }}");
        let proxy = Proxy::start_in(kind, &folder, &tcp(&more, &cluster("up", gone.port, "")), &[]);
        let nothing = connect(proxy.port).read(&mut [0]).is_ok_and(|count| count == 0);
        seen.push(json!([nothing, crate::tcp::logged(&folder)]));
        let _ = std::fs::remove_dir_all(&folder);
        json!(seen)
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[0][0], "welcomeping");
    assert_eq!(ours[2][2], json!(["UF,URX 0 0 3"]));
}

/// Each proxy asks an Envoy, which ends the tunnels, over HTTP/1.1 and HTTP/2, by CONNECT and by POST.
#[test]
fn tcp_through_envoy() {
    let (end, arrived) = server(echo);
    let routes = "\
- match: { connect_matcher: {} }
  route: { cluster: end, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }] }
- match: { path: /tunnel }
  route: { cluster: end, upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] }
";
    let options = "upgrade_configs: [{ upgrade_type: CONNECT }]\nhttp2_protocol_options: { allow_connect: true }";
    let ends = Proxy::start(Kind::Envoy, "through-end", &http(options, routes, &cluster("end", end, "")));
    for protocol in ["", HTTP2] {
        for how in ["", ", use_post: true, post_path: /tunnel"] {
            for kind in BOTH {
                let more = format!(", tunneling_config: {{ hostname: 'host.test:443'{how} }}");
                let proxy = Proxy::start(kind, "through-envoy", &tcp(&more, &cluster("up", ends.port, protocol)));
                let mut stream = connect(proxy.port);
                stream.write_all(b"ping").expect("sent");
                assert_eq!(exactly(&mut stream, 4), "ping", "{kind:?} {how} {protocol}");
                let much = "0123456789".repeat(100_000);
                let mut writer = stream.try_clone().expect("a second handle");
                let (text, sent) = (much.clone(), std::thread::spawn);
                let sent = sent(move || writer.write_all(text.as_bytes()).is_ok());
                assert!(exactly(&mut stream, much.len()) == much, "{kind:?} {how} {protocol}");
                assert!(sent.join().expect("no panic"));
                drop(stream);
                let all = arrived.recv_timeout(PATIENCE).expect("a connection");
                assert_eq!(all.len(), 4 + much.len(), "{kind:?} {how} {protocol}");
            }
        }
    }
}
