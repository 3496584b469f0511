//! rustls configurations with Envoy's meaning: without a trusted CA the peer is not verified, with one its chain is,
//! and names are checked only where matchers are given.
//!
//! The crypto provider is passed explicitly, so nothing has to be installed in a process beforehand.

use std::sync::Arc;

use model::tls::{NameMatcher, TlsVersion};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::names::{dns_covers, peer_names};
use crate::verify::{ClientVerifier, ServerVerifier};

/// A certificate chain, leaf first, with its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct CertKey {
    pub chain_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for CertKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertKey").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

/// `DownstreamTlsContext`, with its secrets resolved.
#[derive(Debug, Clone, Default)]
pub struct ServerTls {
    /// Chosen by the client's SNI against the DNS names; the first is the default.
    pub certs: Vec<CertKey>,
    pub client: ClientAuth,
    pub alpn: Vec<Vec<u8>>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// A resumed session skips the client's certificate check, so refuse it where revocation must bite at once.
    pub resumption: bool,
}

/// What a server asks of its clients.
#[derive(Debug, Clone, Default)]
pub enum ClientAuth {
    #[default]
    None,
    /// Verified when presented.
    Optional(ClientTrust),
    Required(ClientTrust),
}

#[derive(Debug, Clone, Default)]
pub struct ClientTrust {
    /// `None`: a certificate is asked for but not verified, as in Envoy.
    pub ca_pem: Option<String>,
    pub crl_pem: Option<String>,
    /// Any match suffices; empty means any name.
    pub names: Vec<NameMatcher>,
}

/// `UpstreamTlsContext`, with its secrets resolved. The SNI is the caller's, given with each connection.
#[derive(Debug, Clone, Default)]
pub struct ClientTls {
    pub cert: Option<CertKey>,
    pub verify: Verify,
    pub alpn: Vec<Vec<u8>>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// Send the server name (false where the configuration names none).
    pub send_sni: bool,
}

/// What a client asks of the server.
#[derive(Debug, Clone, Default)]
pub enum Verify {
    #[default]
    None,
    Ca {
        ca_pem: String,
        /// Any match suffices; empty means any name.
        names: Vec<NameMatcher>,
        /// Also verify the name that was asked for (`auto_sni_san_validation`).
        server_name: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no certificate is given; a TLS server needs at least one")]
    NoCertificate,
    #[error("{what} cannot be read: {reason}")]
    Unreadable { what: &'static str, reason: String },
    #[error("the private key does not fit the certificate: {0}")]
    Mismatch(rustls::Error),
    #[error("TLS versions from {min:?} to {max:?} leave nothing to offer; TLS 1.2 and 1.3 exist")]
    NoVersion { min: TlsVersion, max: TlsVersion },
    #[error("the TLS configuration is refused: {0}")]
    Refused(#[from] rustls::Error),
}

/// A server's configuration.
pub fn server_config(tls: &ServerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let certificates = Certificates::load(&tls.certs, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions(tls.min_version, tls.max_version)?)?;
    let builder = match &tls.client {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional(trust) => builder.with_client_cert_verifier(client_verifier(trust, false, provider)?),
        ClientAuth::Required(trust) => builder.with_client_cert_verifier(client_verifier(trust, true, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols.clone_from(&tls.alpn);
    if tls.resumption {
        config.session_storage = ServerSessionMemoryCache::new(4096);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// A client's configuration.
pub fn client_config(tls: &ClientTls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let (roots, names, check_server_name) = match &tls.verify {
        Verify::None => (None, Vec::new(), false),
        Verify::Ca { ca_pem, names, server_name } => (Some(roots(ca_pem)?), names.clone(), *server_name),
    };
    let verifier = ServerVerifier { roots, names, check_server_name, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls.min_version, tls.max_version)?)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.cert {
        None => builder.with_no_client_auth(),
        Some(cert) => {
            let (chain, key) = parse(cert)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Mismatch)?
        }
    };
    config.alpn_protocols.clone_from(&tls.alpn);
    config.enable_sni = tls.send_sni;
    config.resumption = Resumption::in_memory_sessions(256);
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn versions(min: TlsVersion, max: TlsVersion) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let low = if min == TlsVersion::Auto { TlsVersion::V1_2 } else { min };
    let high = if max == TlsVersion::Auto { TlsVersion::V1_3 } else { max };
    let known = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    let offered: Vec<_> = known.into_iter().filter(|(v, _)| (low..=high).contains(v)).map(|(_, v)| v).collect();
    if offered.is_empty() { Err(TlsError::NoVersion { min, max }) } else { Ok(offered) }
}

fn client_verifier(
    trust: &ClientTrust,
    mandatory: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let chain = match &trust.ca_pem {
        None => None,
        Some(ca) => {
            let crls = match &trust.crl_pem {
                None => Vec::new(),
                Some(pem) => pem_list::<CertificateRevocationListDer<'static>>(pem, "the revocation list")?,
            };
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca)?, provider.clone())
                .with_crls(crls)
                .build()
                .map_err(|e| TlsError::Unreadable { what: "the revocation list", reason: e.to_string() })?;
            Some(verifier)
        }
    };
    Ok(Arc::new(ClientVerifier { chain, names: trust.names.clone(), mandatory, provider }))
}

fn roots(ca_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let what = "the trusted CA";
    let mut store = RootCertStore::empty();
    for certificate in pem_list::<CertificateDer<'static>>(ca_pem, what)? {
        store.add(certificate).map_err(|e| TlsError::Unreadable { what, reason: e.to_string() })?;
    }
    Ok(Arc::new(store))
}

fn parse(cert: &CertKey) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = pem_list::<CertificateDer<'static>>(&cert.chain_pem, "the certificate chain")?;
    let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes())
        .map_err(|e| TlsError::Unreadable { what: "the private key", reason: e.to_string() })?;
    Ok((chain, key))
}

/// All PEM blocks of one kind; none at all is an error.
fn pem_list<T: PemObject>(pem: &str, what: &'static str) -> Result<Vec<T>, TlsError> {
    let list = T::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<T>, _>>()
        .map_err(|e| TlsError::Unreadable { what, reason: e.to_string() })?;
    if list.is_empty() {
        return Err(TlsError::Unreadable { what, reason: "it holds no PEM block of the right kind".into() });
    }
    Ok(list)
}

/// The server's certificates with their DNS names; the first answers clients whose SNI fits none.
#[derive(Debug)]
struct Certificates(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl Certificates {
    fn load(certs: &[CertKey], provider: &CryptoProvider) -> Result<Self, TlsError> {
        if certs.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let load = |cert| {
            let (chain, key) = parse(cert)?;
            let names = peer_names(&chain[0])
                .map_err(|e| TlsError::Unreadable { what: "the certificate", reason: e.to_string() })?;
            let key = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Mismatch)?;
            Ok((names.dns, Arc::new(key)))
        };
        certs.iter().map(load).collect::<Result<_, _>>().map(Self)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = hello.server_name().and_then(|sni| {
            // An exact name wins over a wildcard.
            let exact = self.0.iter().find(|(names, _)| names.iter().any(|name| name.eq_ignore_ascii_case(sni)));
            exact.or_else(|| self.0.iter().find(|(names, _)| names.iter().any(|name| dns_covers(name, sni))))
        });
        chosen.or_else(|| self.0.first()).map(|(_, key)| key.clone())
    }
}
