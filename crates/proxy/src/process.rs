//! A running proxy: start-up in order, then reacting to everything that changes its configuration, then draining.
//!
//! Order of start: static configuration and DNS, the identity agent, the control plane (or what an earlier run
//! kept), and only then the listeners go live.

use crate::admin::Admin;
use crate::agent::{self, Secrets};
use crate::core::{Configuration, Core, Lifecycle};
use crate::dns;
use crate::health::{Health, Report};
use crate::overload;
use crate::publish::Publisher;
use crate::telemetry::Registry;
use crate::xds;
use model::Address;
use model::cluster::Discovery;
use model::endpoint::Assignment;
use runtime::http::Request;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, mpsc};
use wire::compile::bootstrap::Bootstrap;
use wire::resources::Resources;

/// Listeners wait this long for names to be resolved and for the control plane's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
const FIRST_NAMES: Duration = Duration::from_secs(5);
const FIRST_CHECKS: Duration = Duration::from_secs(15);
/// How often files behind certificates and resources are looked at.
const LOOK: Duration = Duration::from_secs(1);

pub struct Options {
    pub concurrency: usize,
    /// Most time for connections to finish after a request to stop.
    pub drain: Duration,
    pub agent: Option<agent::Settings>,
    /// Where to keep what was accepted, for a start without the control plane.
    pub state: Option<PathBuf>,
    pub command_line: Vec<(String, String)>,
    /// Gives unused memory back to the system.
    pub shrink: overload::Shrink,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("workers cannot be started: {0}")]
    Workers(std::io::Error),
    #[error("the admin address {address} cannot be used: {error}")]
    Admin { address: Address, error: std::io::Error },
    #[error("{0}")]
    Listen(#[from] crate::publish::ListenError),
    #[error("identity: {0}")]
    Identity(String),
}

/// Runs until `stop` is ready, then drains.
pub async fn run(bootstrap: Bootstrap, options: Options, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let started = Instant::now();
    for note in &bootstrap.without_effect {
        tracing::info!("accepted without effect: {note}");
    }
    let registry: Arc<Registry> = Arc::default();
    let publisher = Publisher::start(options.concurrency, registry.clone()).map_err(StartError::Workers)?;
    let last_good = options.state.as_ref().map(|dir| dir.join("last-good.bin"));
    if let Some(dir) = &options.state {
        // Not being able to keep state is reported when something is kept.
        let _ = std::fs::create_dir_all(dir);
    }
    let resources = Resources::new(&bootstrap);
    let (reports, checks) = mpsc::unbounded_channel();
    let health = Health::new(registry.clone(), reports);
    let core = Arc::new(Mutex::new(Core::new(resources, publisher, health, bootstrap.raw.clone(), last_good)));
    let lifecycle: Arc<Lifecycle> = Arc::default();
    let quit: Arc<Notify> = Arc::default();
    let figures = overload::Figures::default();
    let admin = Admin {
        core: core.clone(),
        registry,
        lifecycle: lifecycle.clone(),
        started,
        concurrency: options.concurrency,
        command_line: options.command_line.clone(),
        quit: quit.clone(),
        overload: figures.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    serve_admin(&bootstrap, admin, &mut tasks).await?;
    let process = Process(Configuration { core: core.clone(), lifecycle: lifecycle.clone() });
    if let Some(config) = bootstrap.overload.clone() {
        let mut manager = overload::Manager::new(config, figures, options.shrink, options.concurrency.max(1));
        manager.look(&process.0, true).await;
        tasks.spawn(manager.run(process.0.clone()));
    }
    process.start(bootstrap, &options, checks, &mut tasks).await?;
    // Reading a configuration takes much more than keeping it.
    (options.shrink)();
    let quit = quit.notified();
    tokio::pin!(stop, quit);
    tokio::select! {
        () = stop => {}
        () = &mut quit => {}
    }
    tracing::info!("draining");
    lifecycle.set_draining();
    let mut core = core.lock().await;
    core.publisher.drain(options.drain).await;
    core.publisher.stop();
    tasks.shutdown().await;
    Ok(())
}

async fn serve_admin(
    bootstrap: &Bootstrap,
    admin: Admin,
    tasks: &mut tokio::task::JoinSet<()>,
) -> Result<(), StartError> {
    let Some(address) = &bootstrap.admin else { return Ok(()) };
    let wrong = |error| StartError::Admin { address: address.clone(), error };
    let Some(tcp) = address.tcp() else {
        return Err(wrong(std::io::Error::other("only TCP addresses are implemented for admin")));
    };
    let listener = TcpListener::bind(tcp).await.map_err(wrong)?;
    let admin = Arc::new(admin);
    tasks.spawn(runtime::http::serve(listener, move |request: Request, _| {
        let admin = admin.clone();
        async move { admin.answer(request).await }
    }));
    Ok(())
}

/// Start-up and what follows it.
struct Process(Configuration);

impl Process {
    async fn start(
        &self,
        bootstrap: Bootstrap,
        options: &Options,
        mut checks: mpsc::UnboundedReceiver<Report>,
        tasks: &mut tokio::task::JoinSet<()>,
    ) -> Result<(), StartError> {
        let (names, mut resolved) = mpsc::channel(16);
        let mut resolvers = Resolvers { running: HashMap::new(), names };
        let expected = resolvers.follow(&self.0.core.lock().await.resources_snapshot());
        self.first_names(expected, &mut resolved).await;
        let mut secrets = self.start_agent(options, tasks);
        if let Some(secrets) = &mut secrets {
            self.first_secrets(secrets).await;
        }
        let has_control_plane = bootstrap.dynamic.ads.is_some();
        let mut first = xds::start(self.0.clone(), &bootstrap, options.agent.is_some(), tasks).await;
        let answered = has_control_plane && self.first_answer(&mut first).await;
        self.first_checks(&mut checks).await;
        let errors = {
            let mut core = self.0.core.lock().await;
            let errors = core.publish();
            if answered {
                core.save();
            }
            errors
        };
        let fixed = |name: &str| bootstrap.listeners.iter().any(|listener| *listener.value.name == *name);
        if let Some(error) = errors.into_iter().find(|error| fixed(&error.listener)) {
            // As with Envoy, a static listener that cannot listen ends the start.
            return Err(error.into());
        }
        self.0.lifecycle.set_live();
        let following = Process(self.0.clone());
        tasks.spawn(async move { following.follow(resolvers, resolved, secrets, checks).await });
        Ok(())
    }

    /// Waits for the names of static clusters, within reason.
    async fn first_names(&self, expected: usize, resolved: &mut mpsc::Receiver<(Arc<str>, Assignment)>) {
        let wait = async {
            for _ in 0..expected {
                if let Some((cluster, assignment)) = resolved.recv().await {
                    self.0.core.lock().await.set_resolved(&cluster, assignment);
                }
            }
        };
        let _ = tokio::time::timeout(FIRST_NAMES, wait).await;
    }

    /// Waits until every endpoint with health checks has had its first, within reason.
    async fn first_checks(&self, checks: &mut mpsc::UnboundedReceiver<Report>) {
        let mut pending = self.0.core.lock().await.start_checks();
        let wait = async {
            while pending && let Some(report) = checks.recv().await {
                pending = self.0.core.lock().await.note_health(report);
            }
        };
        if tokio::time::timeout(FIRST_CHECKS, wait).await.is_err() {
            tracing::warn!("some endpoint's first health check takes long; going on without its result");
        }
    }

    fn start_agent(&self, options: &Options, tasks: &mut tokio::task::JoinSet<()>) -> Option<mpsc::Receiver<Secrets>> {
        let settings = options.agent.clone()?;
        let (publish, secrets) = mpsc::channel(1);
        tasks.spawn(async move {
            if let Err(reason) = agent::run(settings, publish).await {
                tracing::error!(reason, "the identity agent has stopped");
            }
        });
        Some(secrets)
    }

    async fn first_secrets(&self, secrets: &mut mpsc::Receiver<Secrets>) {
        match tokio::time::timeout(FIRST_ANSWER, secrets.recv()).await {
            Ok(Some(first)) => self.0.core.lock().await.set_local_secrets(first),
            _ => tracing::warn!("no certificate yet; going on without one"),
        }
    }

    /// Waits for the control plane's first complete answer; without one, what an earlier run kept counts. True when it
    /// came.
    async fn first_answer(&self, first: &mut xds::FirstAnswer) -> bool {
        let patience = if self.0.core.lock().await.has_last_good() { FIRST_ANSWER / 5 } else { FIRST_ANSWER };
        if tokio::time::timeout(patience, first.arrived()).await.is_ok() {
            return true;
        }
        if self.0.core.lock().await.restore() {
            tracing::warn!("the control plane does not answer; starting with the last good configuration");
        } else {
            tracing::warn!("the control plane does not answer; starting with the static configuration");
        }
        false
    }

    async fn follow(
        self,
        mut resolvers: Resolvers,
        mut resolved: mpsc::Receiver<(Arc<str>, Assignment)>,
        mut secrets: Option<mpsc::Receiver<Secrets>>,
        mut checks: mpsc::UnboundedReceiver<Report>,
    ) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stamps = HashMap::new();
        loop {
            tokio::select! {
                Some((cluster, assignment)) = resolved.recv() => {
                    self.0.core.lock().await.set_resolved(&cluster, assignment);
                    self.0.publish().await;
                }
                Some(fresh) = next_secrets(&mut secrets) => {
                    self.0.core.lock().await.set_local_secrets(fresh);
                    self.0.publish().await;
                }
                Some(report) = checks.recv() => {
                    self.0.core.lock().await.note_health(report);
                }
                _ = looks.tick() => {
                    let mut core = self.0.core.lock().await;
                    let snapshot = core.publisher.current().clone();
                    resolvers.follow(&snapshot);
                    if crate::tls::files::changed(&snapshot, &mut stamps) {
                        tracing::info!("certificate files changed");
                        core.publisher.renew_tls();
                    }
                }
            }
        }
    }
}

async fn next_secrets(secrets: &mut Option<mpsc::Receiver<Secrets>>) -> Option<Secrets> {
    match secrets {
        Some(secrets) => secrets.recv().await,
        None => std::future::pending().await,
    }
}

/// One task per cluster whose endpoints are names.
struct Resolvers {
    running: HashMap<Arc<str>, (u64, tokio::task::JoinHandle<()>)>,
    names: mpsc::Sender<(Arc<str>, Assignment)>,
}

impl Resolvers {
    /// Starts and stops tasks so that they fit the snapshot; returns how many were started that the start waits for.
    fn follow(&mut self, snapshot: &model::Snapshot) -> usize {
        self.running.retain(|name, (hash, task)| {
            let stays = snapshot.clusters.get(name).is_some_and(|cluster| cluster.hash == *hash);
            if !stays {
                task.abort();
            }
            stays
        });
        let mut started = 0;
        for (name, cluster) in &snapshot.clusters {
            let Some((assignment, options)) = cluster.discovery.dns() else { continue };
            if self.running.contains_key(name) {
                continue;
            }
            started += usize::from(options.wait_at_start);
            let logical = matches!(cluster.discovery, Discovery::LogicalDns { .. });
            let names = dns::Names::new(name.clone(), assignment.clone(), options.clone(), logical);
            let task = tokio::spawn(names.keep_resolving(self.names.clone()));
            self.running.insert(name.clone(), (cluster.hash, task));
        }
        started
    }
}
