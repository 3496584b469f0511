//! TLS on both sides: filter chains by server name and ALPN, client certificates, verified upstreams; as Envoy does.

use crate::support::{BOTH, Kind, Proxy, cluster, indent};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tests::backend::{Backend, Log};
use tests::process::scratch;

pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `name`, and for `spiffe://test/<name>`: PEM and DER, and its key.
    pub(crate) fn issue(&self, name: &str) -> (String, CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.subject_alt_names.push(SanType::URI(format!("spiffe://test/{name}").try_into().unwrap()));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), certificate.der().clone(), key)
    }

    pub(crate) fn write(&self, folder: &Path, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let (pem, der, key) = self.issue(name);
        std::fs::write(folder.join(format!("{name}.pem")), pem).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        (der, key)
    }
}

/// Who a client claims to be.
type Identity = Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>;

/// What became of one request: the certificate that was shown and the answer's status line and body, or nothing.
fn visit(port: u16, trusted: &Authority, name: &str, alpn: &[&[u8]], identity: &Identity) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let server = ServerName::try_from(name.to_string()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), server).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut tls = rustls::Stream::new(&mut connection, &mut stream);
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    // A refusal may come with the first read: in TLS 1.3 the client's certificate goes last.
    let outcome = tls.write_all(request.as_bytes()).and_then(|()| tls.read_to_end(&mut answer).map(|_| ()));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if outcome.is_err() && answer.is_empty() {
        return "refused".into();
    }
    let status = answer.lines().next().unwrap_or_default().to_string();
    let body = answer.rsplit("\r\n").next().unwrap_or_default();
    let alpn = connection.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned());
    format!("{status} {body} {alpn:?}")
}

pub(crate) fn chain(matches: &str, certificate: &str, more: &str, to: &str) -> String {
    format!(
        "- filter_chain_match: {{ {matches} }}\n  transport_socket:\n    name: tls\n    typed_config:\n      \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n{}      common_tls_context:\n        \
         alpn_protocols: [http/1.1]\n        tls_certificates: [{{ certificate_chain: {{ filename: \"{{FOLDER}}/{certificate}.pem\" }}, \
         private_key: {{ filename: \"{{FOLDER}}/{certificate}.key\" }} }}]\n{}  filters:\n  - name: http\n    typed_config:\n      \"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n      \
         stat_prefix: test\n      http_filters: [{{ name: envoy.filters.http.router, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}]\n      route_config: {{ virtual_hosts: [{{ \
         name: all, domains: ['*'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: {to} }} }}] }}] }}\n",
        if more.is_empty() { "" } else { "      require_client_certificate: true\n" },
        indent(more, 8),
    )
}

pub(crate) fn listener(chains: &str, clusters: &str) -> String {
    format!(
        "admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\nstatic_resources:\n  \
         listeners:\n  - name: test\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{PORT}} }} }}\n    \
         listener_filters: [{{ name: tls, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }} }}]\n    filter_chains:\n{}  clusters:\n{}",
        indent(chains, 4),
        indent(clusters, 2)
    )
}

#[test]
fn chains_by_name_alpn_and_client() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backends = ["one", "two", "three"].map(|name| (name, Backend::start(name, &log)));
    let clusters: String = backends.iter().map(|(name, backend)| cluster(name, backend.port, "")).collect();
    let (ours, strangers) = (Authority::new(), Authority::new());
    let trust = "validation_context: { trusted_ca: { filename: \"{FOLDER}/ca.pem\" } }";
    let chains = chain("server_names: [a.test]", "a.test", "", "one")
        + &chain("server_names: ['*.wild.test']", "x.wild.test", "", "two")
        + &chain("server_names: [b.test]", "b.test", trust, "three")
        + &chain("server_names: [a.test], application_protocols: [special]", "a.test", "", "two");
    let config = listener(&chains, &clusters);
    let folders = BOTH.map(|kind| scratch(&format!("tls-{kind:?}")));
    for folder in &folders {
        std::fs::write(folder.join("ca.pem"), ours.0.pem()).unwrap();
        for name in ["a.test", "x.wild.test", "b.test"] {
            ours.write(folder, name);
        }
    }
    let identity = |authority: &Authority| -> Identity {
        let (_, der, key) = authority.issue("client.test");
        Some((der, PrivateKeyDer::try_from(key.serialize_der()).unwrap()))
    };
    let (known, stranger) = (identity(&ours), identity(&strangers));
    let cases: [(&str, &[&[u8]], &Identity, &str); 10] = [
        ("a.test", &[], &None, "200 OK one"),
        ("a.test", &[b"http/1.1"], &None, "200 OK one"),
        ("a.test", &[b"special"], &None, ""),
        ("x.wild.test", &[], &None, "200 OK two"),
        ("y.wild.test", &[], &None, "refused"),
        ("unknown.test", &[], &None, "refused"),
        ("b.test", &[], &known, "200 OK three"),
        ("b.test", &[], &None, "refused"),
        ("b.test", &[], &stranger, "refused"),
        ("A.TEST", &[], &None, "200 OK one"),
    ];
    let [envoy, ours_proxy] = [0, 1].map(|index| Proxy::start_in(BOTH[index], &folders[index], &config, &[]));
    for (name, alpn, identity, wanted) in cases {
        let theirs = visit(envoy.port, &ours, name, alpn, identity);
        let mine = visit(ours_proxy.port, &ours, name, alpn, identity);
        assert_eq!(mine, theirs, "{name} {alpn:?}: ours is on the left, Envoy's on the right");
        assert!(mine.contains(wanted), "{name} {alpn:?}: {mine}");
    }
}

fn upstream(authority: &str, sni: &str, san: &str) -> String {
    let san = match san {
        "" => String::new(),
        name => format!(", match_typed_subject_alt_names: [{{ san_type: DNS, matcher: {{ exact: {name} }} }}]"),
    };
    format!(
        "transport_socket:\n  name: tls\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n    sni: {sni}\n    \
         common_tls_context: {{ validation_context: {{ trusted_ca: {{ filename: \"{{FOLDER}}/{authority}.pem\" }}{san} }} }}\n"
    )
}

/// A proxy with TLS in front of the backend is the upstream of the proxy under test.
#[test]
fn upstreams_are_verified() {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = Backend::start("one", &log);
    let (ours, strangers) = (Authority::new(), Authority::new());
    let front = scratch("tls-front");
    ours.write(&front, "a.test");
    let chains = chain("server_names: [a.test]", "a.test", "", "one");
    let server = Proxy::start_in(Kind::Ripstop, &front, &listener(&chains, &cluster("one", backend.port, "")), &[]);
    let reach =
        |name: &str, authority: &str, sni: &str, san: &str| cluster(name, server.port, &upstream(authority, sni, san));
    let clusters = reach("good", "ca", "a.test", "a.test")
        + &reach("any", "ca", "a.test", "")
        + &reach("othername", "ca", "a.test", "b.test")
        + &reach("othersni", "ca", "b.test", "")
        + &reach("stranger", "stranger", "a.test", "a.test");
    let routes: String = ["good", "any", "othername", "othersni", "stranger"]
        .map(|name| format!("- {{ match: {{ prefix: /{name} }}, route: {{ cluster: {name} }} }}\n"))
        .concat();
    let answers = BOTH.map(|kind| {
        let folder = scratch(&format!("tls-up-{kind:?}"));
        std::fs::write(folder.join("ca.pem"), ours.0.pem()).unwrap();
        std::fs::write(folder.join("stranger.pem"), strangers.0.pem()).unwrap();
        let proxy = Proxy::start_in(kind, &folder, &crate::support::http("", &routes, &clusters), &[]);
        ["good", "any", "othername", "othersni", "stranger"].map(|name| {
            let raw = format!("GET /{name} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            tests::client::exchange(proxy.port, raw.as_bytes(), 1)[0].status
        })
    });
    assert_eq!(answers[1], [200, 200, 503, 503, 503]);
    assert_eq!(answers[0], answers[1], "Envoy's is on the left");
}
