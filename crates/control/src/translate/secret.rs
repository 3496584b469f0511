//! Key and certificate for real Envoys on this machine. Ripstop proxies make their own keys and never ask.

use wire::pb::envoy::config::core::v3::{DataSource, data_source};
use wire::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use wire::pb::envoy::extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate};
use wire::xds::server::{Kind, Resource, Snapshot};

/// The workload's own certificate; Istio's name for it.
pub const CERTIFICATE: &str = "default";
/// The mesh's trust bundle; Istio's name for it.
pub const ROOT: &str = "ROOTCA";

#[derive(Clone, PartialEq)]
pub struct Secrets {
    /// Chain and key; absent for a client that is no workload.
    pub certificate: Option<(String, String)>,
    pub root_pem: String,
}

pub(super) fn add(secrets: &Secrets, snapshot: &mut Snapshot) {
    let root = CertificateValidationContext {
        trusted_ca: Some(inline(&secrets.root_pem)),
        ..CertificateValidationContext::default()
    };
    insert(ROOT, Type::ValidationContext(root), snapshot);
    if let Some((chain, key)) = &secrets.certificate {
        let certificate = TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..TlsCertificate::default()
        };
        insert(CERTIFICATE, Type::TlsCertificate(certificate), snapshot);
    }
}

fn insert(name: &str, content: Type, snapshot: &mut Snapshot) {
    let secret = Secret { name: name.to_owned(), r#type: Some(content) };
    snapshot.insert(Kind::Secret, Resource::encode(name, &secret));
}

fn inline(pem: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(pem.to_owned())), ..DataSource::default() }
}
