//! Load told from proxy to proxy: no application sees it.

use crate::support::{Kind, Proxy, cluster, http};
use crate::tls::{Authority, chain, listener};
use std::sync::{Arc, Mutex};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::process::scratch;

const ADAPTIVE: &str = "load_balancing_policy: { policies: [{ typed_extension_config: { name: ripstop.dev/adaptive, \
    typed_config: { \"@type\": type.googleapis.com/google.protobuf.Struct, value: {} } } }] }\n";

fn tls(folder: &str, certificate: bool) -> String {
    let own = format!(
        "tls_certificates: [{{ certificate_chain: {{ filename: \"{folder}/b.test.pem\" }}, private_key: {{ filename: \
         \"{folder}/b.test.key\" }} }}], "
    );
    let own = if certificate { own.as_str() } else { "" };
    format!(
        "transport_socket: {{ name: tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: a.test, \
         common_tls_context: {{ {own}validation_context: {{ trusted_ca: {{ filename: \"{folder}/ca.pem\" }} }} }} }} }}\n"
    )
}

#[test]
fn peers_tell_their_load_and_nobody_else_sees_it() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("app", &log);
    let authority = Authority::new();
    let folder = scratch("load-server");
    std::fs::write(folder.join("ca.pem"), authority.0.pem()).unwrap();
    authority.write(&folder, "a.test");
    authority.write(&folder, "b.test");
    let trust = "validation_context: { trusted_ca: { filename: \"{FOLDER}/ca.pem\" } }";
    // Clients may show a certificate.
    let chains = chain("", "a.test", trust, "app")
        .replace("require_client_certificate: true", "require_client_certificate: false");
    let config = listener(&chains, &cluster("app", backend.port, ""));
    let server = Proxy::start_in(Kind::Ripstop, &folder, &config, &[]);
    let at = folder.display().to_string();
    let clusters = cluster("known", server.port, &(ADAPTIVE.to_string() + &tls(&at, true)))
        + &cluster("stranger", server.port, &(ADAPTIVE.to_string() + &tls(&at, false)))
        + &cluster("plain", server.port, &tls(&at, true));
    let route = |name: &str| format!("- {{ match: {{ path: /{name} }}, route: {{ cluster: {name} }} }}\n");
    let routes: String = ["known", "stranger", "plain"].map(route).concat();
    let client = Proxy::start(Kind::Ripstop, "load-client", &http("", &routes, &clusters));
    let visit = |path: &str, header: &str| {
        log.lock().unwrap().clear();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: a.test\r\n{header}\r\n");
        let answer = exchange(client.port, request.as_bytes(), 1).remove(0);
        assert_eq!(answer.status, 200, "{path}");
        let find = |headers: &[(String, String)]| {
            headers.iter().find(|(name, _)| name == "x-ripstop-load").map(|(_, value)| value.clone())
        };
        let seen = log.lock().unwrap().remove(0);
        (find(&answer.headers), find(&seen.headers))
    };
    assert_eq!(visit("known", ""), (None, None), "asked, answered, and taken out on both sides");
    // A server that does not know the client does not answer: the question is to be seen.
    assert_eq!(visit("stranger", ""), (None, Some("?".into())));
    // Where the client's proxy does not ask, its application may, and gets the answer.
    assert_eq!(visit("plain", "x-ripstop-load: ?\r\n"), (Some("1".into()), None));
}
