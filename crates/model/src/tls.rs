//! TLS as configured: what to present, whom to trust. Keys and certificates are resolved into the snapshot
//! (from files, inline data or SDS) before workers see it; this crate only carries the bytes.

use crate::matcher::StringMatcher;
use std::sync::Arc;

/// `DownstreamTlsContext`.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub common: CommonTls,
    pub require_client_certificate: bool,
}

/// `UpstreamTlsContext`.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub common: CommonTls,
    /// Server name to send; empty means none.
    pub sni: Box<str>,
    /// Send the request's host as SNI (`auto_host_sni`).
    pub auto_host_sni: bool,
    /// Verify the certificate against the SNI (`auto_sni_san_validation`).
    pub auto_san_validation: bool,
}

#[derive(Clone, Debug, Default)]
pub struct CommonTls {
    pub certificates: Vec<CertificateSource>,
    pub validation: Option<Validation>,
    /// In order of preference, e.g. `h2`, `http/1.1`.
    pub alpn: Vec<Box<str>>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    #[default]
    Auto,
    V1_2,
    V1_3,
}

/// A certificate named by SDS or given in place.
#[derive(Clone, Debug)]
pub enum CertificateSource {
    Inline(Arc<Certificate>),
    /// An SDS secret's name; looked up in `Snapshot::secrets`.
    Secret(Box<str>),
}

/// PEM bytes, or the files they come from (re-read when they change).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub chain: DataSource,
    pub key: DataSource,
}

#[derive(Clone, PartialEq, Eq)]
pub enum DataSource {
    Inline(Arc<[u8]>),
    File(std::path::PathBuf),
}

/// Keys must not reach logs by way of `{:?}`.
impl std::fmt::Debug for DataSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DataSource::Inline(bytes) => write!(f, "inline ({} bytes)", bytes.len()),
            DataSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `CertificateValidationContext`: from the configuration, from SDS, or both (`combined_validation_context`).
#[derive(Clone, Debug, Default)]
pub struct Validation {
    pub trusted_ca: Option<DataSource>,
    pub crl: Option<DataSource>,
    /// Any match suffices; empty means names are not checked.
    pub names: Vec<NameMatcher>,
    /// SDS secret that supplies (or overrides) the fields above.
    pub secret: Option<Box<str>>,
    /// `trust_chain_verification: ACCEPT_UNTRUSTED`.
    pub accept_untrusted: bool,
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, Debug)]
pub struct NameMatcher {
    pub kind: NameKind,
    pub matcher: StringMatcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    Any,
    Dns,
    Uri,
    Ip,
    Email,
}

/// An SDS secret (`extensions.transport_sockets.tls.v3.Secret`).
#[derive(Clone, Debug)]
pub enum Secret {
    Certificate(Arc<Certificate>),
    Validation(Arc<Validation>),
}
