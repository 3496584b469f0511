//! The PROXY protocol in and out, and what listeners read from a connection's first bytes, through both proxies; and
//! with HAProxy on either side.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, http};
use crate::upstreams::{answers, program};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::{Process, ports, scratch};

const ROUTES: &str = "- { match: { prefix: / }, route: { cluster: up } }\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn with_filter(config: &str, filter: &str, more: &str) -> String {
    let filters = format!(
        "listener_filters:\n    - name: pp\n      typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.{filter} }}\n    {more}\n    filter_chains:"
    );
    config.replacen("filter_chains:", &filters, 1)
}

fn both(scenario: impl Fn(Kind) -> Value) -> Value {
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    ours
}

/// What becomes of a request after `header`: the status, and whom the backend takes for the client.
fn request(port: u16, header: &[u8], log: &Log) -> Value {
    log.lock().expect("no panic").clear();
    let raw = [header, b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"].concat();
    let status = exchange(port, &raw, 1).first().map_or(0, |answer| answer.status);
    let seen = log.lock().expect("no panic");
    let from = seen.first().and_then(|seen| seen.headers.iter().find(|(name, _)| name == "x-forwarded-for"));
    // For a client on its own machine Envoy writes the machine's address.
    let named = |value: &String| ["192.0.2.", "10.1.2.3", "fd"].iter().any(|known| value.starts_with(known));
    let given = String::from_utf8_lossy(header).contains("PROXY TCP") || header.get(12) == Some(&0x21);
    json!([status, from.map(|(_, value)| if given && named(value) { value } else { "the proxy's own" })])
}

#[test]
fn headers_in() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("up", &log).port;
    let v6 = [V2, b"\x21\x21\0\x24", &[0xfd; 16], &[0xfe; 16], b"\x12\x34\0\x50"].concat();
    let with_tlv = [V2, b"\x21\x11\0\x10", &[10, 1, 2, 3, 10, 1, 2, 4], b"\x12\x34\0\x50", b"\x04\0\x01x"].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("v1", b"PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n".into()),
        ("v1 over IPv6", b"PROXY TCP6 fd00::7 fd00::8 1000 80\r\n".into()),
        ("v1 unknown", b"PROXY UNKNOWN\r\n".into()),
        ("v2", [V2, b"\x21\x11\0\x0c", &[10, 1, 2, 3, 10, 1, 2, 4], b"\x12\x34\0\x50"].concat()),
        ("v2 over IPv6", v6),
        ("v2 local", [V2, b"\x20\0\0\0"].concat()),
        ("v2 with an extension", with_tlv),
        ("none", Vec::new()),
        ("v1 of the wrong family", b"PROXY TCP6 192.0.2.7 192.0.2.8 1000 80\r\n".into()),
        ("v1 with a bad port", b"PROXY TCP4 192.0.2.7 192.0.2.8 70000 80\r\n".into()),
        ("v1 too long", [b"PROXY TCP4 ", &[b'1'; 200][..], b"\r\n"].concat()),
        ("v2 of version 3", [V2, b"\x31\x11\0\x0c", &[0; 12]].concat()),
        ("v2 too short", [V2, b"\x21\x11\0\x04", &[0; 4]].concat()),
    ];
    for config in ["", ", allow_requests_without_proxy_protocol: true", ", disallowed_versions: [V1]"] {
        let ours = both(|kind| {
            let text = http("use_remote_address: true\n", ROUTES, &cluster("up", backend, ""));
            let filter = format!("proxy_protocol.v3.ProxyProtocol{config}");
            let proxy = Proxy::start(kind, "pp-in", &with_filter(&text, &filter, ""));
            let results = cases.iter().map(|(name, header)| (name.to_string(), request(proxy.port, header, &log)));
            Value::Object(results.collect())
        });
        assert_eq!(ours["v2"], json!([200, "10.1.2.3"]), "{config}");
    }
}

/// A server that tells what it got up to the end.
fn listening() -> (u16, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let (sender, receiver) = std::sync::mpsc::channel();
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            let _ = sender.send(got);
        }
    });
    (port, receiver)
}

fn speaking(version: &str) -> String {
    format!(
        "transport_socket:\n  name: pp\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport\n    \
         config: {{ version: {version} }}\n    transport_socket: {{ name: raw, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer }} }}\n"
    )
}

#[test]
fn headers_out() {
    let ours = both(|kind| {
        json!(["V1", "V2"].map(|version| {
            let (port, got) = listening();
            let config = crate::tcp::tcp("", &cluster("up", port, &speaking(version)));
            let proxy = Proxy::start(kind, "pp-out", &config);
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the proxy accepts");
            let own = client.local_addr().expect("connected").port();
            client.write_all(b"hello").expect("sent");
            client.shutdown(Shutdown::Write).expect("half-closed");
            let got = got.recv_timeout(Duration::from_secs(10)).expect("a connection");
            // Ports differ from run to run.
            let place = |port: u16, name: &str, bytes: Vec<u8>| -> Vec<u8> {
                let text = bytes.escape_ascii().to_string();
                let binary = port.to_be_bytes().escape_ascii().to_string();
                let text =
                    if version == "V1" { text.replace(&port.to_string(), name) } else { text.replace(&binary, name) };
                text.into_bytes()
            };
            let text = place(own, "CLIENT", got);
            let text = String::from_utf8(text).expect("text");
            let listener = match version {
                "V1" => proxy.port.to_string(),
                _ => proxy.port.to_be_bytes().escape_ascii().to_string(),
            };
            text.replace(&listener, "LISTENER")
        }))
    });
    assert_eq!(ours[0], json!("PROXY TCP4 127.0.0.1 127.0.0.1 CLIENT LISTENER\\r\\nhello"));
}

/// A connection speaks for one client: another client's request gets another one.
#[test]
fn pools_are_apart() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("up", &log).port;
    let folder = scratch("pp-haproxy");
    let [accepting, sending] = ports();
    let ours = Proxy::start(Kind::Ripstop, "pp-pools", &{
        let text = http("use_remote_address: true\n", ROUTES, &cluster("up", accepting, &speaking("V2")));
        with_filter(&text, "proxy_protocol.v3.ProxyProtocol", "")
    });
    let text = format!(
        "global\n  maxconn 500\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
         frontend accepting\n  bind 127.0.0.1:{accepting} accept-proxy\n  http-request set-header x-client %[src]\n  \
         default_backend up\nbackend up\n  server s 127.0.0.1:{backend}\n\
         frontend sending\n  mode tcp\n  bind 127.0.0.1:{sending}\n  default_backend ours\nbackend ours\n  mode tcp\n  \
         server s 127.0.0.1:{} send-proxy-v2\n",
        ours.port
    );
    let config = folder.join("haproxy.cfg");
    std::fs::write(&config, text).expect("a configuration");
    let haproxy = Process::start("haproxy", &folder, &program("haproxy"), &["-f", &config.display().to_string()]);
    answers(accepting, &haproxy);
    answers(sending, &haproxy);
    let client = || {
        let seen = log.lock().expect("no panic");
        let last = seen.last().expect("a request");
        last.headers.iter().find(|(name, _)| name == "x-client").map(|(_, value)| value.clone())
    };
    for source in ["192.0.2.7", "192.0.2.8", "192.0.2.7"] {
        let header = format!("PROXY TCP4 {source} 192.0.2.9 1000 80\r\n");
        assert_eq!(request(ours.port, header.as_bytes(), &log), json!([200, source]));
        assert_eq!(client().as_deref(), Some(source));
    }
    assert_eq!(request(sending, b"", &log)[0], 200, "through HAProxy on both sides");
    drop((ours, haproxy));
    let _ = std::fs::remove_dir_all(&folder);
}

/// Greets with its name.
fn greeter(name: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(name.as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
                // Closing with unread bytes would be a reset.
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    port
}

#[test]
fn the_first_bytes_choose_the_chain() {
    let (web, other) = (greeter("web"), greeter("other"));
    let chain = |cluster: &str, matching: &str| {
        format!(
            "- {{ {matching} filters: [{{ name: t, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: \
             {cluster} }} }}] }}"
        )
    };
    let chains = [
        chain("web", "filter_chain_match: { application_protocols: ['http/1.0', 'http/1.1', 'h2c'] },"),
        chain("other", ""),
    ];
    let config = |patience: &str| {
        format!(
            "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\n\
             static_resources:\n  listeners:\n  - name: test\n    address: {{ socket_address: {{ address: 127.0.0.1, \
             port_value: {{PORT}} }} }}\n    listener_filters_timeout: 0.3s\n    {patience}\n    listener_filters:\n    - name: \
             h\n      typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector }}\n    \
             filter_chains:\n    {}\n    {}\n  clusters:\n{}{}",
            chains[0],
            chains[1],
            crate::support::indent(&cluster("web", web, ""), 2),
            crate::support::indent(&cluster("other", other, ""), 2)
        )
    };
    let firsts: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST /a?b HTTP/1.1\r\nHost: a\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello there\r\n",
        b"\x16\x03\x01\0\x05hello",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /unfinished",
        b"",
    ];
    for patience in ["", "continue_on_listener_filters_timeout: true"] {
        both(|kind| {
            let proxy = Proxy::start(kind, "inspect", &config(patience));
            let greeted = firsts.map(|first| {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the proxy accepts");
                stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
                stream.write_all(first).expect("sent");
                let mut got = Vec::new();
                // A reset after the greeting says no more than an end.
                let _ = stream.read_to_end(&mut got);
                (first.escape_ascii().to_string(), json!(String::from_utf8_lossy(&got)))
            });
            Value::Object(greeted.into_iter().collect())
        });
    }
}

/// Where a header says the client was going, a cluster of type ORIGINAL_DST takes it; without one it goes nowhere.
#[test]
fn the_original_destination_is_where_the_header_says() {
    let (web, other) = (greeter("web"), greeter("other"));
    let up = "- name: up\n  connect_timeout: 1s\n  type: ORIGINAL_DST\n  lb_policy: CLUSTER_PROVIDED\n";
    let config = with_filter(
        &crate::tcp::tcp("", up),
        "proxy_protocol.v3.ProxyProtocol, allow_requests_without_proxy_protocol: true",
        "",
    );
    let ours = both(|kind| {
        let proxy = Proxy::start(kind, "pp-original", &config);
        let greeting = |header: String| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).expect("the proxy accepts");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
            stream.write_all(header.as_bytes()).expect("sent");
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got);
            String::from_utf8_lossy(&got).into_owned()
        };
        let to = |port: u16| greeting(format!("PROXY TCP4 192.0.2.7 127.0.0.1 1000 {port}\r\nhello"));
        json!([to(web), to(other), greeting("hello, and no header".into())])
    });
    assert_eq!(ours, json!(["web", "other", ""]));
}
