//! A private key and the request to have it certified. The key never leaves the process that made it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};

use crate::spiffe::SpiffeId;

/// A fresh P-256 key (PKCS #8) and its PKCS #10 request.
#[derive(Clone)]
pub struct KeyAndCsr {
    pub key_pem: String,
    pub csr_pem: String,
}

// Not derived: a key must not reach a log.
impl std::fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyAndCsr").field("csr_pem", &self.csr_pem).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot make a key and a certificate request for {id}: {source}")]
pub struct CsrError {
    id: SpiffeId,
    source: rcgen::Error,
}

/// The request names `id` for readers of logs only: an authority takes the identity from whom it authenticated.
pub fn generate(id: &SpiffeId) -> Result<KeyAndCsr, CsrError> {
    build(id).map_err(|source| CsrError { id: id.clone(), source })
}

fn build(id: &SpiffeId) -> Result<KeyAndCsr, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    let csr_pem = params.serialize_request(&key)?.pem()?;
    Ok(KeyAndCsr { key_pem: key.serialize_pem(), csr_pem })
}
