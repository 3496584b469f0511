//! How workloads join over TLS, and who is refused.

mod common;

use common::{Channel, Mesh, create, delta_request, open_delta};
use control::ca::service::CertificateRequest;
use identity::tls::CertKey;
use identity::{SpiffeId, csr, peer_names};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::Duration;
use tonic::Code;
use wire::xds::server::Kind;

fn id(account: &str) -> SpiffeId {
    SpiffeId::workload("cluster.local", "default", account).unwrap()
}

const HOUR: Duration = Duration::from_secs(3600);

/// A certificate for `account`, obtained as a proxy does.
async fn join(mesh: &Mesh, account: &str) -> CertKey {
    let request = csr::generate(&id(account)).unwrap();
    let token = control::token(&mesh.state(), &id(account), HOUR).unwrap();
    let channel = mesh.channel(None).await;
    let chain = create(&channel, &request.csr_pem, Some(&token)).await.unwrap();
    CertKey { chain_pem: chain.concat(), key_pem: request.key_pem }
}

#[tokio::test]
async fn a_token_brings_a_certificate_and_that_renews_itself() {
    let mesh = Mesh::start("join").await;
    let pair = join(&mesh, "web").await;
    let names = |pem: &str| peer_names(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    assert_eq!(names(&pair.chain_pem).spiffe_id(), Some(id("web")));

    // Renewal: whatever the request says, the certificate shown decides.
    let channel = mesh.channel(Some(pair)).await;
    let request = csr::generate(&id("admin")).unwrap();
    let chain = create(&channel, &request.csr_pem, None).await.unwrap();
    assert_eq!(names(&chain[0]).spiffe_id(), Some(id("web")));
    assert_eq!(chain.len(), 2, "leaf and root");
    mesh.stop().await;
}

#[tokio::test]
async fn without_token_or_with_a_wrong_one_nobody_joins() {
    let mesh = Mesh::start("refuse").await;
    let other = Mesh::start("refuse-other").await;
    let request = csr::generate(&id("web")).unwrap();
    let foreign = control::token(&other.state(), &id("web"), HOUR).unwrap();
    let outside = SpiffeId::workload("elsewhere.example", "default", "web").unwrap();
    let outside = control::token(&mesh.state(), &outside, HOUR).unwrap();
    let channel = mesh.channel(None).await;
    for (what, token, code) in [
        ("none", None, Code::Unauthenticated),
        ("another mesh's", Some(foreign), Code::Unauthenticated),
        ("another trust domain", Some(outside), Code::InvalidArgument),
    ] {
        let status = create(&channel, &request.csr_pem, token.as_deref()).await.unwrap_err();
        assert_eq!(status.code(), code, "{what}: {status}");
    }
    let token = control::token(&mesh.state(), &id("web"), HOUR).unwrap();
    let status = create(&channel, "nonsense", Some(&token)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    mesh.stop().await;
    other.stop().await;
}

/// Opens a delta stream for `node` and returns the first answer: names and removed names, or the refusal.
async fn ask(channel: &Channel, node: &str, kind: Kind, names: &[&str]) -> Result<(Vec<String>, Vec<String>), Code> {
    let (_requests, mut answers) = open_delta(channel, delta_request(node, kind, names)).await.map_err(|s| s.code())?;
    let answer = answers.message().await.map_err(|status| status.code())?.expect("an answer");
    Ok((answer.resources.into_iter().map(|resource| resource.name).collect(), answer.removed_resources))
}

#[tokio::test]
async fn discovery_is_for_those_whose_workload_it_is() {
    let mesh = Mesh::start("claims").await;
    let anonymous = mesh.channel(None).await;
    assert_eq!(ask(&anonymous, "web-1", Kind::Listener, &["*"]).await, Err(Code::Unauthenticated));
    let web = mesh.channel(Some(join(&mesh, "web").await)).await;
    assert_eq!(ask(&web, "orders-1", Kind::Listener, &["*"]).await, Err(Code::PermissionDenied));
    let listeners = (vec!["outbound|9200".to_owned()], vec![]);
    assert_eq!(ask(&web, "web-1", Kind::Listener, &["*"]).await, Ok(listeners));
    mesh.stop().await;
}

#[tokio::test]
async fn keys_are_never_sent_over_the_network_listener() {
    let mesh = Mesh::start("secrets").await;
    let web = mesh.channel(Some(join(&mesh, "web").await)).await;
    let nothing = (vec![], vec!["ROOTCA".to_owned(), "default".to_owned()]);
    assert_eq!(ask(&web, "web-1", Kind::Secret, &["default", "ROOTCA"]).await, Ok(nothing));
    let local = mesh.local_channel().await;
    let both = (vec!["ROOTCA".to_owned(), "default".to_owned()], vec![]);
    assert_eq!(ask(&local, "web-1", Kind::Secret, &["default", "ROOTCA"]).await, Ok(both));
    mesh.stop().await;
}

#[test]
fn messages_are_istios() {
    use prost::Message;
    let request = CertificateRequest { csr: "x".into(), validity_duration: 300 };
    assert_eq!(request.encode_to_vec(), [0x0a, 1, b'x', 0x18, 0xac, 0x02]);
}
