//! The certificate authority: a root, and SVIDs issued from the public key of a request.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use crate::spiffe::SpiffeId;

/// Clocks of machines in one mesh differ by less than this.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("the CA certificate cannot be used: {0}")]
    BadRoot(String),
    #[error("the certificate request is refused: {0}")]
    BadRequest(String),
    #[error("{id} is outside of this authority's trust domain {trust_domain}")]
    WrongTrustDomain { id: SpiffeId, trust_domain: String },
    #[error("the CA certificate has expired or does so before a new certificate would be valid")]
    RootExpired,
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

/// An issued certificate: leaf first, then the root, as Istio's CA answers.
#[derive(Debug, Clone)]
pub struct Svid {
    pub id: SpiffeId,
    pub leaf_pem: String,
    pub root_pem: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Svid {
    pub fn chain_pem(&self) -> String {
        format!("{}{}", self.leaf_pem, self.root_pem)
    }
}

/// Signs SVIDs of one trust domain.
pub struct Authority {
    trust_domain: String,
    root_pem: String,
    key_pem: String,
    not_after: SystemTime,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Authority {
    /// A self-signed root whose only name is the trust domain.
    pub fn create(trust_domain: &str, lifetime: Duration, now: SystemTime) -> Result<Self, CaError> {
        let id = SpiffeId::parse(&format!("spiffe://{trust_domain}")).map_err(|e| CaError::BadRoot(e.to_string()))?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        params.distinguished_name.push(DnType::CommonName, format!("Ripstop root of {trust_domain}"));
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + lifetime).into();
        let root_pem = params.self_signed(&key)?.pem();
        Self::load(trust_domain, &root_pem, &key.serialize_pem())
    }

    /// An authority from the user's own files, or from what [`Authority::create`] made earlier.
    pub fn load(trust_domain: &str, root_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let bad = |what: String| CaError::BadRoot(what);
        let key = KeyPair::from_pem(key_pem).map_err(|e| bad(format!("its private key is unreadable: {e}")))?;
        let der = rustls_pki_types::CertificateDer::from_pem_slice(root_pem.as_bytes())
            .map_err(|e| bad(format!("it is not PEM: {e}")))?;
        let (_, root) = X509Certificate::from_der(&der).map_err(|e| bad(format!("it is not X.509: {e}")))?;
        if !root.is_ca() {
            return Err(bad("its basic constraints do not say CA:TRUE".into()));
        }
        if root.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(bad("the private key does not belong to it".into()));
        }
        check_root_trust_domain(&root, trust_domain)?;
        let not_after = timestamp(root.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| bad(e.to_string()))?;
        Ok(Self {
            trust_domain: trust_domain.into(),
            root_pem: root_pem.into(),
            key_pem: key_pem.into(),
            not_after,
            issuer,
        })
    }

    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// What relying parties trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// For the store only.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// An SVID for a workload: of the request only the public key counts, once its signature proves possession.
    pub fn issue(&self, csr_pem: &str, id: &SpiffeId, ttl: Duration, now: SystemTime) -> Result<Svid, CaError> {
        self.issue_with_hosts(csr_pem, id, &[], ttl, now)
    }

    /// As [`Authority::issue`], with DNS names and IP addresses for clients that check a host name.
    pub fn issue_with_hosts(
        &self,
        csr_pem: &str,
        id: &SpiffeId,
        hosts: &[&str],
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Svid, CaError> {
        if id.trust_domain() != self.trust_domain {
            return Err(CaError::WrongTrustDomain { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        let public_key = verified_public_key(csr_pem)?;
        let not_before = now - CLOCK_SKEW;
        let not_after = (now + ttl).min(self.not_after);
        if not_after <= now {
            return Err(CaError::RootExpired);
        }
        let mut params = svid_params(id, hosts)?;
        params.serial_number = Some(random_serial()?);
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        let leaf_pem = params.signed_by(&public_key, &self.issuer)?.pem();
        Ok(Svid { id: id.clone(), leaf_pem, root_pem: self.root_pem.clone(), not_before, not_after })
    }
}

/// A root that names a trust domain must name ours; one without any name is the user's own decision.
fn check_root_trust_domain(root: &X509Certificate<'_>, trust_domain: &str) -> Result<(), CaError> {
    let names = crate::names::names_of(root);
    match names.uris.iter().find(|uri| uri.starts_with("spiffe://")) {
        Some(uri) if *uri != format!("spiffe://{trust_domain}") => {
            Err(CaError::BadRoot(format!("it belongs to {uri}, not to the trust domain {trust_domain}")))
        }
        _ => Ok(()),
    }
}

fn svid_params(id: &SpiffeId, hosts: &[&str]) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName((*host).try_into()?),
        });
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CaError::Sign(rcgen::Error::RingUnspecified))?;
    bytes[0] &= 0x7f; // positive, as RFC 5280 wants it
    Ok(SerialNumber::from_slice(&bytes))
}

/// The request's key, after the request's own signature has proved that the sender holds it.
fn verified_public_key(csr_pem: &str) -> Result<SubjectPublicKeyInfo, CaError> {
    let bad = |what: String| CaError::BadRequest(what);
    let der = CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map_err(|e| bad(format!("it is not a PEM \"CERTIFICATE REQUEST\": {e}")))?;
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|e| bad(format!("it is not PKCS #10: {e}")))?;
    if !rest.is_empty() {
        return Err(bad("bytes follow the request".into()));
    }
    csr.verify_signature().map_err(|_| bad("its signature does not match its public key".into()))?;
    let spki = &csr.certification_request_info.subject_pki;
    let key = SubjectPublicKeyInfo::from_der(spki.raw).map_err(|e| bad(format!("its key is of no known kind: {e}")))?;
    if key.algorithm() == &rcgen::PKCS_RSA_SHA256 && spki.parsed().is_ok_and(|k| k.key_size() < 2048) {
        return Err(bad("its RSA key is shorter than 2048 bits".into()));
    }
    Ok(key)
}

fn timestamp(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs())
}
