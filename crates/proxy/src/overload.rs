//! Watches resources and tells the workers what to shed: new connections and requests first, what is under way never.

use crate::core::Configuration;
use crate::state::shed::{Connections, Shed};
use model::overload::{ActionKind, Monitor, Overload};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Gives unused memory back to the system.
pub type Shrink = fn();

/// A heap is not shrunk more often than this.
const SHRINK_INTERVAL: Duration = Duration::from_secs(10);

/// Pressures and activities for `/stats`, by Envoy's names.
#[derive(Clone, Default)]
pub struct Figures(Arc<Mutex<BTreeMap<String, u64>>>);

impl Figures {
    pub fn read(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, name: String, value: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, value);
    }

    fn count(&self, name: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }
}

/// The manager of a running process.
pub(crate) struct Manager {
    config: Overload,
    figures: Figures,
    shrink: Shrink,
    connections: Option<Arc<Connections>>,
    active: Vec<f64>,
    shrunk: Option<std::time::Instant>,
}

impl Manager {
    pub(crate) fn new(config: Overload, figures: Figures, shrink: Shrink, workers: usize) -> Self {
        let connections = config.max_connections.map(|most| Arc::new(Connections::new(most, workers)));
        let active = vec![0.0; config.actions.len()];
        Manager { config, figures, shrink, connections, active, shrunk: None }
    }

    /// Looks at all resources once and tells the workers what changed.
    pub(crate) async fn look(&mut self, configuration: &Configuration, first: bool) {
        let pressures: Vec<Option<f64>> = self.config.resources.iter().map(|one| self.pressure(one)).collect();
        let mut changed = first;
        for (index, action) in self.config.actions.iter().enumerate() {
            let now = engine::overload::activity(action, &pressures);
            let before = std::mem::replace(&mut self.active[index], now);
            if (before > 0.0) != (now > 0.0) {
                tell(action.kind, now, &pressures);
            }
            changed |= before.to_bits() != now.to_bits();
            let name = format!("overload.envoy.{}.{}", action.kind.group(), action.kind.name());
            if action.kind.group() == "overload_actions" {
                self.figures.set(format!("{name}.active"), u64::from(now >= 1.0));
            }
            self.figures.set(format!("{name}.scale_percent"), (now * 100.0) as u64);
        }
        self.shrink_heap();
        if changed {
            configuration.core.lock().await.publisher.shed(&self.shed());
        }
    }

    pub(crate) async fn run(mut self, configuration: Configuration) {
        loop {
            tokio::time::sleep(self.config.refresh).await;
            self.look(&configuration, false).await;
        }
    }

    fn pressure(&self, resource: &model::overload::Resource) -> Option<f64> {
        let pressure = match &resource.monitor {
            Monitor::Heap { most } => Some(crate::telemetry::resident_bytes() as f64 / *most as f64),
            Monitor::File(path) => std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()),
        };
        let pressure = pressure.filter(|pressure: &f64| pressure.is_finite() && *pressure >= 0.0);
        let name = format!("overload.{}", resource.name);
        match pressure {
            Some(pressure) => self.figures.set(format!("{name}.pressure"), (pressure * 100.0) as u64),
            None => self.figures.count(format!("{name}.failed_updates")),
        }
        pressure
    }

    fn activity(&self, kind: ActionKind) -> f64 {
        let all = self.config.actions.iter().zip(&self.active);
        all.filter(|(action, _)| action.kind == kind).map(|(_, active)| *active).fold(0.0, f64::max)
    }

    fn shed(&self) -> Shed {
        Shed {
            requests: self.activity(ActionKind::StopAcceptingRequests).max(self.activity(ActionKind::DecodeHeaders)),
            keep_alive: self.activity(ActionKind::DisableHttpKeepalive),
            rejected: self
                .activity(ActionKind::RejectIncomingConnections)
                .max(self.activity(ActionKind::AcceptConnection)),
            stop_accepting: self.activity(ActionKind::StopAcceptingConnections) >= 1.0,
            connections: self.connections.clone(),
        }
    }

    fn shrink_heap(&mut self) {
        let due = self.shrunk.is_none_or(|last| last.elapsed() >= SHRINK_INTERVAL);
        if due && self.activity(ActionKind::ShrinkHeap) >= 1.0 {
            self.shrunk = Some(std::time::Instant::now());
            (self.shrink)();
            self.figures.count("overload.envoy.overload_actions.shrink_heap.shrink_count".into());
        }
    }
}

fn tell(kind: ActionKind, now: f64, pressures: &[Option<f64>]) {
    let known: Vec<String> = pressures.iter().flatten().map(|pressure| format!("{:.0} %", pressure * 100.0)).collect();
    let (action, pressure) = (kind.name(), known.join(", "));
    if now > 0.0 {
        tracing::warn!(action, pressure, "overloaded: load is being shed");
    } else {
        tracing::info!(action, pressure, "no longer overloaded");
    }
}
