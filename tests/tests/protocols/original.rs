//! Connections that the kernel redirects (`REDIRECT`, `TPROXY`), through both proxies. Each test has a network namespace of
//! its own, in which it makes its addresses and rules.

use crate::support::{BOTH, Kind, Proxy, assert_same, cluster, indent};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::process::scratch;

const PATIENCE: Duration = Duration::from_secs(10);

/// Addresses on the loopback interface: that of servers, and that of clients whose connections are redirected.
const SERVER: [&str; 2] = ["10.9.0.1", "fd09::1"];
const CLIENT: [&str; 2] = ["10.9.0.2", "fd09::2"];
/// Nobody has this one.
const FAR: [&str; 2] = ["10.77.0.1", "fd77::1"];

fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().expect("a program")).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}; run `cargo xtask peers`"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Moves this thread, and what it starts, into a network of its own.
fn namespace() {
    // SAFETY: the call takes one integer and changes nothing in this process's memory.
    let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(moved, 0, "a network namespace needs root: {}", std::io::Error::last_os_error());
    run("ip link set lo up");
    for address in [SERVER, CLIENT] {
        run(&format!("ip addr add {}/24 dev lo", address[0]));
        run(&format!("ip addr add {}/64 dev lo nodad", address[1]));
    }
}

/// A server at `address` that says who it is to everybody.
fn serve(address: &str, name: &'static str) {
    let listener = TcpListener::bind(address).expect("an address of this namespace");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = write!(
                stream,
                "{name} to {}",
                stream.peer_addr().map_or_else(|_| "?".into(), |peer| peer.ip().to_string())
            );
        }
    });
}

/// What a client with a redirected address is told at `to`.
fn ask(client: &str, to: &str) -> String {
    let to: SocketAddr = to.parse().expect("an address");
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).expect("a socket");
    let client: IpAddr = client.parse().expect("an address");
    socket.bind(&SocketAddr::new(client, 0).into()).expect("a client's address");
    if socket.connect_timeout(&to.into(), PATIENCE).is_err() {
        return "no connection".into();
    }
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut got = String::new();
    match stream.read_to_string(&mut got) {
        Ok(_) => got,
        Err(error) => format!("{got} {:?}", error.kind()),
    }
}

/// A listener at `address` for TCP to `cluster`; `more` are further fields of the listener, unindented.
fn listener(name: &str, address: (&str, &str), cluster: &str, more: &str) -> String {
    format!(
        "- name: {name}\n  address: {{ socket_address: {{ address: '{}', port_value: {} }} }}\n{}  filter_chains:\n  - filters:\n    \
         - name: tcp\n      typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, \
         stat_prefix: {name}, cluster: {cluster}{LOG} }}\n",
        address.0,
        address.1,
        indent(more, 2),
    )
}

const LOG: &str = ", access_log: [{ name: log, typed_config: { \"@type\": \
     type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: '{FOLDER}/access.log', log_format: \
     { text_format_source: { inline_string: \"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% \
     %UPSTREAM_HOST% %UPSTREAM_CLUSTER%\\n\" } } } }]";

const ORIGINAL: &str = "- name: original\n  type: ORIGINAL_DST\n  lb_policy: CLUSTER_PROVIDED\n  connect_timeout: 1s\n";
const FILTER: &str = "listener_filters: [{ name: original, typed_config: { \"@type\": \
     type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst } }]\n";

fn bootstrap(listeners: &[String], clusters: &str) -> String {
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\nstatic_resources:\n  listeners:\n{}  \
         clusters:\n{}",
        indent(&listeners.concat(), 2),
        indent(clusters, 2),
    )
}

/// The sorted lines of the access log, once there are `count`.
fn logged(folder: &Path, count: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= count {
            let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
            lines.sort();
            return lines;
        }
        assert!(start.elapsed() < PATIENCE, "the log has not {count} lines:\n{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `scenario` for both proxies, each in a namespace of its own.
fn both(scenario: impl Fn(Kind) -> Value + Copy + Send + Sync) -> Value {
    let [theirs, ours] = BOTH.map(|kind| {
        std::thread::scope(|scope| {
            let apart = scope.spawn(move || {
                namespace();
                scenario(kind)
            });
            apart.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    });
    assert_same(["Envoy", "Ripstop"], &theirs, &ours);
    ours
}

fn start(kind: Kind, name: &str, config: &str) -> (Proxy, std::path::PathBuf) {
    let folder = scratch(&format!("original-{name}-{kind:?}"));
    (Proxy::start_in(kind, &folder, config, &[]), folder)
}

/// Everything that clients send goes to the proxy's port.
fn redirect(port: u16) {
    for (program, client) in [("iptables", CLIENT[0]), ("ip6tables", CLIENT[1])] {
        run(&format!("{program} -t nat -A OUTPUT -p tcp -s {client} -j REDIRECT --to-ports {port}"));
    }
}

#[test]
fn redirected_connections_reach_where_they_were_going() {
    let ours = both(|kind| {
        serve("10.9.0.1:8080", "one");
        serve("10.9.0.1:8081", "two");
        serve("[fd09::1]:8080", "six");
        let listeners = [
            listener("four", ("127.0.0.1", "{PORT}"), "original", FILTER),
            listener("six", ("::1", "{PORT}"), "original", FILTER),
        ];
        let (proxy, folder) = start(kind, "redirected", &bootstrap(&listeners, ORIGINAL));
        redirect(proxy.port);
        let asked = [
            ask(CLIENT[0], "10.9.0.1:8080"),
            ask(CLIENT[0], "10.9.0.1:8081"),
            ask(CLIENT[0], "10.9.0.1:8082"),
            ask(CLIENT[1], "[fd09::1]:8080"),
        ];
        let log = logged(&folder, asked.len());
        let _ = std::fs::remove_dir_all(&folder);
        json!([asked, log])
    });
    assert_eq!(ours[0], json!(["one to 10.9.0.1", "two to 10.9.0.1", "", "six to fd09::1"]));
}

/// `use_original_dst`: the listener of the address that was meant, bound or not, takes the connection over.
#[test]
fn connections_are_handed_to_the_listener_they_meant() {
    let ours = both(|kind| {
        let servers: [(&str, &str); 4] = [("9001", "exact"), ("9002", "any"), ("9003", "six"), ("9004", "rest")];
        servers.iter().for_each(|(port, name)| serve(&format!("127.0.0.1:{port}"), name));
        let clusters: String = servers
            .iter()
            .map(|(port, name)| cluster(name, port.parse().expect("a port"), ""))
            .chain([ORIGINAL.to_string()])
            .collect();
        let unbound = "bind_to_port: false\n";
        let listeners = [
            listener("four", ("127.0.0.1", "{PORT}"), "rest", "use_original_dst: true\n"),
            listener("six", ("::1", "{PORT}"), "rest", "use_original_dst: true\n"),
            listener("exact", (FAR[0], "80"), "exact", unbound),
            listener("any", ("0.0.0.0", "81"), "any", unbound),
            listener("far six", (FAR[1], "80"), "six", unbound),
        ];
        let (proxy, folder) = start(kind, "handed", &bootstrap(&listeners, &clusters));
        run("ip route add 10.77.0.0/16 dev lo");
        run("ip -6 route add fd77::/64 dev lo");
        redirect(proxy.port);
        let asked = [
            ask(CLIENT[0], "10.77.0.1:80"),
            ask(CLIENT[0], "10.77.0.2:80"),
            ask(CLIENT[0], "10.77.0.1:81"),
            ask(CLIENT[0], "10.77.9.9:81"),
            ask(CLIENT[1], "[fd77::1]:80"),
            ask(CLIENT[1], "[fd77::1]:81"),
            ask(SERVER[0], &format!("127.0.0.1:{}", proxy.port)),
        ];
        let port = proxy.port.to_string();
        let log: Vec<String> = logged(&folder, asked.len()).iter().map(|line| line.replace(&port, "PORT")).collect();
        let _ = std::fs::remove_dir_all(&folder);
        json!([asked, log])
    });
    let names: Vec<&str> =
        ours[0].as_array().into_iter().flatten().filter_map(|one| one.as_str()?.split(' ').next()).collect();
    assert_eq!(names, ["exact", "rest", "any", "any", "six", "rest", "rest"]);
}

/// `transparent`: the socket itself has the address that was meant.
#[test]
fn transparent_listeners_take_what_tproxy_sends() {
    let ours = both(|kind| {
        serve("127.0.0.1:9001", "meant");
        serve("127.0.0.1:9002", "rest");
        let clusters = cluster("meant", 9001, "") + &cluster("rest", 9002, "");
        let listeners = [
            listener("all", ("127.0.0.1", "{PORT}"), "rest", "transparent: true\nuse_original_dst: true\n"),
            listener("meant", (FAR[0], "80"), "meant", "bind_to_port: false\n"),
        ];
        let (proxy, folder) = start(kind, "tproxy", &bootstrap(&listeners, &clusters));
        run("ip route add 10.77.0.0/16 dev lo");
        run("ip rule add fwmark 1 lookup 100");
        run("ip route add local 0.0.0.0/0 dev lo table 100");
        run(&format!("iptables -t mangle -A OUTPUT -p tcp -s {} -j MARK --set-mark 1", CLIENT[0]));
        let tproxy = format!("TPROXY --on-port {} --on-ip 127.0.0.1 --tproxy-mark 1", proxy.port);
        run(&format!("iptables -t mangle -A PREROUTING -p tcp -m mark --mark 1 -j {tproxy}"));
        let asked = [ask(CLIENT[0], "10.77.0.1:80"), ask(CLIENT[0], "10.77.0.1:81")];
        let log = logged(&folder, asked.len());
        let _ = std::fs::remove_dir_all(&folder);
        json!([asked, log])
    });
    assert_eq!(ours[0], json!(["meant to 127.0.0.1", "rest to 127.0.0.1"]));
}
