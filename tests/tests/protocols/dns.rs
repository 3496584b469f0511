//! Clusters of names, resolved by a name server that changes its mind, through both proxies.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, http};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::client::exchange;
use tests::process::get;

/// What the name server says of every name.
#[derive(Clone)]
enum Says {
    /// These hosts of 127.0.0.0/24.
    Hosts(Vec<u8>),
    NoSuchName,
    Failure,
}

struct NameServer {
    port: u16,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicU32>,
}

impl NameServer {
    fn start(says: Says) -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = socket.local_addr().expect("bound").port();
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicU32::new(0)));
        let server = NameServer { port, says: says.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let answer = answer(&query[..length], &says.lock().expect("no panic"));
                asked.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(&answer, client);
            }
        });
        server
    }

    /// Says something else, and waits until it was asked some times more.
    fn change(&self, says: Says) {
        *self.says.lock().expect("no panic") = says;
        let before = self.asked.load(Ordering::Relaxed);
        until("the name server is asked again", || self.asked.load(Ordering::Relaxed) >= before + 3);
    }
}

/// RFC 1035 section 4.
fn answer(query: &[u8], says: &Says) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|&byte| byte == 0).expect("a name");
    let wants_v4 = query[name_end + 1..name_end + 3] == [0, 1];
    let (code, hosts) = match says {
        Says::Hosts(hosts) if wants_v4 => (0, hosts.as_slice()),
        Says::Hosts(_) => (0, &[][..]),
        Says::NoSuchName => (3, &[][..]),
        Says::Failure => (2, &[][..]),
    };
    let mut out = query[..name_end + 5].to_vec();
    out[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, hosts.len() as u8, 0, 0, 0, 0]);
    for host in hosts {
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, *host]);
    }
    out
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same port on several addresses, each saying its own name.
fn services(hosts: &[u8]) -> u16 {
    let first = TcpListener::bind((Ipv4Addr::new(127, 0, 0, hosts[0]), 0)).expect("a port");
    let port = first.local_addr().expect("bound").port();
    let others =
        hosts[1..].iter().map(|host| TcpListener::bind((Ipv4Addr::new(127, 0, 0, *host), port)).expect("free"));
    for (listener, host) in std::iter::once(first).chain(others).zip(hosts.to_vec()) {
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let (mut raw, mut byte) = (Vec::new(), [0]);
                    while let Ok(1) = stream.read(&mut byte) {
                        raw.push(byte[0]);
                        if raw.ends_with(b"\r\n\r\n") {
                            raw.clear();
                            let body = format!("host {host}");
                            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                            let _ = stream.write_all(text.as_bytes());
                        }
                    }
                });
            }
        });
    }
    port
}

fn members(proxy: &Proxy) -> u64 {
    let name = "cluster.up.membership_total: ";
    let text = get(proxy.admin, "/stats?filter=cluster.up.membership_total").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn answers(port: u16) -> Vec<String> {
    let many = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(8);
    let answers = exchange(port, many.as_bytes(), 8);
    let mut texts: Vec<String> =
        answers.iter().map(|answer| format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))).collect();
    texts.sort();
    texts.dedup();
    texts
}

#[test]
fn members_come_and_go_with_the_answers() {
    let port = services(&[21, 22]);
    let scenario = |kind: Kind| {
        let server = NameServer::start(Says::Hosts(vec![21]));
        let resolver = format!(
            "dns_lookup_family: V4_ONLY\ndns_refresh_rate: 0.1s\ntyped_dns_resolver_config:\n  name: \
             envoy.network.dns_resolver.cares\n  typed_config:\n    \"@type\": \
             type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig\n    resolvers: [{{ \
             socket_address: {{ address: 127.0.0.1, port_value: {} }} }}]\n    dns_resolver_options: {{ \
             no_default_search_domain: true }}\n",
            server.port
        );
        let config = cluster("up", port, &resolver).replace("type: STATIC", "type: STRICT_DNS").replacen(
            "address: 127.0.0.1, ",
            "address: up.test, ",
            1,
        );
        let proxy =
            Proxy::start(kind, "dns", &http("", "- { match: { prefix: / }, route: { cluster: up } }\n", &config));
        let mut seen: Vec<Value> = Vec::new();
        until("one member", || members(&proxy) == 1);
        seen.push(json!(answers(proxy.port)));
        server.change(Says::Hosts(vec![21, 22]));
        until("two members", || members(&proxy) == 2);
        seen.push(json!(answers(proxy.port)));
        server.change(Says::Failure);
        seen.push(json!([members(&proxy), answers(proxy.port)]));
        server.change(Says::NoSuchName);
        until("no member", || members(&proxy) == 0);
        seen.push(json!(answers(proxy.port)));
        server.change(Says::Hosts(vec![22]));
        until("another member", || members(&proxy) == 1);
        seen.push(json!(answers(proxy.port)));
        json!(seen)
    };
    let [theirs, ours] = BOTH.map(scenario);
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    assert_eq!(ours[1], json!(["200 host 21", "200 host 22"]));
    assert_eq!(ours[4], json!(["200 host 22"]));
}
