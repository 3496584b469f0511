//! Builds the TLS configurations of a snapshot: once, on the main thread, for all workers.
//!
//! Equal settings with equal secrets share one `rustls` configuration, so that a thousand clusters of one mesh
//! cost one.

use super::{ClientTls, ClientTransport, ServerTransport};
use identity::tls as id;
use model::Snapshot;
use model::tls::{CertificateSource, CommonTls, DataSource, Secret, ServerTls, Validation};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The transports of every listener's chains (the default chain last) and of every cluster.
#[derive(Default)]
pub struct Transports {
    pub servers: HashMap<Arc<str>, Vec<ServerTransport>>,
    pub clients: HashMap<Arc<str>, Arc<Vec<ClientTransport>>>,
}

/// Keeps what was built as long as it is used.
#[derive(Default)]
pub struct Preparer {
    servers: HashMap<u64, ServerTransport>,
    clients: HashMap<u64, ClientTransport>,
}

impl Preparer {
    pub fn prepare(&mut self, snapshot: &Snapshot) -> Transports {
        let old = std::mem::take(self);
        let mut transports = Transports::default();
        for (name, listener) in &snapshot.listeners {
            let chains = listener.chains.iter().chain(&listener.default_chain);
            let built = chains.map(|chain| match &chain.tls {
                None => ServerTransport::Plain,
                Some(tls) => self.server(&old, tls, snapshot),
            });
            transports.servers.insert(name.clone(), built.collect());
        }
        let plain = Arc::new(vec![ClientTransport::Plain]);
        for (name, cluster) in &snapshot.clusters {
            if cluster.tls.is_none() && cluster.tls_matches.is_empty() {
                transports.clients.insert(name.clone(), plain.clone());
                continue;
            }
            let own = std::iter::once(cluster.tls.as_ref());
            let matches = cluster.tls_matches.iter().map(|entry| entry.tls.as_ref());
            let built = own.chain(matches).map(|tls| match tls {
                None => ClientTransport::Plain,
                Some(tls) => self.client(&old, tls, snapshot),
            });
            transports.clients.insert(name.clone(), Arc::new(built.collect()));
        }
        transports
    }

    pub(super) fn server(&mut self, old: &Preparer, tls: &ServerTls, snapshot: &Snapshot) -> ServerTransport {
        let material = match Material::resolve(&tls.common, snapshot) {
            Ok(material) => material,
            Err(reason) => return ServerTransport::Broken(reason.into()),
        };
        let key = material.key(&(tls.require_client_certificate, "server"));
        let transport =
            old.servers.get(&key).cloned().unwrap_or_else(|| match id::server_config(&material.server(tls)) {
                Ok(config) => ServerTransport::Tls(Arc::new(super::ServerTls::new(
                    Arc::unwrap_or_clone(config),
                    material.validates(),
                ))),
                Err(error) => ServerTransport::Broken(error.to_string().into()),
            });
        self.servers.insert(key, transport.clone());
        transport
    }

    pub(super) fn client(
        &mut self,
        old: &Preparer,
        tls: &model::tls::ClientTls,
        snapshot: &Snapshot,
    ) -> ClientTransport {
        let material = match Material::resolve(&tls.common, snapshot) {
            Ok(material) => material,
            Err(reason) => return ClientTransport::Broken(reason.into()),
        };
        let key = material.key(&(&tls.sni, tls.auto_host_sni, tls.auto_san_validation, "client"));
        let transport = old.clients.get(&key).cloned().unwrap_or_else(|| match material.client(tls) {
            Ok(config) => ClientTransport::Tls(Arc::new(config)),
            Err(error) => ClientTransport::Broken(error.to_string().into()),
        });
        self.clients.insert(key, transport.clone());
        transport
    }
}

/// A TLS context with its secrets looked up and its files read.
struct Material<'m> {
    common: &'m CommonTls,
    certificates: Vec<id::CertKey>,
    ca: Option<String>,
    crl: Option<String>,
    validation: Option<Validation>,
}

impl<'m> Material<'m> {
    fn resolve(common: &'m CommonTls, snapshot: &Snapshot) -> Result<Self, String> {
        let mut certificates = Vec::new();
        for source in &common.certificates {
            let certificate = match source {
                CertificateSource::Inline(certificate) => certificate,
                CertificateSource::Secret(name) => match snapshot.secrets.get(&**name) {
                    Some(Secret::Certificate(certificate)) => certificate,
                    _ => return Err(format!("SDS secret `{name}` has not arrived or is no certificate")),
                },
            };
            let chain_pem = read(&certificate.chain)?;
            let key_pem = read(&certificate.key)?;
            certificates.push(id::CertKey { chain_pem, key_pem });
        }
        let validation = common.validation.as_ref().map(|given| combine(given, snapshot)).transpose()?;
        let trust = validation.as_ref();
        Ok(Material {
            common,
            certificates,
            ca: trust.and_then(|v| v.trusted_ca.as_ref()).map(read).transpose()?,
            crl: trust.and_then(|v| v.crl.as_ref()).map(read).transpose()?,
            validation,
        })
    }

    /// Identifies the resolved context.
    fn key(&self, extra: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        extra.hash(&mut hasher);
        for certificate in &self.certificates {
            (&certificate.chain_pem, &certificate.key_pem).hash(&mut hasher);
        }
        (&self.ca, &self.crl, &self.common.alpn).hash(&mut hasher);
        let names = self.validation.as_ref().map(|v| format!("{:?} {}", v.names, v.accept_untrusted));
        names.hash(&mut hasher);
        format!("{:?}{:?}", self.common.min_version, self.common.max_version).hash(&mut hasher);
        hasher.finish()
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        self.common.alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    fn server(&self, tls: &ServerTls) -> id::ServerTls {
        let trust = || id::ClientTrust {
            ca_pem: self.ca.clone().filter(|_| !self.accepts_untrusted()),
            crl_pem: self.crl.clone(),
            names: self.validation.as_ref().map(|v| v.names.clone()).unwrap_or_default(),
        };
        let client = match (&self.validation, tls.require_client_certificate) {
            (_, true) => id::ClientAuth::Required(trust()),
            (Some(_), false) => id::ClientAuth::Optional(trust()),
            (None, false) => id::ClientAuth::None,
        };
        // A resumed session would skip the check of the client's certificate.
        let resumption = matches!(client, id::ClientAuth::None);
        id::ServerTls {
            certs: self.certificates.clone(),
            client,
            alpn: self.alpn(),
            min_version: self.common.min_version,
            max_version: self.common.max_version,
            resumption,
        }
    }

    fn validates(&self) -> bool {
        self.ca.is_some() && !self.accepts_untrusted()
    }

    fn accepts_untrusted(&self) -> bool {
        self.validation.as_ref().is_some_and(|v| v.accept_untrusted)
    }

    fn client(&self, tls: &model::tls::ClientTls) -> Result<ClientTls, id::TlsError> {
        let verify = match (&self.ca, &self.validation) {
            (Some(ca_pem), Some(validation)) if !validation.accept_untrusted => id::Verify::Ca {
                ca_pem: ca_pem.clone(),
                names: validation.names.clone(),
                server_name: tls.auto_san_validation,
            },
            _ => id::Verify::None,
        };
        let base = id::ClientTls {
            cert: self.certificates.first().cloned(),
            verify,
            alpn: self.alpn(),
            min_version: self.common.min_version,
            max_version: self.common.max_version,
            send_sni: !tls.sni.is_empty() || tls.auto_host_sni,
        };
        build(&base, &tls.sni, tls.auto_host_sni)
    }
}

/// One configuration per ALPN offer; a context that names protocols keeps its own.
fn build(base: &id::ClientTls, sni: &str, auto_host_sni: bool) -> Result<ClientTls, id::TlsError> {
    let mut as_configured = Arc::unwrap_or_clone(id::client_config(base)?);
    as_configured.enable_secret_extraction = true;
    let as_configured = Arc::new(as_configured);
    let offering = |alpn: &[&[u8]]| {
        let mut config = (*as_configured).clone();
        if base.alpn.is_empty() {
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        }
        Arc::new(config)
    };
    Ok(ClientTls {
        http1: offering(&[b"http/1.1"]),
        http2: offering(&[b"h2"]),
        either: offering(&[b"h2", b"http/1.1"]),
        as_configured,
        sni: sni.into(),
        auto_host_sni,
    })
}

/// A transport for a connection that no cluster describes.
pub fn client_transport(tls: &id::ClientTls) -> Result<ClientTransport, id::TlsError> {
    build(tls, "", false).map(|tls| ClientTransport::Tls(Arc::new(tls)))
}

/// The configured validation with what its SDS secret adds.
fn combine(given: &Validation, snapshot: &Snapshot) -> Result<Validation, String> {
    let mut combined = given.clone();
    let Some(name) = &given.secret else { return Ok(combined) };
    match snapshot.secrets.get(&**name) {
        Some(Secret::Validation(dynamic)) => {
            if dynamic.trusted_ca.is_some() {
                combined.trusted_ca.clone_from(&dynamic.trusted_ca);
            }
            if dynamic.crl.is_some() {
                combined.crl.clone_from(&dynamic.crl);
            }
            combined.names.extend(dynamic.names.iter().cloned());
            combined.accept_untrusted |= dynamic.accept_untrusted;
            Ok(combined)
        }
        _ => Err(format!("SDS secret `{name}` has not arrived or is no validation context")),
    }
}

/// PEM from where it is kept.
pub(super) fn read(source: &DataSource) -> Result<String, String> {
    match source {
        DataSource::Inline(bytes) => {
            String::from_utf8(bytes.to_vec()).map_err(|_| "inline PEM is not valid UTF-8".to_string())
        }
        DataSource::File(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
        }
    }
}
