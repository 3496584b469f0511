//! One bootstrap with a listener per subject; both proxies get the same text but for their own ports.

use std::collections::BTreeMap;

/// Names of the listeners, in the order of the YAML below.
const LISTENERS: [&str; 23] = [
    "routes",
    "edits",
    "rewrites",
    "redirects",
    "plain",
    "edge",
    "normalize",
    "merge",
    "slash_reject",
    "slash_redirect",
    "slash_forward",
    "underscore_reject",
    "underscore_drop",
    "server_pass",
    "server_append",
    "http10",
    "hosts",
    "failures",
    "tcp",
    "limits",
    "resilience",
    "trusting",
    "filters",
];

pub(crate) struct Ports {
    pub(crate) admin: u16,
    listeners: BTreeMap<&'static str, u16>,
}

impl Ports {
    pub(crate) fn choose() -> Ports {
        let all = tests::process::ports::<24>();
        Ports { admin: all[23], listeners: LISTENERS.into_iter().zip(all).collect() }
    }

    pub(crate) fn listener(&self, name: &str) -> u16 {
        *self.listeners.get(name).unwrap_or_else(|| panic!("there is no listener `{name}`"))
    }
}

pub(crate) fn text(ports: &Ports, backends: &BTreeMap<&str, u16>) -> String {
    let mut out = format!(
        "admin:\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}\nstatic_resources:\n  listeners:\n",
        ports.admin
    );
    for (name, options, routes) in http_listeners() {
        out.push_str(&listener(name, ports.listener(name), options, routes));
    }
    out.push_str(&format!(
        "  - name: tcp\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.tcp_proxy\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          stat_prefix: tcp\n          cluster: a\n",
        ports.listener("tcp")
    ));
    out.push_str("  clusters:\n");
    for name in ["a", "b", "c", "gone"] {
        out.push_str(&cluster(name, &[backends[name]]));
    }
    out.push_str(&cluster("brief", &[backends["a"]]));
    out.push_str(BRIEF);
    out.push_str(&cluster("tight", &[backends["a"]]));
    out.push_str(TIGHT);
    out.push_str(&cluster("mixed", &[backends["gone"], backends["a"]]));
    out.push_str("  - name: empty\n    type: STATIC\n");
    out
}

/// The filters before the router, on the listener of that name.
const FILTERS: &str = "          - { name: fault, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault } }\n          - { name: cors, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors } }\n";

/// More lines of the cluster above them.
const BRIEF: &str = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        common_http_protocol_options: { max_stream_duration: 0.2s }\n        explicit_http_config: { http_protocol_options: {} }\n";
const TIGHT: &str = "    circuit_breakers: { thresholds: [{ priority: HIGH, max_requests: 0 }, { max_requests: 5, max_retries: 0 }] }\n";

fn cluster(name: &str, ports: &[u16]) -> String {
    let endpoints: Vec<String> = ports
        .iter()
        .map(|port| {
            format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}")
        })
        .collect();
    format!(
        "  - name: {name}\n    type: STATIC\n    connect_timeout: 1s\n    load_assignment:\n      cluster_name: {name}\n      endpoints: [{{ lb_endpoints: [{}] }}]\n",
        endpoints.join(", ")
    )
}

/// `options` are fields of the connection manager, `routes` what stands below `route_config`, both unindented.
fn listener(name: &str, port: u16, options: &str, routes: &str) -> String {
    let more = if name == "filters" { FILTERS } else { "" };
    let indent =
        |text: &str, by: usize| -> String { text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect() };
    format!(
        "  - name: {name}\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n    filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          stat_prefix: {name}\n          http_filters:\n{more}          - name: envoy.filters.http.router\n            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}\n{}          route_config:\n{}",
        indent(options, 10),
        indent(routes, 12)
    )
}

const TO_A: &str =
    "virtual_hosts:\n- { name: all, domains: ['*'], routes: [{ match: { prefix: / }, route: { cluster: a } }] }\n";

/// Name, connection manager options, route configuration.
fn http_listeners() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        ("routes", "", include_str!("routes.yaml")),
        ("edits", "", include_str!("edits.yaml")),
        ("rewrites", "", include_str!("rewrites.yaml")),
        ("redirects", "", include_str!("redirects.yaml")),
        ("plain", "upgrade_configs: [{ upgrade_type: websocket }]", TO_A),
        ("edge", "use_remote_address: true\nvia: test\nalways_set_request_id_in_response: true", TO_A),
        ("normalize", "normalize_path: true", TO_A),
        ("merge", "normalize_path: true\nmerge_slashes: true", TO_A),
        ("slash_reject", "path_with_escaped_slashes_action: REJECT_REQUEST", TO_A),
        ("slash_redirect", "path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT", TO_A),
        ("slash_forward", "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD", TO_A),
        (
            "underscore_reject",
            "common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }",
            TO_A,
        ),
        ("underscore_drop", "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }", TO_A),
        ("server_pass", "server_header_transformation: PASS_THROUGH\nxff_num_trusted_hops: 1", TO_A),
        ("server_append", "server_header_transformation: APPEND_IF_ABSENT\nserver_name: mine", TO_A),
        ("http10", "http_protocol_options: { accept_http_10: true, default_host_for_http_10: ten }", TO_A),
        ("hosts", "strip_any_host_port: true", include_str!("hosts.yaml")),
        ("failures", "", include_str!("failures.yaml")),
        (
            "limits",
            "max_request_headers_kb: 8\ncommon_http_protocol_options: { max_headers_count: 20 }\ngenerate_request_id: false",
            TO_A,
        ),
        ("resilience", "", include_str!("resilience.yaml")),
        (
            "trusting",
            "use_remote_address: true\ninternal_address_config: { cidr_ranges: [{ address_prefix: 127.0.0.0, prefix_len: 8 }] }",
            include_str!("resilience.yaml"),
        ),
        ("filters", "", include_str!("filters.yaml")),
    ]
}
