//! `--mode validate`: a broken file is refused with file, place, field and what would be right.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use tests::peers;
use tests::process::scratch;

const GOOD: &str = r#"admin:
  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }
static_resources:
  listeners:
  - name: in
    address: { socket_address: { address: 127.0.0.1, port_value: 10000 } }
    filter_chains:
    - transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - { certificate_chain: { filename: CERT }, private_key: { filename: KEY } }
      filters:
      - name: http
        typed_config:
          "@type": HCM
          stat_prefix: in
          http_filters:
          - name: router
            typed_config:
              "@type": ROUTER
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: / }
                route: { cluster: a, timeout: 5s }
  clusters:
  - name: a
    type: STATIC
    lb_policy: ROUND_ROBIN
    load_assignment:
      cluster_name: a
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 8081 } } }
"#;

const MANAGER: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
const ROUTE: &str =
    "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0]";
const CONTEXT: &str = "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.common_tls_context";

/// What is replaced by what (`^` stands where the error must point), the field below one of the constants above, and
/// the message.
const BROKEN: [(&str, &str, &str, &str); 26] = [
    ("stat_prefix: in", "^stat_prefx: in", "MANAGER.stat_prefx", "unknown field; did you mean stat_prefix?"),
    ("{ cluster: a, ", "{ ^clustr: a, ", "ROUTE.route.clustr", "unknown field; did you mean cluster?"),
    (
        "port_value: 10000",
        "port_value: ^ten",
        "static_resources.listeners[0].address.socket_address.port_value",
        "is a string; it must be an integer from 0 to 4294967295",
    ),
    (
        "port_value: 10000",
        "^port_value: 70000",
        "static_resources.listeners[0].address.socket_address.port_value",
        "70000 is not a port; ports end at 65535",
    ),
    (
        "timeout: 5s",
        "timeout: ^5",
        "ROUTE.route.timeout",
        "is an integer; it must be a duration in seconds such as 0.25s",
    ),
    (
        "timeout: 5s",
        "timeout: ^5 seconds",
        "ROUTE.route.timeout",
        "is a string; it must be a duration in seconds such as 0.25s",
    ),
    (
        "ROUND_ROBIN",
        "^ROUND_ROBBIN",
        "static_resources.clusters[0].lb_policy",
        "is not a value of LbPolicy; did you mean ROUND_ROBIN?",
    ),
    (
        "lb_policy: ROUND_ROBIN",
        "^lb_policy: CLUSTER_PROVIDED",
        "static_resources.clusters[0].lb_policy",
        "CLUSTER_PROVIDED is for clusters with a policy of their own; choose another",
    ),
    ("prefix: / }", "prefix: /, ^path: /x }", "ROUTE.match.path", "cannot be set together with prefix; choose one"),
    (
        "prefix: / }",
        "safe_regex: { ^regex: \"a(b\" } }",
        "ROUTE.match.safe_regex.regex",
        "is not a regular expression: unclosed group",
    ),
    ("match: { prefix: / }", "^match: {}", "ROUTE.match.path_specifier", "is required"),
    (
        "typed_config:\n          \"@type\": HCM\n          stat_prefix: in\n",
        "^typed_config:\n          \"@type\": HCM\n",
        "MANAGER.stat_prefix",
        "must not be empty",
    ),
    (
        "- name: in\n    address: { socket_address: { address: 127.0.0.1, port_value: 10000 } }\n",
        "- ^name: in\n",
        "static_resources.listeners[0].address",
        "is required",
    ),
    (
        "cluster: a, ",
        "^cluster: b, ",
        "ROUTE.route.cluster",
        "no cluster is called `b`; with validate_clusters: false it may come later",
    ),
    (
        "typed_config:\n              \"@type\": ROUTER",
        "^typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "MANAGER.http_filters[0].typed_config",
        "extension `envoy.extensions.filters.http.lua.v3.Lua` is not implemented",
    ),
    (
        "ROUTER",
        "^type.googleapis.com/envoy.extensions.filters.http.rooter.v3.Rooter",
        "MANAGER.http_filters[0].typed_config.@type",
        "unknown type `envoy.extensions.filters.http.rooter.v3.Rooter`",
    ),
    (
        "address: 127.0.0.1, port_value: 8081",
        "^address: localhost, port_value: 8081",
        "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address",
        "`localhost` is not an IP address; names need a cluster of type STRICT_DNS",
    ),
    (
        "{ filename: CERT }",
        "{ ^filename: FOLDER/none }",
        "CONTEXT.tls_certificates[0].certificate_chain.filename",
        "FOLDER/none cannot be read: No such file or directory (os error 2)",
    ),
    (
        "{ filename: KEY }",
        "{ ^filename: FOLDER/none }",
        "CONTEXT.tls_certificates[0].private_key.filename",
        "FOLDER/none cannot be read: No such file or directory (os error 2)",
    ),
    (
        "common_tls_context:\n            tls_certificates:\n            - { certificate_chain: { filename: CERT }, private_key: { filename: KEY",
        "^common_tls_context:\n            tls_certificates:\n            - { certificate_chain: { filename: CERT }, private_key: { filename: FOLDER/other.key",
        "CONTEXT",
        "the private key does not fit the certificate: keys may not be consistent: KeyMismatch",
    ),
    (
        "common_tls_context:\n            tls_certificates:\n            - { certificate_chain: { filename: CERT",
        "^common_tls_context:\n            tls_certificates:\n            - { certificate_chain: { filename: KEY",
        "CONTEXT",
        "the certificate chain cannot be read: it holds no PEM block of the right kind",
    ),
    ("  listeners:", "\t^listeners:", "", "tabs disallowed within this context (block indentation)"),
    ("  clusters:", "   ^clusters:", "", "while parsing a block mapping, did not find expected key"),
    ("    type: STATIC\n", "    type: STATIC\n    ^type: EDS\n", "", "duplicate mapping key: type"),
    (
        "    type: STATIC\n",
        "    type: STATIC\n    filters: [^{ name: x }]\n",
        "static_resources.clusters[0].filters[0]",
        "is not implemented",
    ),
    (
        "port_value: 8081",
        "port_value: 8081, ^port: 8082",
        "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port",
        "unknown field of envoy.config.core.v3.SocketAddress",
    ),
];

fn validate(file: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(peers::ripstop());
    command.args(["proxy", "--mode", "validate", "-c"]).arg(file).args(more).output().expect("ripstop runs")
}

/// The words in capitals that the texts above leave open.
fn complete(text: &str, folder: &Path) -> String {
    let extension = "type.googleapis.com/envoy.extensions.filters";
    let manager = format!("{extension}.network.http_connection_manager.v3.HttpConnectionManager");
    let words: [(&str, &str); 8] = [
        ("CERT", "FOLDER/cert"),
        ("KEY", "FOLDER/key"),
        ("HCM", &manager),
        ("ROUTER", &format!("{extension}.http.router.v3.Router")),
        ("MANAGER", MANAGER),
        ("ROUTE", ROUTE),
        ("CONTEXT", CONTEXT),
        ("FOLDER", &folder.display().to_string()),
    ];
    words.iter().fold(text.to_string(), |text, (word, meaning)| text.replace(word, meaning))
}

#[test]
fn broken_files_are_explained() {
    let folder = scratch("validate");
    let certified = rcgen::generate_simple_self_signed(vec!["a.test".into()]).unwrap();
    std::fs::write(folder.join("cert"), certified.cert.pem()).unwrap();
    std::fs::write(folder.join("key"), certified.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("other.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let file = folder.join("config.yaml");
    std::fs::write(&file, complete(GOOD, &folder)).unwrap();
    let good = validate(&file, &[]);
    assert_eq!((good.status.code(), &*good.stdout, &*good.stderr), (Some(0), &b"configuration OK\n"[..], &b""[..]));
    let good = validate(&file, &["-o", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&good.stdout).unwrap(), json!({"valid": true, "without_effect": []}));
    assert!(envoy_accepts(&file));

    for (from, to, field, message) in BROKEN {
        assert_eq!(GOOD.matches(from).count(), 1, "{from}");
        let marked = complete(&GOOD.replace(from, to), &folder);
        let place = |(index, text): (usize, &str)| Some((index + 1, text.find('^')? + 1));
        let (line, column) = marked.lines().enumerate().find_map(place).unwrap_or_else(|| panic!("no mark: {to}"));
        let (field, message) = (complete(field, &folder), complete(message, &folder));
        std::fs::write(&file, marked.replace('^', "")).unwrap();

        let output = validate(&file, &[]);
        let separator = if field.is_empty() { "" } else { ": " };
        let wanted = format!("{}:{line}:{column}: {field}{separator}{message}\n", file.display());
        assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), (&*wanted, Some(2)));
        assert!(output.stdout.is_empty(), "an error is no result: {to}");

        let output = validate(&file, &["-o", "json"]);
        let problem = json!({"file": file, "line": line, "column": column, "path": field, "message": message});
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report, json!({"valid": false, "problems": [problem]}));
        assert_eq!(output.status.code(), Some(2));
        assert!(!envoy_accepts(&file) || message.contains("is not implemented"), "Envoy accepts {to}");
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn envoy_accepts(file: &Path) -> bool {
    let mut command = Command::new(peers::envoy());
    let output = command.args(["--mode", "validate", "-l", "off", "-c"]).arg(file).output().expect("Envoy runs");
    output.status.success()
}

/// A file has many faults: all are told at once.
#[test]
fn all_faults_at_once() {
    let folder = scratch("validate-all");
    let file = folder.join("config.yaml");
    let text = complete(GOOD, &folder).replace("stat_prefix", "stat_prefx").replace("5s", "5");
    std::fs::write(&file, text).unwrap();
    let output = validate(&file, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.lines().count() == 2 && errors.contains("stat_prefx") && errors.contains("timeout"), "{errors}");
    let missing = validate(&folder.join("none.yaml"), &[]);
    let error = String::from_utf8_lossy(&missing.stderr);
    assert!(error.contains("none.yaml cannot be read: No such file"), "{error}");
    assert!(!missing.status.success());
    let _ = std::fs::remove_dir_all(&folder);
}
