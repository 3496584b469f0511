//! One bootstrap with a listener per subject; both proxies get the same text but for their own ports.

use std::collections::BTreeMap;

/// More than there are listeners.
const MOST: usize = 64;

pub(crate) struct Ports {
    pub(crate) admin: u16,
    listeners: BTreeMap<&'static str, u16>,
}

impl Ports {
    pub(crate) fn choose() -> Ports {
        let all = tests::process::ports::<MOST>();
        let names: Vec<&str> = http_listeners().iter().map(|listener| listener.0).chain(["tcp"]).collect();
        assert!(names.len() < MOST, "there are more listeners than ports");
        Ports { admin: all[MOST - 1], listeners: names.into_iter().zip(all).collect() }
    }

    pub(crate) fn listener(&self, name: &str) -> u16 {
        *self.listeners.get(name).unwrap_or_else(|| panic!("there is no listener `{name}`"))
    }
}

/// `http2`: what the upstreams speak.
pub(crate) fn text(ports: &Ports, backends: &BTreeMap<&str, u16>, http2: bool) -> String {
    let mut out = format!(
        "node: {{ id: the-node, cluster: the-cluster }}\nadmin:\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}\nstatic_resources:\n  listeners:\n",
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
    let cluster = |name: &str, ports: &[u16]| cluster(name, ports, http2);
    for name in ["a", "b", "c", "gone"] {
        out.push_str(&cluster(name, &[backends[name]]));
    }
    let brief = cluster("brief", &[backends["a"]]);
    out.push_str(&match http2 {
        true => brief.replace(
            "explicit_http_config",
            "common_http_protocol_options: { max_stream_duration: 0.2s }, explicit_http_config",
        ),
        false => brief + BRIEF,
    });
    out.push_str(&cluster("tight", &[backends["a"]]));
    out.push_str(TIGHT);
    out.push_str(&cluster("mixed", &[backends["gone"], backends["a"]]));
    out.push_str("  - name: empty\n    type: STATIC\n");
    out
}

/// The filters before the router, on the listener of that name.
const FILTERS: &str = "          - { name: fault, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault } }\n          - { name: cors, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors } }\n";

const LIMITED: &str = r#"          - name: mutation
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
              most_specific_header_mutations_wins: false
              mutations:
                request_mutations: [{ append: { header: { key: x-who, value: filter }, append_action: OVERWRITE_IF_EXISTS_OR_ADD } }, { append: { header: { key: x-all, value: filter } } }]
                response_mutations: [{ append: { header: { key: x-who, value: filter }, append_action: OVERWRITE_IF_EXISTS_OR_ADD } }, { append: { header: { key: x-all, value: filter } } }]
          - { name: buffer, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, max_request_bytes: 100 } }
          - { name: rate, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: all } }
"#;

const WEB: &str = "          - { name: web, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb } }\n";

const HEALTH: &str = r#"          - { name: own, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, headers: [{ name: ":path", string_match: { exact: /own } }] } }
          - { name: clusters, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, cluster_min_healthy_percentages: { a: { value: 100 }, mixed: { value: 50 } }, headers: [{ name: ":path", string_match: { prefix: /clusters } }] } }
          - { name: empty, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, cluster_min_healthy_percentages: { empty: { value: 50 } }, headers: [{ name: ":path", string_match: { exact: /empty } }] } }
          - { name: empty-ok, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, cluster_min_healthy_percentages: { empty: { value: 0 } }, headers: [{ name: ":path", string_match: { exact: /empty-ok } }] } }
          - { name: missing, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, cluster_min_healthy_percentages: { nobody: { value: 0 } }, headers: [{ name: ":path", string_match: { exact: /missing } }] } }
          - { name: fractions, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: false, cluster_min_healthy_percentages: { empty: { value: 0.9 } }, headers: [{ name: ":path", string_match: { exact: /fractions } }] } }
          - { name: pass, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: true, headers: [{ name: ":path", string_match: { exact: /pass } }] } }
          - { name: kept, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck, pass_through_mode: true, cache_time: 1000s, headers: [{ name: ":path", string_match: { exact: /kept } }] } }
"#;

/// More lines of the cluster above them.
const BRIEF: &str = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        common_http_protocol_options: { max_stream_duration: 0.2s }\n        explicit_http_config: { http_protocol_options: {} }\n";
const TIGHT: &str = "    circuit_breakers: { thresholds: [{ priority: HIGH, max_requests: 0 }, { max_requests: 5, max_retries: 0 }] }\n";

/// One line more for clusters that speak HTTP/2.
const HTTP2: &str = "    typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: { http2_protocol_options: {} } } }\n";

fn cluster(name: &str, ports: &[u16], http2: bool) -> String {
    let endpoints: Vec<String> = ports
        .iter()
        .map(|port| {
            format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}")
        })
        .collect();
    format!(
        "  - name: {name}\n    type: STATIC\n    connect_timeout: 1s\n    load_assignment:\n      cluster_name: {name}\n      endpoints: [{{ lb_endpoints: [{}] }}]\n{}",
        endpoints.join(", "),
        if http2 { HTTP2 } else { "" }
    )
}

/// `options` are fields of the connection manager, `routes` what stands below `route_config`, both unindented.
fn listener(name: &str, port: u16, options: &str, routes: &str) -> String {
    let more = match name {
        "filters" | "mapped" | "mapped_json" => FILTERS,
        "limited" => LIMITED,
        "web" => WEB,
        "health" => HEALTH,
        "limited_wins" => {
            &LIMITED.replace("most_specific_header_mutations_wins: false", "most_specific_header_mutations_wins: true")
        }
        _ => "",
    };
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

/// The host is named by a header.
const BY_HEADER: &str = "vhost_header: x-host\nvirtual_hosts:\n- { name: one, domains: [one], routes: [{ match: { prefix: / }, route: { cluster: a } }] }\n- { name: two, domains: [\"*.example\", \"*.example:80\"], routes: [{ match: { prefix: / }, route: { cluster: b } }] }\n";

/// Tells what is thought of the client.
const TELLING: &str = "virtual_hosts:\n- name: all\n  domains: ['*']\n  request_headers_to_add: [{ header: { key: x-remote, value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' } }]\n  routes: [{ match: { prefix: / }, route: { cluster: a } }]\n";

const EARLY: &str = r#"early_header_mutation_extensions:
- name: early
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
    mutations:
    - remove: x-drop
    - remove_on_match: { key_matcher: { prefix: x-drop- } }
    - append: { header: { key: x-route, value: "%REQ(x-in)%" }, append_action: ADD_IF_ABSENT }
    - append: { header: { key: x-in, value: "more" } }
scheme_header_transformation: { scheme_to_overwrite: https }
"#;

const EARLY_ROUTES: &str = "virtual_hosts:\n- name: all\n  domains: ['*']\n  routes:\n  - { match: { prefix: /routed, headers: [{ name: x-route, string_match: { exact: given } }] }, route: { cluster: b } }\n  - { match: { prefix: /scheme }, redirect: { path_redirect: /else } }\n  - { match: { prefix: / }, route: { cluster: a } }\n";

const MAPPED: &str = r#"local_reply_config:
  body_format: { text_format: "%LOCAL_REPLY_BODY%:%RESPONSE_CODE%:%REQ(:path)%\n" }
  mappers:
  - filter: { header_filter: { header: { name: x-teapot, present_match: true } } }
    status_code: 418
    body: { inline_string: "a teapot" }
    headers_to_add: [{ header: { key: x-mapped, value: "%RESPONSE_CODE%" } }]
  - filter: { and_filter: { filters: [{ status_code_filter: { comparison: { op: GE, value: { default_value: 500, runtime_key: x } } } }, { header_filter: { header: { name: x-special, present_match: true } } }] } }
    body_format_override: { text_format: "special %RESPONSE_FLAGS%", content_type: "text/x-special" }
  - filter: { response_flag_filter: { flags: [UF, UH] } }
    status_code: 502
  - filter: { or_filter: { filters: [{ status_code_filter: { comparison: { op: EQ, value: { default_value: 504, runtime_key: x } } } }, { status_code_filter: { comparison: { op: EQ, value: { default_value: 400, runtime_key: x } } } }] } }
    body: { inline_string: "late or bad" }
"#;

const MAPPED_JSON: &str = r#"local_reply_config:
  body_format: { json_format: { status: "%RESPONSE_CODE%", text: "%LOCAL_REPLY_BODY%", path: "%REQ(:path)%", none: "%REQ(x-none)%" } }
  mappers:
  - filter: { header_filter: { header: { name: x-teapot, present_match: true } } }
    status_code: 200
    body: { inline_string: "" }
  - filter: { header_filter: { header: { name: x-special, present_match: true } } }
    body_format_override: { text_format: "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%" }
    headers_to_add: [{ header: { key: content-type, value: text/x-own }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]
"#;

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
        ("matching", "", include_str!("matching.yaml")),
        ("follow", "", include_str!("follow.yaml")),
        ("limited", "", include_str!("limited.yaml")),
        ("limited_wins", "", include_str!("limited.yaml")),
        ("connect", "upgrade_configs: [{ upgrade_type: CONNECT }]", include_str!("connect.yaml")),
        ("connect_off", "upgrade_configs: [{ upgrade_type: CONNECT, enabled: false }]", include_str!("connect.yaml")),
        ("web", "", include_str!("web.yaml")),
        ("health", "", include_str!("health.yaml")),
        ("vhost", "", BY_HEADER),
        ("mapped", MAPPED, include_str!("mapped.yaml")),
        ("mapped_json", MAPPED_JSON, include_str!("mapped.yaml")),
        ("early", EARLY, EARLY_ROUTES),
        (
            "xff_none",
            "original_ip_detection_extensions: [{ name: xff, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig } }]",
            TELLING,
        ),
        (
            "xff_hops",
            "original_ip_detection_extensions: [{ name: xff, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, xff_num_trusted_hops: 1 } }]",
            TELLING,
        ),
        (
            "xff_cidrs",
            "original_ip_detection_extensions: [{ name: xff, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, xff_trusted_cidrs: { cidrs: [{ address_prefix: 127.0.0.0, prefix_len: 8 }, { address_prefix: 5.6.0.0, prefix_len: 16 }] } } }]",
            TELLING,
        ),
        (
            "xff_append",
            "original_ip_detection_extensions: [{ name: xff, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig, skip_xff_append: false } }]\ninternal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }\nappend_x_forwarded_port: true",
            TELLING,
        ),
        (
            "edge_hops",
            "use_remote_address: true\nxff_num_trusted_hops: 1\nappend_x_forwarded_port: true\nadd_user_agent: true",
            TELLING,
        ),
        (
            "client_header",
            "original_ip_detection_extensions: [{ name: own, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig, header_name: X-Client, allow_extension_to_set_address_as_trusted: true } }]\ninternal_address_config: { cidr_ranges: [{ address_prefix: 1.0.0.0, prefix_len: 8 }] }",
            TELLING,
        ),
        (
            "client_strict",
            "original_ip_detection_extensions: [{ name: own, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig, header_name: X-Client, reject_with_status: { code: Unauthorized } } }]",
            TELLING,
        ),
    ]
}
