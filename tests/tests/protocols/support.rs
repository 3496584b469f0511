//! Proxies, peers and bootstraps for the protocol tests.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tests::peers;
use tests::process::{Process, ports, scratch};

/// Which program is the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Envoy,
    Ripstop,
}

pub(crate) const BOTH: [Kind; 2] = [Kind::Envoy, Kind::Ripstop];

/// A running proxy with one listener.
pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

impl Proxy {
    /// `config` is YAML with `{PORT}`, `{ADMIN}` and `{FOLDER}` to be filled in.
    pub(crate) fn start(kind: Kind, name: &str, config: &str) -> Proxy {
        Proxy::start_in(kind, &scratch(&format!("{name}-{kind:?}")), config, &[])
    }

    pub(crate) fn start_in(kind: Kind, folder: &Path, config: &str, more: &[&str]) -> Proxy {
        let [port, admin] = ports();
        let file = folder.join("bootstrap.yaml");
        let text = config
            .replace("{PORT}", &port.to_string())
            .replace("{ADMIN}", &admin.to_string())
            .replace("{FOLDER}", &folder.display().to_string());
        std::fs::write(&file, text).expect("a bootstrap");
        let file = file.display().to_string();
        let mut arguments = match kind {
            Kind::Envoy => vec![
                "-c",
                &file,
                "--concurrency",
                "1",
                "-l",
                "error",
                "--use-dynamic-base-id",
                "--file-flush-interval-msec",
                "50",
            ],
            Kind::Ripstop => vec!["proxy", "-c", &file, "--concurrency", "1", "-l", "error"],
        };
        arguments.extend_from_slice(more);
        let program = if kind == Kind::Envoy { peers::envoy() } else { peers::ripstop() };
        let mut process = Process::start("proxy", folder, &program, &arguments);
        process.ready(admin);
        Proxy { process, port, admin }
    }
}

/// A Python helper that serves on a port of its own until dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// `what`: the helper is `<what>_peer.py`.
    pub(crate) fn start(what: &str) -> Server {
        let mut child = peer(what, &["server"]).stdout(Stdio::piped()).spawn().expect("python runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a port");
        Server { child, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a Python client reports.
pub(crate) fn client(what: &str, port: u16, more: &[&str]) -> Value {
    let port = port.to_string();
    let output = peer(what, &[&["client", port.as_str()], more].concat()).output().expect("python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn peer(what: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(peers::python());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/protocols/{what}_peer.py"));
    command.arg(script).args(arguments).stdin(Stdio::null());
    command
}

/// A bootstrap with one HTTP listener. `manager` are more fields of the connection manager, `routes` a list of routes,
/// `clusters` a list of clusters, each unindented YAML.
pub(crate) fn http(manager: &str, routes: &str, clusters: &str) -> String {
    let filter = format!(
        "name: envoy.filters.network.http_connection_manager\ntyped_config:\n  \"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n  \
         stat_prefix: test\n{}  http_filters:\n  - name: envoy.filters.http.router\n    typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}\n  route_config:\n    virtual_hosts:\n    \
         - name: all\n      domains: ['*']\n      routes:\n{}",
        indent(manager, 2),
        indent(routes, 6)
    );
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\n\
         static_resources:\n  listeners:\n  - name: test\n    address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {{PORT}} }} }}\n    filter_chains:\n    - filters:\n      - {}\n  clusters:\n{}",
        indent(&filter, 8).trim_start(),
        indent(clusters, 2)
    )
}

pub(crate) fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// A static cluster; `more` are further fields, unindented.
pub(crate) fn cluster(name: &str, port: u16, more: &str) -> String {
    format!(
        "- name: {name}\n  type: STATIC\n  connect_timeout: 1s\n  load_assignment:\n    cluster_name: {name}\n    \
         endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: \
         {port} }} }} }} }}] }}]\n{}",
        indent(more, 2)
    )
}

pub(crate) const HTTP2: &str = "typed_extension_protocol_options:\n  \
     envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \"@type\": \
     type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    explicit_http_config: { \
     http2_protocol_options: {} }\n";

/// Both sides' answers to the same questions must be equal; what is not is told, and nothing else.
pub(crate) fn assert_same(names: [&str; 2], left: &Value, right: &Value) {
    let mut lines = Vec::new();
    differences("", left, right, &mut lines);
    assert!(lines.is_empty(), "{} on the left, {} on the right\n{}", names[0], names[1], lines.join("\n"));
}

fn differences(at: &str, left: &Value, right: &Value, lines: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let all: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let value = |map: &serde_json::Map<String, Value>, name| map.get(name).cloned().unwrap_or_default();
            all.into_iter()
                .for_each(|name| differences(&format!("{at}.{name}"), &value(left, name), &value(right, name), lines));
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs.for_each(|(index, (left, right))| differences(&format!("{at}[{index}]"), left, right, lines));
        }
        _ if left != right => lines.push(format!("{at}: {left} | {right}")),
        _ => {}
    }
}
