//! One proxy with a plain and a TLS listener, both answering by themselves.

use rcgen::generate_simple_self_signed;
use tests::backend::{Backend, Log};
use tests::peers;
use tests::process::{Process, ports, scratch};

pub(crate) struct Proxy {
    pub(crate) process: Process,
    pub(crate) plain: u16,
    pub(crate) tls: u16,
    _backend: Backend,
}

fn listener(name: &str, port: u16, socket: &str) -> String {
    const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
    format!(
        "  - name: {name}\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n    filter_chains:\n    - \
         filters:\n      - name: http\n        typed_config:\n          \"@type\": type.googleapis.com/{HCM}\n          stat_prefix: {name}\n          \
         common_http_protocol_options: {{ idle_timeout: 30s }}\n          http2_protocol_options: {{ max_concurrent_streams: 100 }}\n          \
         http_filters: [{{ name: router, typed_config: {{ \"@type\": type.googleapis.com/{ROUTER} }} }}]\n          route_config: {{ virtual_hosts: [{{ name: all, \
         domains: ['*'], routes: [{{ match: {{ prefix: /big }}, direct_response: {{ status: 200, body: {{ inline_string: \"{}\" }} }} }}, \
         {{ match: {{ prefix: /up }}, route: {{ cluster: up }} }}, {{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: \"hello, this is a body\\n\" }} }} }}] }}], \
         max_direct_response_body_size_bytes: 200000 }}\n{socket}",
        "x".repeat(100_000)
    )
}

impl Proxy {
    pub(crate) fn start(name: &str) -> Proxy {
        let folder = scratch(name);
        let [plain, tls, admin] = ports();
        let issued = generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        std::fs::write(folder.join("cert.pem"), issued.cert.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), issued.signing_key.serialize_pem()).expect("written");
        let at = folder.display();
        let socket = format!(
            "      transport_socket:\n        name: tls\n        typed_config:\n          \"@type\": \
             type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          common_tls_context: {{ \
             alpn_protocols: [h2, http/1.1], tls_certificates: [{{ certificate_chain: {{ filename: \"{at}/cert.pem\" }}, private_key: {{ \
             filename: \"{at}/key.pem\" }} }}] }}\n"
        );
        let backend = Backend::start("up", &Log::default());
        let cluster = format!(
            "  clusters:\n  - name: up\n    type: STATIC\n    load_assignment: {{ cluster_name: up, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: \
             {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }} }}] }}] }}\n",
            backend.port
        );
        let text = format!(
            "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}\nstatic_resources:\n  listeners:\n{}{}",
            listener("plain", plain, ""),
            listener("tls", tls, &socket)
        ) + &cluster;
        let file = folder.join("bootstrap.yaml");
        std::fs::write(&file, text).expect("written");
        let file = file.display().to_string();
        let arguments = ["proxy", "-c", &file, "--concurrency", "1", "-l", "error"];
        let mut process = Process::start("proxy", &folder, &peers::ripstop(), &arguments);
        process.ready(admin);
        Proxy { process, plain, tls, _backend: backend }
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
    }
}
