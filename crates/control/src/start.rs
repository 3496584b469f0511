//! Starting and ending a control plane.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use identity::tls::{ClientAuth, ClientTrust, ServerTls, TlsError, server_config};
use identity::{Authority, Rotation, SpiffeId};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{Admin, Files};
use crate::ca::service::CertificateService;
use crate::ca::token::{TokenError, Tokens};
use crate::ca::{self, StateError};
use crate::options::{Options, Plain, PlainError};
use crate::registry::Registry;
use crate::sources::files::{Look, ReadError, Reader, Reading, Watch};
use crate::sources::intake::{Change, Intake, Outcome};
use crate::store::{Store, StoreError};
use crate::translate::World;
use crate::xds::hub::{Hub, wait_for_stop};
use crate::xds::server::{self, TlsConfig};

/// The control plane's own names.
const NAMESPACE: &str = "ripstop-system";
const ACCOUNT: &str = "control";
const HOSTS: [&str; 3] = ["localhost", "ripstop-control", "127.0.0.1"];
/// How long streams get to end by themselves.
const GRACE: Duration = Duration::from_millis(300);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Plain(#[from] PlainError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("nothing to serve: give an address to listen on, with TLS or without")]
    NoListener,
}

pub struct Control;

/// A running control plane; it ends with [`Handle::shutdown`] or when this is dropped.
pub struct Handle {
    listen: Option<SocketAddr>,
    plaintext: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Control {
    /// Returns when everything listens and the configuration has been read.
    pub async fn start(options: Options) -> Result<Handle, StartError> {
        if options.listen.is_none() && options.listen_plaintext.is_none() {
            return Err(StartError::NoListener);
        }
        create_private(&options.state)?;
        let authority = Arc::new(ca::authority(&options.state, &options.trust_domain)?);
        let tokens = Arc::new(Tokens::load(&options.state)?);
        let (mut mesh, reader) = Mesh::open(&options)?;
        let (stop, stopping) = watch::channel(false);
        let hub = Arc::new(Hub::new(mesh.world(), authority.clone(), stopping.clone()));
        let certificates = CertificateService { authority: authority.clone(), tokens };
        let files = mesh.files.clone();
        let mut handle = Handle { listen: None, plaintext: None, admin: None, stop, tasks: JoinSet::new() };

        if let Some(address) = options.listen {
            let listener = bind(address).await?;
            handle.listen = listener.local_addr().ok();
            let (tls, rotation) = own_tls(&authority)?;
            let tls: TlsConfig = Arc::new(Mutex::new(tls));
            handle.tasks.spawn(renew(authority, tls.clone(), rotation, stopping.clone()));
            let (sender, receiver) = mpsc::channel(64);
            handle.tasks.spawn(server::accept_tls(listener, tls, sender));
            handle.tasks.spawn(server::run(receiver, hub.clone(), certificates.clone(), stopping.clone()));
        }
        if let Some(plain) = &options.listen_plaintext {
            plain.check()?;
            let (sender, receiver) = mpsc::channel(64);
            match plain {
                Plain::Tcp(address) => {
                    let listener = bind(*address).await?;
                    handle.plaintext = listener.local_addr().ok();
                    handle.tasks.spawn(server::accept_tcp(listener, sender));
                }
                Plain::Unix(path) => drop(handle.tasks.spawn(server::accept_unix(bind_unix(path)?, sender))),
            }
            handle.tasks.spawn(server::run(receiver, hub.clone(), certificates, stopping.clone()));
        }
        if let Some(address) = options.admin {
            let listener = bind(address).await?;
            handle.admin = listener.local_addr().ok();
            let admin = Arc::new(Admin { hub: hub.clone(), files });
            let answer = move |request, _| {
                let admin = admin.clone();
                async move { admin.answer(&request) }
            };
            handle.tasks.spawn(runtime::http::serve(listener, answer));
        }
        handle.tasks.spawn(async move { mesh.follow(reader, &hub, stopping).await });
        Ok(handle)
    }
}

impl Handle {
    /// Where xDS over TLS is served.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Where xDS without TLS is served, if over TCP.
    pub fn listen_plaintext(&self) -> Option<SocketAddr> {
        self.plaintext
    }

    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Ends all streams, then everything else.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let drain = async { while self.tasks.join_next().await.is_some() {} };
        // The admin server never ends by itself; the others may hang on a client that does not go.
        let _ = tokio::time::timeout(GRACE, drain).await;
        self.tasks.shutdown().await;
    }
}

/// The files and what was made of them.
struct Mesh {
    options: Options,
    store: Arc<Store>,
    intake: Intake,
    files: Arc<Files>,
}

impl Mesh {
    fn open(options: &Options) -> Result<(Self, Reader), StartError> {
        let store = Arc::new(Store::open(&options.state.join("store.redb"))?);
        let saved = store.load()?;
        let mut intake = Intake::new(format!("{}/", options.config.display()));
        intake.restore(saved.texts, saved.revision);
        let mut mesh = Self { options: options.clone(), store, intake, files: Arc::default() };
        let mut reader = Reader::new(&mesh.options.config, mesh.intake.files().keys().cloned());
        let outcome = mesh.intake.apply(&reader.all()?);
        mesh.report(&outcome);
        mesh.save(&outcome)?;
        Ok((mesh, reader))
    }

    fn world(&self) -> World {
        let registry = Registry::build(self.intake.objects(), &self.options.trust_domain, None);
        self.files.update(&self.intake, &registry);
        World::new(registry, self.intake.revision())
    }

    /// The world after `change`.
    fn next(&self, world: &World, change: &Change) -> World {
        let revision = self.intake.revision();
        if let Some((registry, changed)) = world.registry.follow(change) {
            return world.followed_by(registry, revision, changed);
        }
        let registry = Registry::build(self.intake.objects(), &self.options.trust_domain, Some(&world.registry));
        world.replaced_by(registry, revision)
    }

    /// Reads again whenever something may have changed, until the end.
    async fn follow(&mut self, mut reader: Reader, hub: &Hub, stop: watch::Receiver<bool>) {
        let mut watch = Watch::start(&self.options.config);
        let mut stopped = std::pin::pin!(wait_for_stop(stop));
        loop {
            let look = tokio::select! {
                look = watch.changed() => look,
                () = &mut stopped => return,
            };
            let read = tokio::task::spawn_blocking(move || {
                let reading = match &look {
                    Look::All => reader.all(),
                    Look::Some(names) => Ok(reader.some(names)),
                };
                (reader, reading)
            });
            let Ok((returned, reading)) = read.await else { return };
            reader = returned;
            match reading {
                Ok(reading) => self.take(&reading, hub),
                // A directory that is away for a moment is no reason to forget what was in it.
                Err(error) => tracing::warn!(%error, "keeping the last good configuration"),
            }
        }
    }

    fn take(&mut self, reading: &Reading, hub: &Hub) {
        let before = self.errors();
        let outcome = self.intake.apply(reading);
        self.report(&outcome);
        if outcome.changed() {
            let world = self.next(&hub.world(), &outcome.change);
            tracing::info!(revision = world.revision, "publishing the mesh");
            hub.publish(world);
        }
        if outcome.changed() || self.errors() != before {
            self.files.update(&self.intake, &hub.world().registry);
        }
        if let Err(error) = self.save(&outcome) {
            tracing::error!(%error, "the accepted configuration is in force but would not outlive a restart");
        }
    }

    fn errors(&self) -> Vec<Option<String>> {
        self.intake.files().values().map(|file| file.error.as_ref().map(ToString::to_string)).collect()
    }

    fn report(&self, outcome: &Outcome) {
        for error in &outcome.refused {
            for line in error.to_string().lines() {
                tracing::error!("{line}");
            }
            tracing::error!("{} is rejected; what it said before stays in force", error.file);
        }
    }

    fn save(&self, outcome: &Outcome) -> Result<(), StoreError> {
        if !outcome.changed() {
            return Ok(());
        }
        let texts = outcome.accepted.iter().filter_map(|file| {
            let text = self.intake.files().get(file)?.accepted.as_deref()?;
            Some((file.as_str(), text))
        });
        self.store.save(&texts.collect::<Vec<_>>(), &outcome.removed, self.intake.revision())
    }
}

/// The control plane's own certificate, and when to renew it.
fn own_tls(authority: &Authority) -> Result<(Arc<rustls::ServerConfig>, Rotation), StartError> {
    let id = SpiffeId::workload(authority.trust_domain(), NAMESPACE, ACCOUNT).map_err(StateError::from)?;
    let (pair, svid) = ca::issue_pair(authority, &id, &HOSTS)?;
    let trust = ClientTrust { ca_pem: Some(authority.root_pem().to_owned()), ..ClientTrust::default() };
    let tls = ServerTls {
        certs: vec![pair],
        // A workload without a certificate comes to get its first one.
        client: ClientAuth::Optional(trust),
        alpn: vec![b"h2".to_vec()],
        ..ServerTls::default()
    };
    Ok((server_config(&tls)?, Rotation::new(svid.not_before, svid.not_after, 0.5)))
}

async fn renew(authority: Arc<Authority>, tls: TlsConfig, mut rotation: Rotation, stop: watch::Receiver<bool>) {
    let mut stopped = std::pin::pin!(wait_for_stop(stop));
    loop {
        tokio::select! {
            () = tokio::time::sleep(rotation.wait(SystemTime::now())) => {}
            () = &mut stopped => return,
        }
        match own_tls(&authority) {
            Ok((config, next)) => {
                *tls.lock().unwrap_or_else(PoisonError::into_inner) = config;
                rotation = next;
            }
            Err(error) => {
                tracing::error!(%error, "cannot renew the control plane's own certificate");
                rotation.failed(SystemTime::now(), 0.5);
            }
        }
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address: address.to_string(), source })
}

/// A socket file left behind by a process that is gone is replaced; a live one is not.
fn bind_unix(path: &Path) -> Result<UnixListener, StartError> {
    let fault = |source| StartError::Listen { address: format!("unix:{}", path.display()), source };
    if path.exists() {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(fault(std::io::ErrorKind::AddrInUse.into())),
            Err(_) => std::fs::remove_file(path).map_err(fault)?,
        }
    }
    let listener = UnixListener::bind(path).map_err(fault)?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fault)?;
    Ok(listener)
}

fn create_private(dir: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| StateError::Io { path: dir.to_path_buf(), source }.into())
}
