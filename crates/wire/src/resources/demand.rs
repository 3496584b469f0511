//! What comes on demand, or only as far as it is used: clusters that requests ask for, virtual hosts (VHDS), and scopes
//! with their tables (SRDS).

use super::{Resources, Source};
use crate::compile::Need;
use crate::kind::ResourceKind;
use model::demand::{Demand, DemandKind};
use model::http::RouteSource;
use model::listener::{Listener, NetworkFilter};
use model::scope::{Scope, ScopeSource, ScopedRoutes};
use std::collections::BTreeMap;
use std::sync::Arc;

impl From<DemandKind> for ResourceKind {
    fn from(kind: DemandKind) -> Self {
        match kind {
            DemandKind::Cluster => ResourceKind::Cluster,
            DemandKind::Routes => ResourceKind::Routes,
            DemandKind::VirtualHost => ResourceKind::VirtualHosts,
        }
    }
}

/// What is asked for at most: clients choose the names, and a control plane may leave them without an answer.
const MOST_ASKED: usize = 10_000;

type Scopes = BTreeMap<Source, Arc<[Arc<Scope>]>>;

impl Resources {
    /// A request waits for something; however many do, it is asked for once. True when it was not asked for yet. Beyond
    /// 10,000 nothing more is asked for: the request's own time limit ends its waiting.
    pub fn ask(&mut self, demand: Demand, source: Source) -> bool {
        self.asked.len() < MOST_ASKED && self.asked.insert(demand, source).is_none()
    }

    /// Demands of which the control plane has said all that there is to say.
    pub fn take_answered(&mut self) -> Vec<Demand> {
        std::mem::take(&mut self.answered)
    }

    pub(super) fn asked_for(&self, kind: ResourceKind, source: &Source) -> impl Iterator<Item = String> {
        let asked = self.asked.iter().filter(move |(demand, from)| kind == demand.kind.into() && *from == source);
        asked.map(|(demand, _)| demand.name.to_string())
    }

    /// Whether a request asked for the cluster, so that no list of all clusters decides on it.
    pub(super) fn is_on_demand(&self, cluster: &Arc<str>) -> bool {
        self.asked.contains_key(&Demand::cluster(cluster.clone()))
    }

    /// The control plane has spoken of these names.
    pub(super) fn answer<'n>(&mut self, kind: ResourceKind, names: impl Iterator<Item = &'n str>) {
        let kind = match kind {
            ResourceKind::Cluster => DemandKind::Cluster,
            ResourceKind::Routes => DemandKind::Routes,
            ResourceKind::VirtualHosts => DemandKind::VirtualHost,
            _ => return,
        };
        let demands = names.map(|name| Demand { kind, name: name.into() });
        self.answered.extend(demands.filter(|demand| self.asked.contains_key(demand)));
    }

    /// These do not exist (any more): who needs them asks again.
    pub(super) fn answer_absent(&mut self, kind: ResourceKind, names: &[String]) {
        self.answer(kind, names.iter().map(String::as_str));
        for demand in self.answered.clone() {
            if ResourceKind::from(demand.kind) == kind && names.iter().any(|name| **name == *demand.name) {
                self.asked.remove(&demand);
            }
        }
    }

    /// Every connection manager's scopes.
    fn scoped_routes(&self) -> impl Iterator<Item = &ScopedRoutes> {
        let fixed = self.fixed.listeners.values().map(|one| &one.value);
        let held = self.listeners.values().map(|held| &held.value.value);
        let active = self.active_listeners.values().map(|one| &one.value);
        fixed.chain(held).chain(active).flat_map(|listener| scoped_routes(listener))
    }

    fn scopes_from<'a>(&'a self, source: &'a Source) -> impl Iterator<Item = &'a Arc<Scope>> {
        let from = self.scopes.values().filter(move |(from, _)| from.as_ref().is_none_or(|from| from == source));
        from.map(|(_, held)| &held.value)
    }

    fn has_table(&self, scope: &Scope) -> bool {
        scope.on_demand || scope.named_table().is_none_or(|name| self.routes.contains_key(name))
    }

    /// SRDS has answered, and the tables that do not wait for requests are there.
    pub(super) fn scopes_are_complete(&self, source: &Source) -> bool {
        let answered = self.scoped.contains(&Some(source.clone())) || self.scoped.contains(&None);
        answered && self.scopes_from(source).all(|scope| self.has_table(scope))
    }

    /// The scopes that serve: while a new version waits for its table, the version before.
    pub(super) fn active_scopes(&self) -> Scopes {
        let mut active = Scopes::new();
        let listeners = self.active_listeners.values().flat_map(|one| scoped_routes(&one.value));
        for source in listeners.filter_map(srds) {
            let before = self.current.scopes.get(source);
            let known = |name: &str| before?.iter().find(|scope| *scope.name == *name);
            let chosen = self.scopes_from(source).filter_map(|scope| match self.has_table(scope) {
                true => Some(scope.clone()),
                false => known(&scope.name).cloned(),
            });
            let chosen: Vec<Arc<Scope>> = chosen.collect();
            let same = |before: &&Arc<[Arc<Scope>]>| {
                before.len() == chosen.len() && before.iter().zip(&chosen).all(|(old, new)| Arc::ptr_eq(old, new))
            };
            let scopes = before.filter(same).cloned().unwrap_or_else(|| chosen.into());
            active.insert(source.clone(), scopes);
        }
        active
    }

    /// Notes what scopes refer to: those that serve, and those that are to.
    pub(super) fn refer(&mut self, active: &Scopes) {
        let mut needs = Vec::new();
        for scoped in self.scoped_routes() {
            let (Some(source), Some(tables)) = (srds(scoped), &scoped.tables) else { continue };
            let serving = active.get(source).into_iter().flat_map(|scopes| scopes.iter());
            let eager = self.scopes_from(source).chain(serving).filter(|scope| !scope.on_demand);
            let names = eager.filter_map(|scope| scope.named_table());
            let need =
                |name: &Arc<str>| Need { kind: ResourceKind::Routes, name: name.clone(), source: tables.clone() };
            needs.extend(names.map(need));
        }
        needs.sort();
        needs.dedup();
        self.scope_needs = needs;
    }

    /// Forgets virtual hosts of tables that are gone, scopes nobody uses, and demands that went with them.
    pub(super) fn prune_on_demand(&mut self) {
        let mut named: Vec<Arc<str>> = Vec::new();
        let mut sources: Vec<Source> = Vec::new();
        for scoped in self.scoped_routes() {
            match &scoped.scopes {
                ScopeSource::Inline(scopes) => named.extend(scopes.iter().filter_map(|one| one.named_table()).cloned()),
                ScopeSource::Srds(source) => {
                    named.extend(self.scopes_from(source).filter_map(|one| one.named_table()).cloned());
                    sources.push(source.clone());
                }
            }
        }
        let Resources { routes, asked, virtual_hosts, scopes, scoped, .. } = self;
        let on_demand = |name: &str| {
            let table = |at: usize| routes.get(&name[..at]).is_some_and(|held| held.value.value.more_hosts.is_some());
            name.match_indices('/').any(|(at, _)| table(at))
        };
        virtual_hosts.retain(|name, _| on_demand(name));
        asked.retain(|demand, _| match demand.kind {
            DemandKind::Cluster => true,
            DemandKind::Routes => named.contains(&demand.name),
            DemandKind::VirtualHost => on_demand(&demand.name),
        });
        scopes.retain(|_, (from, _)| from.as_ref().is_none_or(|from| sources.contains(from)));
        scoped.retain(|from| from.as_ref().is_none_or(|from| sources.contains(from)));
    }
}

fn scoped_routes(listener: &Listener) -> impl Iterator<Item = &ScopedRoutes> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains.filter_map(|chain| match &chain.filter {
        NetworkFilter::Http(manager) => match &manager.routes {
            RouteSource::Scoped(scoped) => Some(&**scoped),
            _ => None,
        },
        _ => None,
    })
}

fn srds(scoped: &ScopedRoutes) -> Option<&Source> {
    match &scoped.scopes {
        ScopeSource::Srds(source) => Some(source),
        ScopeSource::Inline(_) => None,
    }
}
