//! What the authority signs and what it refuses.

use std::time::{Duration, SystemTime};

use identity::{Authority, CaError, SpiffeId, csr, peer_names};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3600);

fn authority() -> Authority {
    Authority::create("cluster.local", DAY, SystemTime::now()).unwrap()
}

fn web() -> SpiffeId {
    SpiffeId::workload("cluster.local", "shop", "web").unwrap()
}

#[test]
fn an_svid_has_one_uri_both_usages_and_starts_a_minute_back() {
    let now = SystemTime::now();
    let request = csr::generate(&web()).unwrap();
    let svid = authority().issue(&request.csr_pem, &web(), HOUR, now).unwrap();
    assert_eq!(svid.not_before, now - Duration::from_secs(60));
    assert_eq!(svid.not_after, now + HOUR);

    let der = CertificateDer::from_pem_slice(svid.leaf_pem.as_bytes()).unwrap();
    let names = peer_names(&der).unwrap();
    assert_eq!(names.uris, ["spiffe://cluster.local/ns/shop/sa/web"]);
    assert_eq!(names.spiffe_id(), Some(web()));
    assert!(names.dns.is_empty());
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    assert!(!leaf.is_ca());
}

#[test]
fn the_request_decides_nothing_but_the_key() {
    // A request that asks to be a CA for somebody else, with an extension nobody knows.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["bank.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://cluster.local/ns/shop/sa/admin".try_into().unwrap()));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();

    let svid = authority().issue(&csr, &web(), HOUR, SystemTime::now()).unwrap();
    let der = CertificateDer::from_pem_slice(svid.leaf_pem.as_bytes()).unwrap();
    let names = peer_names(&der).unwrap();
    assert_eq!((names.uris.as_slice(), names.dns.len()), ([web().to_string()].as_slice(), 0));
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), key.public_key_raw());
}

#[test]
fn bad_requests_are_refused() {
    let good = csr::generate(&web()).unwrap().csr_pem;
    // Swap the last bytes of the signature: possession of the key is no longer proved.
    let mut lines: Vec<String> = good.lines().map(str::to_owned).collect();
    let last = lines.len() - 2;
    lines[last] = lines[last].chars().rev().collect();
    for (what, csr) in [("tampered", lines.join("\n")), ("empty", String::new()), ("not a request", web().to_string())]
    {
        let error = authority().issue(&csr, &web(), HOUR, SystemTime::now()).unwrap_err();
        assert!(matches!(error, CaError::BadRequest(_)), "{what}: {error}");
    }
}

#[test]
fn other_trust_domains_are_refused() {
    let id = SpiffeId::workload("other.example", "shop", "web").unwrap();
    let request = csr::generate(&id).unwrap();
    let error = authority().issue(&request.csr_pem, &id, HOUR, SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("outside of this authority's trust domain cluster.local"), "{error}");
}

#[test]
fn nothing_outlives_the_root() {
    let now = SystemTime::now();
    let root = Authority::create("cluster.local", HOUR, now).unwrap();
    let request = csr::generate(&web()).unwrap();
    let svid = root.issue(&request.csr_pem, &web(), DAY, now).unwrap();
    assert!(svid.not_after <= now + HOUR);
    let late = root.issue(&request.csr_pem, &web(), DAY, now + DAY).unwrap_err();
    assert!(matches!(late, CaError::RootExpired));
}

#[test]
fn a_root_loads_again_and_only_with_its_own_key() {
    let (one, two) = (authority(), authority());
    let again = Authority::load("cluster.local", one.root_pem(), one.key_pem()).unwrap();
    assert_eq!(again.root_pem(), one.root_pem());
    for (domain, cert, key) in [
        ("cluster.local", one.root_pem(), two.key_pem()),
        ("other.example", one.root_pem(), one.key_pem()),
        ("cluster.local", "nonsense", one.key_pem()),
    ] {
        assert!(matches!(Authority::load(domain, cert, key), Err(CaError::BadRoot(_))));
    }
    let request = csr::generate(&web()).unwrap();
    let leaf = one.issue(&request.csr_pem, &web(), HOUR, SystemTime::now()).unwrap();
    let error = Authority::load("cluster.local", &leaf.leaf_pem, &request.key_pem).unwrap_err();
    assert!(error.to_string().contains("CA:TRUE"), "{error}");
}
