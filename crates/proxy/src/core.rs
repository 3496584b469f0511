//! The configuration side of a proxy: what was accepted, what of it is published, and how far start-up has come.

use crate::agent::Secrets;
use crate::health::{Effect, Health, Report};
use crate::publish::Publisher;
use crate::state::adopt::{discovered, dns_key, settled_key};
use model::Snapshot;
use model::endpoint::Assignment;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use tokio::sync::Mutex;
use wire::resources::Resources;
use wire::schema::Schema;

/// Initializing, live, draining; and how the control plane fares.
#[derive(Default)]
pub struct Lifecycle {
    state: AtomicU8,
    connected: AtomicBool,
    accepted: AtomicU64,
    rejected: AtomicU64,
}

impl Lifecycle {
    /// Envoy's words.
    pub fn state(&self) -> &'static str {
        match self.state.load(Ordering::Relaxed) {
            0 => "INITIALIZING",
            1 => "LIVE",
            _ => "DRAINING",
        }
    }

    pub fn set_live(&self) {
        // Draining is final.
        let _ = self.state.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub fn set_draining(&self) {
        self.state.store(2, Ordering::Relaxed);
    }

    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    pub fn count(&self, accepted: bool) {
        let counter = if accepted { &self.accepted } else { &self.rejected };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything that changes the configuration comes together here.
#[derive(Clone)]
pub(crate) struct Configuration {
    pub(crate) core: Arc<Mutex<Core>>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

impl Configuration {
    /// Publishes after a change, once the start-up is over.
    pub(crate) async fn publish(&self) {
        let mut core = self.core.lock().await;
        if self.lifecycle.state() == "LIVE" {
            core.publish();
            core.save();
        }
    }
}

pub struct Core {
    pub resources: Resources,
    pub publisher: Publisher,
    bootstrap: Vec<u8>,
    resolved: BTreeMap<Arc<str>, Arc<Assignment>>,
    health: Health,
    /// Where what was accepted is kept for a start without the control plane.
    last_good: Option<PathBuf>,
}

impl Core {
    pub fn new(
        resources: Resources,
        mut publisher: Publisher,
        health: Health,
        bootstrap: Vec<u8>,
        last_good: Option<PathBuf>,
    ) -> Self {
        publisher.set_reports(health.reports());
        Core { resources, publisher, health, bootstrap, resolved: BTreeMap::new(), last_good }
    }

    pub fn bootstrap_bytes(&self) -> &[u8] {
        &self.bootstrap
    }

    /// Secrets this process makes itself.
    pub fn set_local_secrets(&mut self, secrets: Secrets) {
        self.resources.provide(secrets);
    }

    pub fn set_resolved(&mut self, cluster: &str, assignment: Assignment) {
        self.resolved.insert(dns_key(cluster), Arc::new(assignment));
    }

    /// Publishes what is complete. Listeners that cannot bind are reported and tried again with the next change.
    pub fn publish(&mut self) -> Vec<crate::publish::ListenError> {
        let snapshot = self.resources.snapshot();
        let snapshot = self.complete(&snapshot);
        let snapshot = self.settle(snapshot);
        let errors = self.publisher.publish(&snapshot);
        self.health.follow(&snapshot, self.publisher.transports());
        self.publisher.set_health(self.health.table().clone());
        self.publisher.answered(self.resources.take_answered());
        for error in &errors {
            tracing::error!("{error}");
        }
        errors
    }

    /// Starts the health checks of what is to be published; true when some endpoint has no result yet.
    pub fn start_checks(&mut self) -> bool {
        let snapshot = self.complete_snapshot();
        let transports = self.publisher.prepare(&snapshot);
        self.health.follow(&snapshot, &transports);
        self.publisher.set_health(self.health.table().clone());
        self.health.pending()
    }

    /// Takes over what a health check found; true while some endpoint has no result yet.
    pub fn note_health(&mut self, report: Report) -> bool {
        match self.health.note(report) {
            Effect::Nothing => {}
            Effect::Health => self.publisher.publish_health(self.health.table().clone()),
            Effect::Membership => {
                self.publish();
            }
        }
        self.health.pending()
    }

    /// Adds the endpoints that discovery dropped and that are still well.
    fn settle(&mut self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        self.health.prune(&snapshot);
        let mut kept = Vec::new();
        for (name, cluster) in snapshot.clusters.iter().filter(|(_, cluster)| cluster.health_check.is_some()) {
            let fresh = discovered(&snapshot, cluster);
            let settled = fresh.and_then(|fresh| self.health.settle(cluster, &fresh));
            kept.extend(settled.map(|settled| (settled_key(name), settled)));
        }
        if kept.is_empty() {
            return snapshot;
        }
        let mut full = (*snapshot).clone();
        full.assignments.extend(kept);
        Arc::new(full)
    }

    /// The snapshot with what this process adds to it.
    fn complete(&self, snapshot: &Arc<Snapshot>) -> Arc<Snapshot> {
        if self.resolved.is_empty() {
            return snapshot.clone();
        }
        let mut full = (**snapshot).clone();
        full.assignments.extend(self.resolved.iter().map(|(name, assignment)| (name.clone(), assignment.clone())));
        Arc::new(full)
    }

    /// What the bootstrap and the control plane gave so far.
    pub fn resources_snapshot(&mut self) -> Arc<Snapshot> {
        self.resources.snapshot()
    }

    /// The same with what this process adds: names resolved, secrets made.
    pub fn complete_snapshot(&mut self) -> Arc<Snapshot> {
        let snapshot = self.resources.snapshot();
        self.complete(&snapshot)
    }

    pub fn has_last_good(&self) -> bool {
        self.last_good.as_ref().is_some_and(|path| path.exists())
    }

    /// Keeps what was accepted; a full disk must not stop traffic.
    pub fn save(&self) {
        let Some(path) = &self.last_good else { return };
        if let Err(error) = crate::agent::write_private(path, &self.resources.export()) {
            tracing::warn!(file = %path.display(), %error, "the last good configuration cannot be kept");
        }
    }

    /// Accepts what an earlier run kept; true when there was something.
    pub fn restore(&mut self) -> bool {
        let Some(bytes) = self.last_good.as_ref().and_then(|path| std::fs::read(path).ok()) else { return false };
        match self.resources.import(&bytes) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the kept configuration cannot be used; waiting for the control plane");
                false
            }
        }
    }

    /// The accepted dynamic resources of one kind, as `/config_dump` shows them.
    pub fn dump(&self, schema: &Schema, wrap: &str) -> Vec<Value> {
        let kind = match wrap {
            "cluster" => wire::ResourceKind::Cluster,
            "listener" => wire::ResourceKind::Listener,
            "route_config" => wire::ResourceKind::Routes,
            _ => wire::ResourceKind::Endpoints,
        };
        let each = |held: wire::resources::Dumped| {
            let mut value = wire::json::view(schema, kind.message_name(), &held.body);
            redact(&mut value);
            let inner = serde_json::json!({"version_info": held.version, wrap: value});
            match (wrap, held.warming) {
                ("listener", false) => serde_json::json!({"name": &*held.name, "active_state": inner}),
                ("listener", true) => serde_json::json!({"name": &*held.name, "warming_state": inner}),
                _ => inner,
            }
        };
        self.resources.dump(kind).into_iter().map(each).collect()
    }
}

/// Replaces private keys and passwords, wherever they are.
pub(crate) fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if matches!(name.as_str(), "private_key" | "password" | "session_ticket_keys" | "generic_secret") {
                    *field = serde_json::json!({"inline_string": "[redacted]"});
                } else {
                    redact(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}
