//! Peer verification: the chain through webpki, then the names through our own matchers.
//!
//! webpki does not know URI names as identities, so a workload's SPIFFE ID is matched here. Signatures of the
//! handshake are always checked, also where the chain is not: encryption without proof of the key is worth nothing.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use model::tls::NameMatcher;

use crate::names::{PeerNames, matches, peer_names};

#[derive(Debug, thiserror::Error)]
enum NameError {
    #[error("the peer's certificate names {uris:?}: an SVID has exactly one URI name")]
    SeveralUris { uris: Vec<String> },
    #[error("the peer's certificate names {presented:?}, none of which is allowed here")]
    NotAllowed { presented: Vec<String> },
}

/// Checks names after the chain has been found good. No matchers means that any name will do.
fn check_names(certificate: &CertificateDer<'_>, allowed: &[NameMatcher]) -> Result<(), Error> {
    let names = peer_names(certificate).map_err(|_| CertificateError::BadEncoding)?;
    if names.uris.len() > 1 && names.uris.iter().any(|uri| uri.starts_with("spiffe://")) {
        return Err(refuse(NameError::SeveralUris { uris: names.uris }));
    }
    if allowed.is_empty() || allowed.iter().any(|matcher| matches(matcher, &names)) {
        return Ok(());
    }
    Err(refuse(NameError::NotAllowed { presented: presented(names) }))
}

fn presented(names: PeerNames) -> Vec<String> {
    let ips = names.ips.iter().map(ToString::to_string);
    names.uris.into_iter().chain(names.dns).chain(ips).chain(names.emails).collect()
}

fn refuse(reason: NameError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// How a client judges the server.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    /// `None`: nobody said whom to trust, so anybody is, as in Envoy.
    pub(crate) roots: Option<Arc<RootCertStore>>,
    pub(crate) names: Vec<NameMatcher>,
    /// Also require the certificate to be for the name that was asked for (`auto_sni_san_validation`).
    pub(crate) check_server_name: bool,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
            check_names(end_entity, &self.names)?;
            if self.check_server_name {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// How a server judges the client.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    /// Chain and revocation through webpki; `None` accepts any chain.
    pub(crate) chain: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) names: Vec<NameMatcher>,
    pub(crate) mandatory: bool,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
            check_names(end_entity, &self.names)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
