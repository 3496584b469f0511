//! A worker's clusters. One that no request has asked for is a name in the snapshot and costs the worker nothing.

use super::adopt::{Update, assignment};
use super::worker::Worker;
use crate::telemetry::stats::Owner;
use crate::upstream::{Cluster, Host, resting};
use model::Snapshot;
use model::health::HealthTable;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Clusters {
    used: RefCell<HashMap<Arc<str>, Rc<Cluster>, foldhash::fast::RandomState>>,
    /// What others are made of.
    source: RefCell<Option<Update>>,
}

impl Clusters {
    pub(super) fn each(&self, each: impl FnMut(&Rc<Cluster>)) {
        self.used.borrow().values().for_each(each);
    }
}

impl Worker {
    /// The cluster of this name itself, also where it is an aggregate; made with its first use.
    pub(super) fn cluster_itself(&self, name: &str) -> Option<Rc<Cluster>> {
        if let Some(known) = self.clusters.used.borrow().get(name) {
            return Some(known.clone());
        }
        let source = self.clusters.source.borrow();
        let source = source.as_ref()?;
        let (name, config) = source.snapshot.clusters.get_key_value(name)?;
        let stats = self.registry.add(Owner::Cluster(config.stat_name.clone()));
        let transports = source.transports.clients.get(name).cloned().unwrap_or_default();
        let cluster = Rc::new(Cluster::new(config.clone(), stats, transports, self.random()));
        inform(&cluster, source);
        self.clusters.used.borrow_mut().insert(name.clone(), cluster.clone());
        self.tell_peers_to(&cluster);
        Some(cluster)
    }

    /// Whether there is one of this name, in use or not, able to serve or not.
    pub fn has_cluster(&self, name: &str) -> bool {
        let source = self.clusters.source.borrow();
        self.clusters.used.borrow().contains_key(name)
            || source.as_ref().is_some_and(|source| source.snapshot.clusters.contains_key(name))
    }

    /// Takes over the clusters of `update`: those in use that did not change stay.
    pub(super) fn adopt_clusters(&self, update: &Update) {
        *self.clusters.source.borrow_mut() = Some(update.clone());
        self.clusters.used.borrow_mut().retain(|name, cluster| {
            let stays = update.snapshot.clusters.get(name).is_some_and(|config| config.hash == cluster.config.hash);
            if stays {
                cluster.set_transports(update.transports.clients.get(name).cloned().unwrap_or_default());
                inform(cluster, update);
            } else {
                cluster.retire();
            }
            stays
        });
    }

    /// Takes over what health checks changed.
    pub fn adopt_health(&self, table: &Arc<HealthTable>) {
        if let Some(source) = &mut *self.clusters.source.borrow_mut() {
            source.health = table.clone();
        }
        self.clusters.each(|cluster| cluster.set_health(table.get(&cluster.config.name)));
    }
}

fn inform(cluster: &Cluster, update: &Update) {
    if let Some(assignment) = assignment(&update.snapshot, &cluster.config) {
        cluster.assign(&assignment);
        cluster.set_health(update.health.get(&cluster.config.name));
        cluster.set_reports(update.reports.clone());
    }
}

/// The hosts that a worker would find in a cluster if it used it.
pub fn hosts_at_rest(snapshot: &Snapshot, health: &HealthTable, config: &model::cluster::Cluster) -> Vec<Rc<Host>> {
    let assignment = assignment(snapshot, config);
    assignment.map(|assignment| resting(&assignment, config, health.get(&config.name))).unwrap_or_default()
}
