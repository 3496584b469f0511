//! The workload's identity: makes a key that never leaves this process, has it certified by the control plane's CA,
//! and renews in time.
//!
//! The protocol is Istio's `istio.v1.auth.IstioCertificateService/CreateCertificate`: a CSR goes out, a chain comes
//! back. The first time a join token authenticates the call, afterwards the SVID itself does.

use crate::grpc::Dialer;
use crate::tls::ClientTransport;
use crate::tls::prepare::client_transport;
use identity::tls::{CertKey, ClientTls, Verify};
use identity::{Rotation, SpiffeId, csr};
use model::Address;
use model::matcher::StringMatcher;
use model::tls::{Certificate, DataSource, NameKind, NameMatcher, Secret, Validation};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// The names under which SDS users find the workload's own certificate and the mesh's trust bundle.
pub const CERTIFICATE: &str = "default";
pub const BUNDLE: &str = "ROOTCA";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_BASE: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct Settings {
    /// The control plane's TLS address.
    pub control: SocketAddr,
    pub identity: SpiffeId,
    /// The mesh's trust bundle, PEM.
    pub ca_file: PathBuf,
    /// A join token; needed until there is a certificate.
    pub token_file: Option<PathBuf>,
    /// Where key and certificate are kept (mode 0600) so that a restart needs no control plane.
    pub state: Option<PathBuf>,
}

/// `istio.v1.auth.IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateRequest {
    #[prost(string, tag = "1")]
    pub csr: String,
    /// Seconds; 0 leaves it to the CA.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
}

/// `istio.v1.auth.IstioCertificateResponse`: PEM, leaf first, root last.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateResponse {
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// Secrets to publish, each time they change.
pub type Secrets = Vec<(Arc<str>, Secret)>;

/// What the agent holds.
#[derive(Clone)]
struct Held {
    pair: CertKey,
    bundle: String,
    rotation: Rotation,
}

/// Runs for ever; sends the secrets whenever they are new. Fails only when the trust bundle cannot be read.
pub async fn run(settings: Settings, publish: mpsc::Sender<Secrets>) -> Result<(), String> {
    let ca_file = &settings.ca_file;
    let bundle =
        std::fs::read_to_string(ca_file).map_err(|error| format!("{}: cannot be read: {error}", ca_file.display()))?;
    let mut held = restore(&settings, &bundle);
    if let Some(held) = &held {
        let _ = publish.send(secrets(held)).await;
    }
    let mut backoff = kit::Backoff::new(RETRY_BASE, RETRY_MAX);
    loop {
        if let Some(held) = &held {
            tokio::time::sleep(held.rotation.wait(SystemTime::now())).await;
        }
        match certify(&settings, held.as_ref(), &bundle).await {
            Ok(fresh) => {
                tracing::info!(identity = %settings.identity, "certificate issued");
                backoff.reset();
                store(&settings, &fresh);
                if publish.send(secrets(&fresh)).await.is_err() {
                    return Ok(());
                }
                held = Some(fresh);
            }
            Err(reason) => {
                tracing::warn!(identity = %settings.identity, control = %settings.control, %reason, "no certificate yet; trying again");
                if let Some(held) = &mut held {
                    held.rotation.failed(SystemTime::now(), fastrand::f64());
                }
                tokio::time::sleep(backoff.next(fastrand::f64().max(0.1))).await;
            }
        }
    }
}

async fn certify(settings: &Settings, held: Option<&Held>, bundle: &str) -> Result<Held, String> {
    let request = csr::generate(&settings.identity).map_err(|error| error.to_string())?;
    let usable = held.filter(|held| !held.rotation.expired(SystemTime::now()));
    let dialer =
        Dialer::new(vec![Address::Tcp(settings.control)], transport(settings, usable, bundle)?, CONNECT_TIMEOUT);
    let mut message = tonic::Request::new(CertificateRequest { csr: request.csr_pem, validity_duration: 0 });
    if usable.is_none() {
        let token = read_token(settings)?;
        let value =
            format!("Bearer {}", token.trim()).parse().map_err(|_| "the join token is not ASCII".to_string())?;
        message.metadata_mut().insert("authorization", value);
    }
    let mut client = tonic::client::Grpc::new(dialer.channel());
    client.ready().await.map_err(|error| format!("cannot reach the control plane: {}", crate::grpc::chain(&error)))?;
    let path = http::uri::PathAndQuery::from_static("/istio.v1.auth.IstioCertificateService/CreateCertificate");
    let codec = tonic_prost::ProstCodec::<CertificateRequest, CertificateResponse>::default();
    let answer = client.unary(message, path, codec).await.map_err(|status| format!("refused: {}", status.message()))?;
    let chain_pem = answer.into_inner().cert_chain;
    let (Some(root), true) = (chain_pem.last(), chain_pem.len() >= 2) else {
        return Err("the control plane's answer lacks a certificate or the root".to_string());
    };
    held_from(chain_pem[..chain_pem.len() - 1].concat(), request.key_pem, merge(bundle, root))
}

/// The configured bundle, with the root the CA sent if it is another one (a rotation).
fn merge(bundle: &str, root: &str) -> String {
    if bundle.contains(root.trim()) { bundle.to_string() } else { format!("{}\n{root}", bundle.trim_end()) }
}

fn held_from(chain_pem: String, key_pem: String, bundle: String) -> Result<Held, String> {
    let (from, until) = validity(&chain_pem)?;
    let rotation = Rotation::new(from, until, fastrand::f64());
    Ok(Held { pair: CertKey { chain_pem, key_pem }, bundle, rotation })
}

fn validity(chain_pem: &str) -> Result<(SystemTime, SystemTime), String> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let leaf = CertificateDer::from_pem_slice(chain_pem.as_bytes()).map_err(|error| error.to_string())?;
    identity::validity(&leaf).map_err(|error| error.to_string())
}

fn read_token(settings: &Settings) -> Result<String, String> {
    let path = settings.token_file.as_ref().ok_or("there is no certificate yet and no join token was given")?;
    std::fs::read_to_string(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}

/// TLS that accepts only the control plane, with the SVID once there is one.
fn transport(settings: &Settings, held: Option<&Held>, bundle: &str) -> Result<ClientTransport, String> {
    let id = format!("spiffe://{}/ns/ripstop-system/sa/control", settings.identity.trust_domain());
    let names = vec![NameMatcher { kind: NameKind::Uri, matcher: StringMatcher::exact(&id) }];
    let tls = ClientTls {
        cert: held.map(|held| held.pair.clone()),
        verify: Verify::Ca { ca_pem: bundle.to_string(), names, server_name: false },
        alpn: vec![b"h2".to_vec()],
        ..ClientTls::default()
    };
    client_transport(&tls).map_err(|error| error.to_string())
}

fn secrets(held: &Held) -> Secrets {
    let inline = |text: &str| DataSource::Inline(text.as_bytes().into());
    let certificate = Certificate { chain: inline(&held.pair.chain_pem), key: inline(&held.pair.key_pem) };
    let validation = Validation { trusted_ca: Some(inline(&held.bundle)), ..Validation::default() };
    vec![
        (CERTIFICATE.into(), Secret::Certificate(Arc::new(certificate))),
        (BUNDLE.into(), Secret::Validation(Arc::new(validation))),
    ]
}

fn restore(settings: &Settings, bundle: &str) -> Option<Held> {
    let state = settings.state.as_ref()?;
    let chain_pem = std::fs::read_to_string(state.join("certificate.pem")).ok()?;
    let key_pem = std::fs::read_to_string(state.join("key.pem")).ok()?;
    let held = held_from(chain_pem, key_pem, bundle.to_string()).ok()?;
    (!held.rotation.expired(SystemTime::now())).then_some(held)
}

/// Without the files the next start needs the control plane; that is worth a warning, not an end.
fn store(settings: &Settings, held: &Held) {
    let Some(state) = &settings.state else { return };
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(state)?;
        write_private(&state.join("key.pem"), held.pair.key_pem.as_bytes())?;
        write_private(&state.join("certificate.pem"), held.pair.chain_pem.as_bytes())
    };
    if let Err(error) = write() {
        tracing::warn!(directory = %state.display(), %error, "the certificate cannot be kept for the next start");
    }
}

/// Replaces `path` in one step; only its owner may read it.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
