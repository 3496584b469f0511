//! The resources a proxy holds: accepts changes whole or not at all, knows what is still to be asked for, and links
//! what is complete into snapshots.
//!
//! A cluster or listener that waits for endpoints, routes or secrets is *warming*: its previous version, if there is
//! one, keeps serving. A resource that is refused never replaces the one before.

mod accept;
mod demand;
#[cfg(test)]
mod demand_tests;
mod file;
mod saved;
#[cfg(test)]
mod tests;

pub use accept::{Rejected, Rejection};
pub use file::read_file;

use crate::Bootstrap;
use crate::compile::source::Source;
use crate::compile::{Compiled, Need, Scope};
use crate::kind::ResourceKind;
use crate::xds::client::Interest;
use bytes::Bytes;
use model::Snapshot;
use model::cluster::Cluster;
use model::demand::{Demand, DemandKind};
use model::endpoint::Assignment;
use model::listener::Listener;
use model::route::RouteTable;
use model::scope::Scope as RouteScope;
use model::snapshot::OwnZone;
use model::tls::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A resource as it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// As the response calls it; empty when only the resource itself has its name.
    pub name: String,
    /// Shared by what came in one response.
    pub version: Arc<str>,
    /// Other names that it was asked for by.
    pub aliases: Vec<String>,
    /// The encoded resource.
    pub body: Bytes,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ResourceKind,
    pub upserts: Vec<Incoming>,
    pub removed: Vec<String>,
    /// The response holds all there are (state of the world); of clusters and listeners the others are gone.
    pub full: bool,
    /// Asked for by name, and the server says that there is none.
    pub absent: Vec<String>,
    /// Where it came from; `None`: from what an earlier run kept.
    pub source: Option<Source>,
}

impl Change {
    /// One that changes nothing.
    pub fn of(kind: ResourceKind) -> Self {
        Change { kind, upserts: Vec::new(), removed: Vec::new(), full: false, absent: Vec::new(), source: None }
    }
}

pub struct Resources {
    scope: Scope,
    /// The bootstrap has an aggregated stream.
    ads: bool,
    zone: Option<Arc<OwnZone>>,
    fixed: Fixed,
    /// Secrets that this process makes itself; they come before all others.
    provided: BTreeMap<Arc<str>, Secret>,
    clusters: BTreeMap<Arc<str>, Held<Compiled<Arc<Cluster>>>>,
    listeners: BTreeMap<Arc<str>, Held<Compiled<Arc<Listener>>>>,
    endpoints: BTreeMap<Arc<str>, Held<Arc<Assignment>>>,
    /// Those on demand together with the virtual hosts that came for them.
    routes: BTreeMap<Arc<str>, Held<Compiled<Arc<RouteTable>>>>,
    /// By the names of the resources.
    virtual_hosts: BTreeMap<Arc<str>, Held<()>>,
    /// And where each came from.
    scopes: BTreeMap<Arc<str>, FromSource<Arc<RouteScope>>>,
    /// SRDS sources that have answered.
    scoped: BTreeSet<Option<Source>>,
    secrets: BTreeMap<Arc<str>, Held<Secret>>,
    /// What serves: the last complete version of each.
    active_clusters: BTreeMap<Arc<str>, Compiled<Arc<Cluster>>>,
    active_listeners: BTreeMap<Arc<str>, Compiled<Arc<Listener>>>,
    /// What scopes refer to.
    scope_needs: Vec<Need>,
    /// What requests asked for, and where it comes from.
    asked: BTreeMap<Demand, Source>,
    /// Demands that the control plane has answered.
    answered: Vec<Demand>,
    current: Arc<Snapshot>,
    changed: bool,
}

/// What the bootstrap brings; it wins over what is discovered under the same name, and never changes.
struct Fixed {
    clusters: BTreeMap<Arc<str>, Compiled<Arc<Cluster>>>,
    listeners: BTreeMap<Arc<str>, Compiled<Arc<Listener>>>,
    secrets: BTreeMap<Arc<str>, Secret>,
}

/// An accepted resource.
#[derive(Clone)]
struct Held<T> {
    version: Arc<str>,
    body: Bytes,
    value: T,
}

/// With where it came from; `None`: from what an earlier run kept.
type FromSource<T> = (Option<Source>, Held<T>);

/// An accepted resource, for `/config_dump`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    pub kind: ResourceKind,
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub body: Bytes,
    /// Waits for what it refers to.
    pub warming: bool,
}

impl Resources {
    pub fn new(bootstrap: &Bootstrap) -> Self {
        let clusters = bootstrap.clusters.iter().map(|one| (one.value.name.clone(), one.clone()));
        let listeners = bootstrap.listeners.iter().map(|one| (one.value.name.clone(), one.clone()));
        let secrets = bootstrap.secrets.iter().map(|(name, secret)| (name.as_str().into(), secret.clone()));
        Resources {
            scope: bootstrap.scope.clone(),
            ads: bootstrap.dynamic.ads.is_some(),
            zone: bootstrap.zone.clone(),
            fixed: Fixed { clusters: clusters.collect(), listeners: listeners.collect(), secrets: secrets.collect() },
            provided: BTreeMap::new(),
            clusters: BTreeMap::new(),
            listeners: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            routes: BTreeMap::new(),
            virtual_hosts: BTreeMap::new(),
            scopes: BTreeMap::new(),
            scoped: BTreeSet::new(),
            secrets: BTreeMap::new(),
            active_clusters: BTreeMap::new(),
            active_listeners: BTreeMap::new(),
            scope_needs: Vec::new(),
            asked: BTreeMap::new(),
            answered: Vec::new(),
            current: Arc::default(),
            changed: true,
        }
    }

    /// Secrets of this process's own making, such as its SVID. They satisfy every reference to their names.
    pub fn provide(&mut self, secrets: impl IntoIterator<Item = (Arc<str>, Secret)>) {
        self.provided.extend(secrets);
        self.changed = true;
    }

    /// What is referred to, or asked for by requests, and comes from `source`.
    pub fn wanted(&self, kind: ResourceKind, source: &Source) -> Interest {
        let needs = self.needs().filter(|need| need.kind == kind && need.source == *source);
        let needs = needs.filter(|need| !self.provided.contains_key(&need.name)).map(|need| need.name.to_string());
        match kind {
            ResourceKind::ScopedRoutes => Interest { whole: needs.count() > 0, ..Interest::default() },
            ResourceKind::VirtualHosts => {
                Interest { names: self.asked_for(kind, source).collect(), within: needs.collect(), whole: false }
            }
            _ => needs.chain(self.asked_for(kind, source)).collect::<BTreeSet<String>>().into(),
        }
    }

    /// Every source that something refers to.
    pub fn sources(&self) -> BTreeSet<Source> {
        self.needs().map(|need| &need.source).chain(self.asked.values()).cloned().collect()
    }

    fn needs(&self) -> impl Iterator<Item = &Need> {
        let fixed_clusters = self.fixed.clusters.values().flat_map(|one| &*one.needs);
        let fixed_listeners = self.fixed.listeners.values().flat_map(|one| &*one.needs);
        let clusters = self.clusters.values().flat_map(|held| &*held.value.needs);
        let listeners = self.listeners.values().flat_map(|held| &*held.value.needs);
        // What still serves while its successor warms keeps what it refers to.
        let active_clusters = self.active_clusters.values().flat_map(|one| &*one.needs);
        let active_listeners = self.active_listeners.values().flat_map(|one| &*one.needs);
        let routes = self.routes.values().flat_map(|held| &*held.value.needs);
        let fixed = fixed_clusters.chain(fixed_listeners);
        let active = active_clusters.chain(active_listeners);
        fixed.chain(clusters).chain(listeners).chain(active).chain(routes).chain(&self.scope_needs)
    }

    fn satisfied(&self, needs: &[Need]) -> bool {
        needs.iter().all(|need| match need.kind {
            ResourceKind::Endpoints => self.endpoints.contains_key(&need.name),
            ResourceKind::Routes => self.routes.contains_key(&need.name),
            ResourceKind::Secret => self.provided.contains_key(&need.name) || self.secrets.contains_key(&need.name),
            ResourceKind::ScopedRoutes => self.scopes_are_complete(&need.source),
            ResourceKind::Cluster | ResourceKind::Listener | ResourceKind::VirtualHosts => true,
        })
    }

    /// Whether a cluster or listener waits for what it refers to.
    pub fn is_warming(&self) -> bool {
        let fixed = self.fixed.clusters.values().map(|one| &one.needs);
        let fixed = fixed.chain(self.fixed.listeners.values().map(|one| &one.needs));
        let held = self.clusters.values().map(|held| &held.value.needs);
        let held = held.chain(self.listeners.values().map(|held| &held.value.needs));
        fixed.chain(held).any(|needs| !self.satisfied(needs))
    }

    /// What is complete, linked. The same `Arc` as before when nothing changed.
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        if !self.changed {
            return self.current.clone();
        }
        self.changed = false;
        self.activate();
        let scopes = self.active_scopes();
        self.refer(&scopes);
        self.prune();
        let mut secrets = self.fixed.secrets.clone();
        secrets.extend(self.secrets.iter().map(|(name, held)| (name.clone(), held.value.clone())));
        secrets.extend(self.provided.iter().map(|(name, secret)| (name.clone(), secret.clone())));
        let clusters = self.active_clusters.iter().map(|(name, one)| (name.clone(), one.value.clone()));
        let listeners = self.active_listeners.iter().map(|(name, one)| (name.clone(), one.value.clone()));
        let routes = self.routes.iter().map(|(name, held)| (name.clone(), held.value.value.clone()));
        let assignments = self.endpoints.iter().map(|(name, held)| (name.clone(), held.value.clone()));
        self.current = Arc::new(Snapshot {
            generation: self.current.generation + 1,
            clusters: clusters.collect(),
            listeners: listeners.collect(),
            routes: routes.collect(),
            scopes,
            assignments: assignments.collect(),
            secrets,
            zone: self.zone.clone(),
        });
        self.current.clone()
    }

    /// Moves complete versions in, keeps the previous one of what is warming, and drops what is gone.
    fn activate(&mut self) {
        let clusters = choose(&self.fixed.clusters, &self.clusters, &self.active_clusters, |n| self.satisfied(n));
        let listeners = choose(&self.fixed.listeners, &self.listeners, &self.active_listeners, |n| self.satisfied(n));
        (self.active_clusters, self.active_listeners) = (clusters, listeners);
    }

    /// Forgets endpoints, routes and secrets that nothing refers to any more.
    fn prune(&mut self) {
        let asked = self.asked.keys().filter(|demand| demand.kind == DemandKind::Routes);
        let asked = asked.map(|demand| (ResourceKind::Routes, demand.name.clone()));
        let used: BTreeSet<(ResourceKind, Arc<str>)> =
            self.needs().map(|need| (need.kind, need.name.clone())).chain(asked).collect();
        let keep = |kind: ResourceKind, name: &Arc<str>| used.contains(&(kind, name.clone()));
        self.endpoints.retain(|name, _| keep(ResourceKind::Endpoints, name));
        self.routes.retain(|name, _| keep(ResourceKind::Routes, name));
        self.secrets.retain(|name, _| keep(ResourceKind::Secret, name));
        self.prune_on_demand();
    }

    /// Every accepted resource of a kind.
    pub fn dump(&self, kind: ResourceKind) -> Vec<Dumped> {
        fn all<T>(
            kind: ResourceKind,
            held: &BTreeMap<Arc<str>, Held<T>>,
            warming: impl Fn(&Arc<str>, &T) -> bool,
        ) -> Vec<Dumped> {
            let dumped = held.iter().map(|(name, held)| Dumped {
                kind,
                name: name.clone(),
                version: held.version.clone(),
                body: held.body.clone(),
                warming: warming(name, &held.value),
            });
            dumped.collect()
        }
        match kind {
            ResourceKind::Cluster => all(kind, &self.clusters, |_, one| !self.satisfied(&one.needs)),
            ResourceKind::Listener => all(kind, &self.listeners, |_, one| !self.satisfied(&one.needs)),
            ResourceKind::Endpoints => all(kind, &self.endpoints, |_, _| false),
            ResourceKind::Routes => all(kind, &self.routes, |_, _| false),
            ResourceKind::VirtualHosts => all(kind, &self.virtual_hosts, |_, _| false),
            ResourceKind::ScopedRoutes => {
                let scopes = self.scopes.iter().map(|(name, (_, held))| (name.clone(), held.clone())).collect();
                all(kind, &scopes, |_, _| false)
            }
            ResourceKind::Secret => all(kind, &self.secrets, |_, _| false),
        }
    }
}

type Serving<T> = BTreeMap<Arc<str>, Compiled<Arc<T>>>;

fn choose<T>(
    fixed: &Serving<T>,
    discovered: &BTreeMap<Arc<str>, Held<Compiled<Arc<T>>>>,
    active: &Serving<T>,
    complete: impl Fn(&[Need]) -> bool,
) -> Serving<T> {
    let clone = |one: &Compiled<Arc<T>>| Compiled { value: one.value.clone(), needs: one.needs.clone() };
    let found =
        discovered.iter().filter(|(name, _)| !fixed.contains_key(*name)).map(|(name, held)| (name, &held.value));
    let chosen = fixed.iter().chain(found).filter_map(|(name, newest)| {
        let serving = if complete(&newest.needs) { Some(newest) } else { active.get(name) };
        serving.map(|one| (name.clone(), clone(one)))
    });
    chosen.collect()
}
