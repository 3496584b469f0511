//! Handshakes in memory: who gets in, who does not, and with what message.

use std::time::{Duration, SystemTime};

use identity::tls::{CertKey, ClientAuth, ClientTls, ClientTrust, ServerTls, Verify, client_config, server_config};
use identity::{Authority, SpiffeId, csr};
use model::matcher::StringMatcher;
use model::tls::{NameKind, NameMatcher, TlsVersion};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::{ClientConnection, ServerConnection};

const DAY: Duration = Duration::from_secs(86_400);

struct Mesh {
    authority: Authority,
}

impl Mesh {
    fn new(trust_domain: &str) -> Self {
        Self { authority: Authority::create(trust_domain, 30 * DAY, SystemTime::now()).unwrap() }
    }

    fn cert(&self, account: &str) -> CertKey {
        self.cert_at(account, SystemTime::now())
    }

    fn cert_at(&self, account: &str, now: SystemTime) -> CertKey {
        self.cert_with_hosts(account, &[], now)
    }

    fn cert_with_hosts(&self, account: &str, hosts: &[&str], now: SystemTime) -> CertKey {
        let id = SpiffeId::workload(self.authority.trust_domain(), "shop", account).unwrap();
        let request = csr::generate(&id).unwrap();
        let svid = self.authority.issue_with_hosts(&request.csr_pem, &id, hosts, DAY, now).unwrap();
        CertKey { chain_pem: svid.chain_pem(), key_pem: request.key_pem }
    }

    /// A certificate of this root with any names: what a careless user's own CA might issue.
    fn cert_with_uris(&self, uris: &[&str]) -> CertKey {
        let root_key = KeyPair::from_pem(self.authority.key_pem()).unwrap();
        let issuer = Issuer::from_ca_cert_pem(self.authority.root_pem(), root_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &issuer).unwrap();
        CertKey { chain_pem: cert.pem(), key_pem: key.serialize_pem() }
    }

    fn ca(&self) -> String {
        self.authority.root_pem().to_owned()
    }

    fn server(&self, account: &str, names: Vec<NameMatcher>) -> ServerTls {
        let trust = ClientTrust { ca_pem: Some(self.ca()), crl_pem: None, names };
        ServerTls { certs: vec![self.cert(account)], client: ClientAuth::Required(trust), ..ServerTls::default() }
    }

    fn client(&self, cert: Option<CertKey>, names: Vec<NameMatcher>) -> ClientTls {
        let verify = Verify::Ca { ca_pem: self.ca(), names, server_name: false };
        ClientTls { cert, verify, send_sni: true, ..ClientTls::default() }
    }
}

fn named(account: &str) -> Vec<NameMatcher> {
    let id = format!("spiffe://cluster.local/ns/shop/sa/{account}");
    vec![NameMatcher { kind: NameKind::Uri, matcher: StringMatcher::exact(&id) }]
}

/// Both ends' verdicts; data crosses in memory until nobody has anything left to say.
fn shake(
    server: &ServerTls,
    client: &ClientTls,
    sni: &str,
) -> (ServerConnection, ClientConnection, Result<(), String>) {
    let name = sni.to_owned().try_into().unwrap();
    let mut server = ServerConnection::new(server_config(server).unwrap()).unwrap();
    let mut client = ClientConnection::new(client_config(client).unwrap(), name).unwrap();
    let mut failure = None;
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        if let Err(e) = server.process_new_packets() {
            failure.get_or_insert(format!("server: {e}"));
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        if let Err(e) = client.process_new_packets() {
            failure.get_or_insert(format!("client: {e}"));
        }
    }
    let outcome = match failure {
        Some(reason) => Err(reason),
        None if server.is_handshaking() || client.is_handshaking() => Err("unfinished".into()),
        None => Ok(()),
    };
    (server, client, outcome)
}

#[test]
fn mutual_tls_verdicts() {
    let (mesh, foreign) = (Mesh::new("cluster.local"), Mesh::new("other.example"));
    let server = mesh.server("orders", named("web"));
    let long_ago = SystemTime::now() - 10 * DAY;
    let both = ["spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/admin"];
    let cases = [
        ("right name", Some(mesh.cert("web")), named("orders"), ""),
        ("no certificate", None, named("orders"), "server: peer sent no certificates"),
        ("wrong client name", Some(mesh.cert("ratings")), named("orders"), "server: invalid peer certificate"),
        ("wrong server name", Some(mesh.cert("web")), named("catalog"), "client: invalid peer certificate"),
        ("foreign trust domain", Some(foreign.cert("web")), named("orders"), "UnknownIssuer"),
        ("expired", Some(mesh.cert_at("web", long_ago)), named("orders"), "certificate expired"),
        ("two URI names", Some(mesh.cert_with_uris(&both)), named("orders"), "SeveralUris"),
    ];
    for (case, cert, names, expected) in cases {
        let outcome = shake(&server, &mesh.client(cert, names), "orders.shop").2;
        match outcome {
            Ok(()) => assert_eq!(expected, "", "{case}: was let in"),
            Err(reason) => {
                assert!(!expected.is_empty() && reason.contains(expected), "{case}: {reason}");
            }
        }
    }
}

#[test]
fn names_are_not_checked_without_matchers_but_the_chain_is() {
    let (mesh, foreign) = (Mesh::new("cluster.local"), Mesh::new("other.example"));
    let server = mesh.server("orders", vec![]);
    assert_eq!(shake(&server, &mesh.client(Some(mesh.cert("anyone")), vec![]), "x").2, Ok(()));
    assert!(shake(&server, &foreign.client(Some(mesh.cert("web")), vec![]), "x").2.is_err());
}

#[test]
fn without_a_ca_anybody_is_let_in_as_envoy_does() {
    let (mesh, foreign) = (Mesh::new("cluster.local"), Mesh::new("other.example"));
    let server = ServerTls {
        certs: vec![mesh.cert("orders")],
        client: ClientAuth::Required(ClientTrust::default()),
        ..ServerTls::default()
    };
    let trusting = ClientTls { cert: Some(foreign.cert("web")), ..ClientTls::default() };
    let (server_end, _, outcome) = shake(&server, &trusting, "x");
    assert_eq!(outcome, Ok(()));
    assert_eq!(server_end.peer_certificates().map(<[_]>::len), Some(2));
    let anonymous = ClientTls::default();
    assert!(shake(&server, &anonymous, "x").2.is_err());
}

#[test]
fn optional_client_certificates_are_verified_when_sent() {
    let (mesh, foreign) = (Mesh::new("cluster.local"), Mesh::new("other.example"));
    let trust = ClientTrust { ca_pem: Some(mesh.ca()), ..ClientTrust::default() };
    let server =
        ServerTls { certs: vec![mesh.cert("control")], client: ClientAuth::Optional(trust), ..ServerTls::default() };
    assert_eq!(shake(&server, &mesh.client(None, vec![]), "x").2, Ok(()));
    assert_eq!(shake(&server, &mesh.client(Some(mesh.cert("web")), vec![]), "x").2, Ok(()));
    assert!(shake(&server, &mesh.client(Some(foreign.cert("web")), vec![]), "x").2.is_err());
}

#[test]
fn sni_chooses_the_certificate_and_the_server_name_can_be_verified() {
    let mesh = Mesh::new("cluster.local");
    let now = SystemTime::now();
    let certs = vec![
        mesh.cert_with_hosts("first", &["first.example"], now),
        mesh.cert_with_hosts("wild", &["*.shop.example"], now),
        mesh.cert_with_hosts("exact", &["b.shop.example"], now),
    ];
    let server = ServerTls { certs, ..ServerTls::default() };
    let mut client = mesh.client(None, vec![]);
    for (sni, account) in [("a.shop.example", "wild"), ("B.shop.example", "exact"), ("elsewhere.test", "first")] {
        let (_, connected, outcome) = shake(&server, &client, sni);
        assert_eq!(outcome, Ok(()), "{sni}");
        let names = identity::peer_names(&connected.peer_certificates().unwrap()[0]).unwrap();
        assert_eq!(names.spiffe_id().unwrap().service_account(), Some(account), "{sni}");
    }
    client.verify = Verify::Ca { ca_pem: mesh.ca(), names: vec![], server_name: true };
    assert_eq!(shake(&server, &client, "a.shop.example").2, Ok(()));
    assert!(shake(&server, &client, "elsewhere.test").2.is_err());
}

#[test]
fn alpn_and_versions_are_negotiated() {
    let mesh = Mesh::new("cluster.local");
    let mut server = mesh.server("orders", vec![]);
    server.alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.max_version = TlsVersion::V1_2;
    let mut client = mesh.client(Some(mesh.cert("web")), vec![]);
    client.alpn = vec![b"http/1.1".to_vec()];
    let (_, connected, outcome) = shake(&server, &client, "x");
    assert_eq!(outcome, Ok(()));
    assert_eq!(connected.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert_eq!(connected.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
    client.min_version = TlsVersion::V1_3;
    assert!(shake(&server, &client, "x").2.is_err());
}

#[test]
fn broken_configurations_say_what_is_wrong() {
    let mesh = Mesh::new("cluster.local");
    let (one, two) = (mesh.cert("a"), mesh.cert("b"));
    let server = |certs| server_config(&ServerTls { certs, ..ServerTls::default() }).map(drop);
    let swapped = CertKey { chain_pem: one.chain_pem.clone(), key_pem: two.key_pem };
    let no_chain = CertKey { chain_pem: "nonsense".into(), key_pem: one.key_pem.clone() };
    for (certs, expected) in [
        (vec![], "no certificate is given"),
        (vec![swapped], "does not fit the certificate"),
        (vec![no_chain], "the certificate chain cannot be read"),
    ] {
        let error = server(certs).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let upside_down =
        ClientTls { min_version: TlsVersion::V1_3, max_version: TlsVersion::V1_2, ..ClientTls::default() };
    assert!(client_config(&upside_down).unwrap_err().to_string().contains("leave nothing to offer"));
}
