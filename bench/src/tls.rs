//! One certificate authority for a run, as files for the proxies and as a client's configuration for the load.

use crate::load::ClientTls;
use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name in the servers' certificate.
pub const SERVER_NAME: &str = "backend.test";

/// PEM files. Both sides of a mesh hop show the same certificate: what counts is that both have one.
#[derive(Clone)]
pub struct Files {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificate and key in one file, as HAProxy wants it.
    pub both: PathBuf,
}

/// Makes an authority and a certificate, ECDSA with P-256.
pub fn make(folder: &Path) -> anyhow::Result<Files> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key)?.pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec![SERVER_NAME.into()])?;
    // OpenSSL takes a certificate that is named as its issuer for a self-signed one.
    leaf.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    let leaf = leaf.signed_by(&key, &issuer)?.pem();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        anyhow::Ok(path)
    };
    Ok(Files {
        authority: write("authority.pem", root)?,
        certificate: write("certificate.pem", leaf.clone())?,
        key: write("key.pem", key.serialize_pem())?,
        both: write("both.pem", leaf + &key.serialize_pem())?,
    })
}

/// The load's side: TLS 1.3 with AES-128-GCM and X25519 only, so that all proxies do the same work.
pub fn client(files: &Files, alpn: &str, resume: bool) -> anyhow::Result<Arc<ClientTls>> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.authority)?)?;
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.into()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(ClientTls { config: Arc::new(config), name: SERVER_NAME.try_into()?, resume }))
}
