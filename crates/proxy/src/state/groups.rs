//! Requests that are counted on their own: virtual clusters, and routes with a `stat_prefix`.

use super::worker::Worker;
use crate::telemetry::stats::{GroupStats, Owner};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What an exchange is counted with beyond listener and cluster.
#[derive(Default)]
pub struct Groups(Vec<Arc<GroupStats>>);

impl Groups {
    pub fn each(&self, count: impl FnMut(&GroupStats)) {
        self.0.iter().map(|stats| &**stats).for_each(count);
    }

    pub fn join(&mut self, stats: Arc<GroupStats>) {
        stats.upstream_rq_total.inc();
        self.0.push(stats);
    }

    /// The upstream, or the proxy in its stead, answered.
    pub fn answered(&self, status: u16, took: Option<Duration>) {
        self.each(|stats| {
            stats.responses.note(status);
            if let Some(took) = took {
                stats.upstream_rq_time.record(took);
            }
        });
    }
}

type ByName = HashMap<Box<str>, Arc<GroupStats>>;

/// A worker's statistics by kind, virtual host and name.
#[derive(Default)]
pub(super) struct GroupNames(RefCell<HashMap<&'static str, HashMap<Box<str>, ByName>>>);

impl Worker {
    /// The statistics of `name` in a virtual host; `kind` is `vcluster` or `route`.
    pub fn group(&self, host: &str, kind: &'static str, name: &str) -> Arc<GroupStats> {
        let mut groups = self.groups.0.borrow_mut();
        let hosts = groups.entry(kind).or_default();
        if let Some(known) = hosts.get(host).and_then(|names| names.get(name)) {
            return known.clone();
        }
        let owner = Owner::Group { host: host.into(), kind, name: name.into() };
        let fresh: Arc<GroupStats> = self.registry.add(owner);
        hosts.entry(host.into()).or_default().insert(name.into(), fresh.clone());
        fresh
    }
}
