//! Active health checks: one task per endpoint, all on the main thread; workers are told what changed.

mod check;
mod dial;
mod events;
mod grpc;
mod http;
mod tcp;

use crate::telemetry::Registry;
use crate::telemetry::stats::{HealthStats, Owner};
use crate::tls::prepare::Transports;
use check::Subject;
use model::cluster::Cluster;
use model::endpoint::{Assignment, Endpoint, EndpointTarget, Locality, LocalityEndpoints};
pub use model::health::Report;
use model::health::{ActiveHealth, HealthTable, News};
use model::{Address, Snapshot};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

/// What a report leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Workers must hear of it.
    Health,
    /// An endpoint that discovery had dropped can go now.
    Membership,
    Nothing,
}

type Key = (Arc<str>, Address);

/// All checks of the process and their results.
pub struct Health {
    registry: Arc<Registry>,
    reports: mpsc::UnboundedSender<Report>,
    transports: watch::Sender<Arc<Transports>>,
    running: HashMap<Key, Running>,
    stats: HashMap<Arc<str>, Arc<HealthStats>>,
    table: Arc<HealthTable>,
    /// The endpoints of clusters whose dropped endpoints may stay.
    settled: BTreeMap<Arc<str>, Arc<Assignment>>,
}

struct Running {
    cluster: u64,
    endpoint: Arc<Endpoint>,
    said_unwell: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    pub fn new(registry: Arc<Registry>, reports: mpsc::UnboundedSender<Report>) -> Self {
        Health {
            registry,
            reports,
            transports: watch::Sender::default(),
            running: HashMap::new(),
            stats: HashMap::new(),
            table: Arc::default(),
            settled: BTreeMap::new(),
        }
    }

    /// Where workers say what they heard.
    pub fn reports(&self) -> mpsc::UnboundedSender<Report> {
        self.reports.clone()
    }

    pub fn table(&self) -> &Arc<HealthTable> {
        &self.table
    }

    /// Some endpoint has not been checked yet.
    pub fn pending(&self) -> bool {
        self.table.values().flat_map(|endpoints| endpoints.values()).any(|health| health.pending)
    }

    /// Starts and stops tasks so that they fit the snapshot. Known endpoints keep their state.
    pub fn follow(&mut self, snapshot: &Snapshot, transports: &Arc<Transports>) {
        self.transports.send_replace(transports.clone());
        let mut table = HealthTable::new();
        let mut wanted = BTreeSet::new();
        for (name, cluster) in snapshot.clusters.iter().filter(|(_, cluster)| cluster.health_check.is_some()) {
            let Some(assignment) = crate::state::adopt::assignment(snapshot, cluster) else { continue };
            let known = self.table.get(name).cloned().unwrap_or_default();
            let mut endpoints = BTreeMap::new();
            for (address, locality, endpoint) in checked(&assignment) {
                let health = known.get(&address).copied().unwrap_or(ActiveHealth::NEW);
                self.keep_running(cluster, locality, endpoint, &address, health);
                wanted.insert((name.clone(), address.clone()));
                endpoints.insert(address, health);
            }
            table.insert(name.clone(), if *known == endpoints { known } else { Arc::new(endpoints) });
        }
        self.running.retain(|key, _| wanted.contains(key));
        self.stats.retain(|name, _| table.contains_key(name));
        self.table = Arc::new(table);
        for name in self.stats.keys() {
            self.gauge(name);
        }
    }

    fn keep_running(
        &mut self,
        cluster: &Arc<Cluster>,
        locality: &Locality,
        endpoint: &Arc<Endpoint>,
        address: &Address,
        health: ActiveHealth,
    ) {
        let key = (cluster.name.clone(), address.clone());
        let same = |running: &Running| running.cluster == cluster.hash && running.endpoint.check == endpoint.check;
        if self.running.get(&key).is_some_and(same) {
            return;
        }
        let owner = Owner::Cluster(cluster.stat_name.clone());
        let stats = self.stats.entry(cluster.name.clone()).or_insert_with(|| self.registry.add(owner)).clone();
        let subject = Subject {
            cluster: cluster.clone(),
            endpoint: endpoint.clone(),
            locality: locality.clone(),
            address: address.clone(),
            transports: self.transports.subscribe(),
            stats,
            registry: self.registry.clone(),
            reports: self.reports.clone(),
            said_unwell: Arc::default(),
        };
        let said_unwell = subject.said_unwell.clone();
        let task = tokio::spawn(check::run(subject, health));
        self.running.insert(key, Running { cluster: cluster.hash, endpoint: endpoint.clone(), said_unwell, task });
    }

    /// Takes over a report.
    pub fn note(&mut self, report: Report) -> Effect {
        let Report { cluster, address, news } = report;
        let News::Checked(mut health) = news else {
            // Its task knows best what follows.
            if let Some(running) = self.running.get(&(cluster, address)) {
                running.said_unwell.notify_one();
            }
            return Effect::Nothing;
        };
        let table = Arc::make_mut(&mut self.table);
        let Some(endpoints) = table.get_mut(&cluster) else { return Effect::Nothing };
        let endpoints = Arc::make_mut(endpoints);
        let Some(known) = endpoints.get_mut(&address) else { return Effect::Nothing };
        health.leaving = known.leaving;
        *known = health;
        self.gauge(&cluster);
        if health.leaving && health.failed { Effect::Membership } else { Effect::Health }
    }

    fn gauge(&self, cluster: &str) {
        let (Some(stats), Some(endpoints)) = (self.stats.get(cluster), self.table.get(cluster)) else { return };
        let count = |wanted: fn(&&ActiveHealth) -> bool| endpoints.values().filter(wanted).count() as u64;
        stats.health_check_healthy.set(count(|health| !health.failed));
        stats.health_check_degraded.set(count(|health| health.degraded));
    }

    /// The endpoints of `cluster`: what discovery says, and what it dropped while the checks still succeed, unless
    /// `ignore_health_on_host_removal`. `None`: just what discovery says.
    pub fn settle(&mut self, cluster: &Cluster, fresh: &Arc<Assignment>) -> Option<Arc<Assignment>> {
        if cluster.health_check.is_none() || cluster.ignore_health_on_host_removal {
            return None;
        }
        let before = self.settled.insert(cluster.name.clone(), fresh.clone())?;
        let known = self.table.get(&cluster.name).cloned().unwrap_or_default();
        let present: BTreeSet<&Address> = fresh.endpoints().filter_map(|endpoint| address_of(endpoint)).collect();
        let stays = |endpoint: &&Arc<Endpoint>| {
            let Some(address) = address_of(endpoint) else { return false };
            !present.contains(address) && known.get(address).is_some_and(|health| !health.failed)
        };
        let mut merged = (**fresh).clone();
        let mut leaving = BTreeSet::new();
        for locality in &before.localities {
            for endpoint in locality.endpoints.iter().filter(stays) {
                leaving.extend(address_of(endpoint).cloned());
                same_place(&mut merged, locality).endpoints.push(endpoint.clone());
            }
        }
        self.mark_leaving(&cluster.name, &leaving);
        if leaving.is_empty() {
            return None;
        }
        let merged = Arc::new(merged);
        self.settled.insert(cluster.name.clone(), merged.clone());
        Some(merged)
    }

    fn mark_leaving(&mut self, cluster: &Arc<str>, leaving: &BTreeSet<Address>) {
        let Some(endpoints) = self.table.get(cluster) else { return };
        if endpoints.iter().all(|(address, health)| health.leaving == leaving.contains(address)) {
            return;
        }
        let endpoints = Arc::make_mut(&mut self.table).get_mut(cluster).map(Arc::make_mut);
        for (address, health) in endpoints.into_iter().flatten() {
            health.leaving = leaving.contains(address);
        }
    }

    /// Forgets what belonged to clusters that are gone.
    pub fn prune(&mut self, snapshot: &Snapshot) {
        self.settled.retain(|name, _| snapshot.clusters.contains_key(name));
    }
}

fn same_place<'a>(assignment: &'a mut Assignment, wanted: &LocalityEndpoints) -> &'a mut LocalityEndpoints {
    let same = |one: &LocalityEndpoints| one.locality == wanted.locality && one.priority == wanted.priority;
    let at = assignment.localities.iter().position(same).unwrap_or_else(|| {
        assignment.localities.push(LocalityEndpoints { endpoints: Vec::new(), ..wanted.clone() });
        assignment.localities.len() - 1
    });
    &mut assignment.localities[at]
}

fn address_of(endpoint: &Endpoint) -> Option<&Address> {
    match &endpoint.target {
        EndpointTarget::Address(address) => Some(address),
        EndpointTarget::Name(_) => None,
    }
}

/// The endpoints that are to be checked.
fn checked(assignment: &Assignment) -> impl Iterator<Item = (Address, &Locality, &Arc<Endpoint>)> {
    let all = assignment.localities.iter();
    let all = all.flat_map(|one| one.endpoints.iter().map(move |endpoint| (&one.locality, endpoint)));
    let wanted = all.filter(|(_, endpoint)| endpoint.is_checked());
    wanted.filter_map(|(locality, endpoint)| Some((address_of(endpoint)?.clone(), locality, endpoint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::cluster::Discovery;
    use model::health::{HealthCheck, Intervals, Probe, TcpProbe};
    use std::time::Duration;

    fn endpoint(port: u16) -> Arc<Endpoint> {
        let target = EndpointTarget::Address(Address::Tcp(([127, 0, 0, 1], port).into()));
        Arc::new(Endpoint {
            target,
            weight: 1,
            health: Default::default(),
            hostname: "".into(),
            check: Default::default(),
            more_addresses: Default::default(),
            lb_metadata: Default::default(),
            socket_match: Default::default(),
        })
    }

    fn assignment(ports: &[u16]) -> Arc<Assignment> {
        let endpoints = ports.iter().map(|port| endpoint(*port)).collect();
        let localities = vec![LocalityEndpoints { endpoints, ..Default::default() }];
        Arc::new(Assignment { localities, overprovisioning_factor: 140 })
    }

    fn cluster() -> Cluster {
        let hour = Duration::from_secs(3600);
        let mut cluster = Cluster::named("up", Discovery::Eds("up".into()));
        cluster.health_check = Some(Arc::new(HealthCheck {
            probe: Probe::Tcp(TcpProbe { send: Box::default(), receive: Vec::new() }),
            timeout: hour,
            intervals: Intervals {
                normal: hour,
                unhealthy: hour,
                unhealthy_edge: hour,
                healthy_edge: hour,
                no_traffic: hour,
                no_traffic_healthy: hour,
                initial_jitter: hour,
                jitter: Duration::ZERO,
                jitter_percent: 0,
            },
            unhealthy_threshold: 1,
            healthy_threshold: 1,
            reuse_connection: true,
            event_logs: Vec::new(),
            always_log_failures: false,
            always_log_successes: false,
            alpn: Vec::new(),
            socket_match: None,
        }));
        cluster
    }

    #[tokio::test]
    async fn a_dropped_endpoint_stays_until_its_check_fails() {
        let (reports, _inbox) = mpsc::unbounded_channel();
        let mut health = Health::new(Arc::default(), reports);
        let cluster = Arc::new(cluster());
        let mut snapshot = Snapshot::default();
        snapshot.clusters.insert("up".into(), cluster.clone());
        snapshot.assignments.insert("up".into(), assignment(&[1, 2]));
        assert!(health.settle(&cluster, &assignment(&[1, 2])).is_none());
        health.follow(&snapshot, &Arc::default());
        assert!(health.pending());
        let report = |port: u16, failed: bool| Report {
            cluster: "up".into(),
            address: Address::Tcp(([127, 0, 0, 1], port).into()),
            news: News::Checked(ActiveHealth { failed, ..ActiveHealth::default() }),
        };
        assert_eq!(health.note(report(1, false)), Effect::Health);
        assert_eq!(health.note(report(2, false)), Effect::Health);
        assert!(!health.pending());
        let both = health.settle(&cluster, &assignment(&[1])).expect("the dropped endpoint stays");
        assert_eq!(both.endpoints().count(), 2);
        assert!(health.settle(&cluster, &assignment(&[1])).is_some(), "again and again");
        assert_eq!(health.note(report(2, true)), Effect::Membership);
        assert!(health.settle(&cluster, &assignment(&[1])).is_none());
        assert_eq!(health.note(report(9, true)), Effect::Nothing);
    }
}
