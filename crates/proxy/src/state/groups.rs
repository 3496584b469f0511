//! Requests that are counted on their own: virtual clusters, and routes with a `stat_prefix`.

use super::worker::Worker;
use crate::telemetry::stats::{CallStats, GroupStats, Owner};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
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

/// Of methods called by gRPC-Web, by cluster and name.
#[derive(Default)]
pub(super) struct CallNames(RefCell<HashMap<Rc<str>, Methods>>);

type Methods = HashMap<Box<str>, Arc<CallStats>>;

/// A worker's statistics by kind, virtual host and name.
#[derive(Default)]
pub(super) struct GroupNames(RefCell<HashMap<&'static str, HashMap<Box<str>, ByName>>>);

impl Worker {
    /// Counts a call of `path` (`/service/method`) that ended with `status`.
    pub fn note_call(&self, cluster: &Rc<str>, path: &[u8], status: u8) {
        let Ok(path) = std::str::from_utf8(path) else { return };
        let Some((service, method)) = path.trim_start_matches('/').split_once('/') else { return };
        if service.is_empty() || method.is_empty() {
            return;
        }
        let name = format!("{service}.{method}");
        let mut calls = self.calls.0.borrow_mut();
        let methods = calls.entry(cluster.clone()).or_default();
        if let Some(stats) = methods.get(name.as_str()) {
            return stats.note(status);
        }
        let owner = Owner::Call { cluster: Arc::from(&**cluster), method: name.as_str().into() };
        let stats: Arc<CallStats> = self.registry.add(owner);
        stats.note(status);
        methods.insert(name.into(), stats);
    }

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
