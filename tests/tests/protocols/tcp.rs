//! The TCP proxy filter through both proxies: half-closes, resets, bulk, time-outs, and what the log says of them.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tests::process::{Unused, get, scratch};

const PATIENCE: Duration = Duration::from_secs(10);

/// A bootstrap with one TCP proxy; `more` are further fields of the filter in flow style.
pub(crate) fn tcp(more: &str, clusters: &str) -> String {
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\n\
         static_resources:\n  listeners:\n  - name: test\n    address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {{PORT}} }} }}\n    filter_chains:\n    - filters:\n      - name: tcp\n        typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: test, \
         cluster: up{more} }}\n  clusters:\n{}",
        crate::support::indent(clusters, 2)
    )
}

const LOG: &str = ", access_log: [{ name: log, typed_config: { \"@type\": \
     type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: '{FOLDER}/access.log', log_format: \
     { text_format_source: { inline_string: \"%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% \
     %PROTOCOL% %RESPONSE_CODE% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\\n\" } } } }]";

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the proxy accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Runs `serve` for every connection; what it returns is received.
pub(crate) fn server<T: Send + 'static>(serve: impl Fn(TcpStream) -> T + Send + Copy + 'static) -> (u16, Receiver<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
                // The test may be over.
                let _ = sender.send(serve(stream));
            });
        }
    });
    (port, receiver)
}

/// How a side sees the other end, after what came before.
fn ending(stream: &mut TcpStream) -> (String, &'static str) {
    let mut got = Vec::new();
    let end = match stream.read_to_end(&mut got) {
        Ok(_) => "end",
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => "reset",
        Err(_) => "silence",
    };
    (String::from_utf8_lossy(&got).into_owned(), end)
}

fn reset(stream: TcpStream) {
    let socket = socket(&stream);
    socket.set_linger(Some(Duration::ZERO)).expect("linger");
    drop(stream);
}

fn socket(stream: &TcpStream) -> socket2::SockRef<'_> {
    socket2::SockRef::from(stream)
}

fn both(scenario: impl Fn(Kind) -> Value) -> Value {
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    ours
}

/// The lines of the access log, once there are some.
pub(crate) fn logged(folder: &std::path::Path) -> Vec<String> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        if text.ends_with('\n') || start.elapsed() > PATIENCE {
            return text.lines().map(str::to_string).collect();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `client` against a proxy in front of a server that does `serve`.
fn scenario<T: Send + 'static>(
    kind: Kind,
    more: &str,
    serve: impl Fn(TcpStream) -> T + Send + Copy + 'static,
    client: impl Fn(TcpStream) -> Value,
) -> Value
where
    Value: From<T>,
{
    let (port, seen) = server(serve);
    let folder = scratch(&format!("tcp-{kind:?}-{port}"));
    let proxy = Proxy::start_in(kind, &folder, &tcp(&format!("{LOG}{more}"), &cluster("up", port, "")), &[]);
    let got = client(connect(proxy.port));
    let seen = Value::from(seen.recv_timeout(PATIENCE).expect("the server sees a connection"));
    let logged = logged(&folder);
    let _ = std::fs::remove_dir_all(&folder);
    json!({ "client": got, "server": seen, "log": logged })
}

fn pair((text, end): (String, &str)) -> Value {
    json!([text, end])
}

#[test]
fn the_client_half_closes_first() {
    let serve = |mut stream: TcpStream| {
        let got = ending(&mut stream);
        stream.write_all(b"and an answer after the end").expect("the other half is open");
        pair(got)
    };
    let client = |mut stream: TcpStream| {
        stream.write_all(b"all there is").expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        pair(ending(&mut stream))
    };
    let ours = both(|kind| scenario(kind, "", serve, client));
    assert_eq!(ours["client"], json!(["and an answer after the end", "end"]));
    assert_eq!(ours["server"], json!(["all there is", "end"]));
}

#[test]
fn the_server_half_closes_first() {
    let serve = |mut stream: TcpStream| {
        stream.write_all(b"bye").expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        pair(ending(&mut stream))
    };
    let client = |mut stream: TcpStream| {
        let got = ending(&mut stream);
        stream.write_all(b"one more thing").expect("the other half is open");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        pair(got)
    };
    let ours = both(|kind| scenario(kind, "", serve, client));
    assert_eq!(ours["server"], json!(["one more thing", "end"]));
}

#[test]
fn resets_travel_on() {
    let ours = both(|kind| {
        let by_client = scenario(
            kind,
            "",
            |mut stream: TcpStream| {
                stream.write_all(b"hello").expect("sent");
                pair(ending(&mut stream))
            },
            |mut stream| {
                let mut hello = [0; 5];
                stream.read_exact(&mut hello).expect("greeted");
                reset(stream);
                Value::Null
            },
        );
        let by_server = scenario(
            kind,
            "",
            |mut stream: TcpStream| {
                let mut hello = [0; 5];
                stream.read_exact(&mut hello).expect("greeted");
                reset(stream);
                Value::Null
            },
            |mut stream| {
                stream.write_all(b"hello").expect("sent");
                pair(ending(&mut stream))
            },
        );
        json!([by_client, by_server])
    });
    assert_eq!(ours[0]["server"], json!(["", "reset"]));
    assert_eq!(ours[1]["client"], json!(["", "reset"]));
}

/// Much more than any buffer, both ways at once, with pauses of the reader: every byte arrives.
#[test]
fn bulk_both_ways() {
    const SIZE: usize = 30_000_000;
    fn pattern() -> Vec<u8> {
        (0..SIZE as u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }
    fn both_ways(mut stream: TcpStream) -> bool {
        let mut writer = stream.try_clone().expect("a second handle");
        let sender = std::thread::spawn(move || {
            writer.write_all(&pattern()).expect("sent");
            writer.shutdown(Shutdown::Write).expect("half-closed");
        });
        let mut got = Vec::new();
        let mut space = vec![0; 1 << 20];
        loop {
            match stream.read(&mut space).expect("bytes") {
                0 => break,
                count => got.extend_from_slice(&space[..count]),
            }
            if got.len() % 7 == 0 {
                std::thread::yield_now();
            }
        }
        sender.join().expect("no panic");
        got == pattern()
    }
    let (port, seen) = server(both_ways);
    let proxy = Proxy::start(Kind::Ripstop, "tcp-bulk", &tcp("", &cluster("up", port, "")));
    assert!(both_ways(connect(proxy.port)), "what the server sent");
    assert!(seen.recv_timeout(PATIENCE).expect("the server is done"), "what the client sent");
}

#[test]
fn time_limits() {
    let wait = |mut stream: TcpStream| pair(ending(&mut stream));
    let ours = both(|kind| {
        let client = |mut stream: TcpStream| pair(ending(&mut stream));
        let idle = scenario(kind, ", idle_timeout: 0.2s", wait, client);
        let talking = |mut stream: TcpStream| {
            let mut writer = stream.try_clone().expect("a second handle");
            let talker = std::thread::spawn(move || {
                while writer.write_all(b".").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let (_, end) = ending(&mut stream);
            talker.join().expect("no panic");
            json!(end != "silence")
        };
        let count = |mut stream: TcpStream| {
            let (got, _) = ending(&mut stream);
            json!(got.len() > 3)
        };
        let mut old = scenario(kind, ", idle_timeout: 0.1s, max_downstream_connection_duration: 0.4s", count, talking);
        // The count differs from run to run.
        old["log"][0] = json!(old["log"][0].as_str().and_then(|line| line.split(' ').next()));
        json!([idle, old])
    });
    assert_eq!(ours[0]["client"], json!(["", "end"]));
    assert_eq!(ours[1]["log"][0], json!("DT"));
}

#[test]
fn nobody_there() {
    let gone = Unused::reserve();
    let ours = both(|kind| {
        let folder = scratch(&format!("tcp-gone-{kind:?}"));
        let more = format!("{LOG}, max_connect_attempts: 3, backoff_options: {{ base_interval: 0.01s }}");
        let config = tcp(&more, &cluster("up", gone.port, ""));
        let proxy = Proxy::start_in(kind, &folder, &config, &[]);
        let got = pair(ending(&mut connect(proxy.port)));
        let stats = get(proxy.admin, "/stats?filter=cluster.up.upstream_cx_connect_fail").unwrap_or_default();
        let failed = stats.lines().any(|line| line == "cluster.up.upstream_cx_connect_fail: 3");
        let logged = logged(&folder);
        let _ = std::fs::remove_dir_all(&folder);
        json!([got, failed, logged])
    });
    assert_eq!(ours[2], json!(["UF,URX 0 0 up - 0 3"]));
}
