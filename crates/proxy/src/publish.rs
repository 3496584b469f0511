//! Hands snapshots to the workers: binds what is new, prepares TLS once, sends everyone the same.

use crate::accept::listen::Bound;
use crate::state::adopt::Update;
use crate::state::demand::Asking;
use crate::state::guard::Guards;
use crate::state::shed::Shed;
use crate::telemetry::Registry;
use crate::tls::prepare::{Preparer, Transports};
use crate::worker::{self, ClusterReport, Command, Sockets};
use model::demand::Demand;
use model::health::{HealthTable, Report};
use model::listener::{Listener, SocketOptions};
use model::{Address, Snapshot};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A listener whose sockets could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("listener `{listener}` cannot listen on {address}: {error}")]
pub struct ListenError {
    pub listener: Arc<str>,
    pub address: Address,
    pub error: io::Error,
}

/// Where a listener really listens.
#[derive(Clone, Debug)]
pub struct Listening {
    pub configured: Vec<Address>,
    pub options: SocketOptions,
    /// With the port that was chosen where 0 was asked for.
    pub actual: Vec<Address>,
}

pub struct Publisher {
    registry: Arc<Registry>,
    workers: Vec<worker::Handle>,
    preparer: Preparer,
    listening: HashMap<Arc<str>, Listening>,
    current: Arc<Snapshot>,
    transports: Arc<Transports>,
    health: Arc<HealthTable>,
    guards: Arc<Guards>,
    reports: Option<mpsc::UnboundedSender<Report>>,
    asking: Option<Asking>,
}

impl Publisher {
    /// Starts `concurrency` workers; they are pinned when there is one per CPU.
    pub fn start(concurrency: usize, registry: Arc<Registry>) -> io::Result<Publisher> {
        let cpus = worker::usable_cpus();
        let pin = concurrency > 1 && concurrency == cpus.len();
        let spawn = |index: usize| worker::spawn(index, registry.clone(), pin.then(|| cpus[index]));
        let workers = (0..concurrency.max(1)).map(spawn).collect::<io::Result<Vec<_>>>()?;
        Ok(Publisher {
            registry,
            workers,
            preparer: Preparer::default(),
            listening: HashMap::new(),
            current: Arc::default(),
            transports: Arc::default(),
            health: Arc::default(),
            guards: Arc::default(),
            reports: None,
            asking: None,
        })
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn current(&self) -> &Arc<Snapshot> {
        &self.current
    }

    pub fn listening(&self) -> &HashMap<Arc<str>, Listening> {
        &self.listening
    }

    /// Publishes `snapshot`. A listener that cannot bind is left out, its old version too, and reported.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) -> Vec<ListenError> {
        let mut errors = Vec::new();
        let mut sockets: Vec<Sockets> = self.workers.iter().map(|_| Sockets::new()).collect();
        self.listening.retain(|name, _| snapshot.listeners.contains_key(name));
        for (name, listener) in &snapshot.listeners {
            let addresses = addresses(listener);
            let known = self.listening.get(name);
            if known.is_some_and(|l| l.configured == addresses && l.options == listener.socket) {
                continue;
            }
            match self.bind(listener, &addresses, &mut sockets) {
                Ok(actual) => {
                    let listening = Listening { configured: addresses, options: listener.socket, actual };
                    self.listening.insert(name.clone(), listening);
                }
                Err(error) => {
                    self.listening.remove(name);
                    errors.push(error);
                }
            }
        }
        let mut snapshot = snapshot.clone();
        if !errors.is_empty() {
            let mut without = (*snapshot).clone();
            for error in &errors {
                without.listeners.remove(&error.listener);
            }
            snapshot = Arc::new(without);
        }
        self.send(snapshot, sockets);
        errors
    }

    /// Files behind certificates may have changed: prepares TLS anew for the current snapshot.
    pub fn renew_tls(&mut self) {
        let none = self.workers.iter().map(|_| Sockets::new()).collect();
        self.send(self.current.clone(), none);
    }

    fn send(&mut self, snapshot: Arc<Snapshot>, sockets: Vec<Sockets>) {
        let transports = self.prepare(&snapshot);
        for (worker, sockets) in self.workers.iter().zip(sockets) {
            let update = Update {
                snapshot: snapshot.clone(),
                transports: transports.clone(),
                health: self.health.clone(),
                guards: self.guards.clone(),
                reports: self.reports.clone(),
                asking: self.asking.clone(),
            };
            worker.send(Command::Update(Box::new(update), sockets));
        }
        self.current = snapshot;
    }

    /// The TLS configurations of `snapshot`.
    pub fn prepare(&mut self, snapshot: &Snapshot) -> Arc<Transports> {
        self.transports = Arc::new(self.preparer.prepare(snapshot));
        self.transports.clone()
    }

    pub fn transports(&self) -> &Arc<Transports> {
        &self.transports
    }

    /// Tells the workers what to turn away.
    pub fn shed(&self, shed: &Shed) {
        for worker in &self.workers {
            worker.send(Command::Shed(shed.clone()));
        }
    }

    /// Where workers say what endpoints say of their health.
    pub fn set_reports(&mut self, reports: mpsc::UnboundedSender<Report>) {
        self.reports = Some(reports);
    }

    /// Where workers ask for what is missing.
    pub fn set_asking(&mut self, asking: Asking) {
        self.asking = Some(asking);
    }

    /// Tells the workers of what the control plane has spoken; what is there they have by now.
    pub fn answered(&self, demands: Vec<Demand>) {
        if demands.is_empty() {
            return;
        }
        let demands: Arc<[Demand]> = demands.into();
        for worker in &self.workers {
            worker.send(Command::Answered(demands.clone()));
        }
    }

    pub fn health(&self) -> &Arc<HealthTable> {
        &self.health
    }

    /// What health checks found, for the next snapshot.
    pub fn set_health(&mut self, health: Arc<HealthTable>) {
        self.health = health;
    }

    /// Tells the workers what health checks found.
    pub fn publish_health(&mut self, health: Arc<HealthTable>) {
        for worker in &self.workers {
            worker.send(Command::Health(health.clone()));
        }
        self.health = health;
    }

    fn bind(
        &self,
        listener: &Listener,
        addresses: &[Address],
        sockets: &mut [Sockets],
    ) -> Result<Vec<Address>, ListenError> {
        let mut actual = Vec::new();
        let failed =
            |address: &Address, error| ListenError { listener: listener.name.clone(), address: address.clone(), error };
        let mut bound: Vec<Vec<Bound>> = sockets.iter().map(|_| Vec::new()).collect();
        for address in addresses {
            let shared = !listener.socket.reuse_port || matches!(address, Address::Unix(_));
            let options = SocketOptions { reuse_port: !shared, ..listener.socket };
            let first = Bound::bind(address, options).map_err(|error| failed(address, error))?;
            let real = first.local().map_or_else(|| address.clone(), Address::Tcp);
            for worker in bound.iter_mut().skip(1) {
                let another = if shared { first.try_clone() } else { Bound::bind(&real, options) };
                worker.push(another.map_err(|error| failed(address, error))?);
            }
            bound[0].push(first);
            actual.push(real);
        }
        for (sockets, bound) in sockets.iter_mut().zip(bound) {
            sockets.insert(listener.name.clone(), bound);
        }
        Ok(actual)
    }

    /// The TCP address of a listener, for messages and tests.
    pub fn address_of(&self, listener: &str) -> Option<SocketAddr> {
        self.listening.get(listener)?.actual.first()?.tcp()
    }

    /// What every worker knows of the clusters that it used.
    pub async fn report(&self) -> Vec<Vec<ClusterReport>> {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (ask, answer) = oneshot::channel();
            worker.send(Command::Report(ask));
            answers.push(answer);
        }
        let mut reports = Vec::new();
        for answer in answers {
            reports.push(answer.await.unwrap_or_default());
        }
        reports
    }

    /// Stops accepting and waits until connections have finished, at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        let mut done = Vec::new();
        for worker in &self.workers {
            let (sender, receiver) = oneshot::channel();
            worker.send(Command::Drain(sender));
            done.push(receiver);
        }
        let all = async {
            for receiver in done {
                let _ = receiver.await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }

    pub fn stop(&mut self) {
        for worker in &mut self.workers {
            worker.join();
        }
    }
}

/// Where `listener` listens.
fn addresses(listener: &Listener) -> Vec<Address> {
    if !listener.socket.bind {
        return Vec::new();
    }
    std::iter::once(&listener.address).chain(&listener.additional_addresses).cloned().collect()
}
