//! Takes over a new snapshot: what did not change stays, with its connections and counters.

use super::demand::Asking;
use super::drain::Drain;
use super::filters::FilterState;
use super::guard::{GuardService, Guards};
use super::scopes::{ScopedTables, Scopes, Tables};
use super::service::{ChainService, HttpService, ListenerService, Routes, ServiceKind, TcpService};
use super::worker::{Slot, Worker};
use crate::telemetry::AccessLogger;
use crate::telemetry::stats::Owner;
use crate::tls::ServerTransport;
use crate::tls::prepare::Transports;
use model::Snapshot;
use model::access_log::AccessLog;
use model::cluster::Discovery;
use model::demand::Source;
use model::endpoint::Assignment;
use model::health::{HealthTable, Report};
use model::http::{HttpManager, RouteSource};
use model::listener::{FilterChain, Listener, NetworkFilter};
use model::scope::{ScopeSource, ScopedRoutes};

use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the main thread hands to every worker.
#[derive(Clone)]
pub struct Update {
    pub snapshot: Arc<Snapshot>,
    pub transports: Arc<Transports>,
    pub health: Arc<HealthTable>,
    /// Where to say what endpoints say of their health.
    pub reports: Option<mpsc::UnboundedSender<Report>>,
    /// What workers share of network filters.
    pub guards: Arc<Guards>,
    /// Where to ask for what is missing.
    pub asking: Option<Asking>,
}

/// A listener that needs sockets, or lost them.
pub enum Change {
    Added(Rc<Slot>, Arc<Listener>),
    Removed(Rc<Slot>),
}

impl Worker {
    /// Adopts `update`; returns the listeners whose sockets must be opened or closed.
    pub fn adopt(&self, update: &Update) -> Vec<Change> {
        self.adopt_clusters(update);
        self.zone.replace(update.snapshot.zone.clone());
        self.tell_peers();
        for (name, table) in &update.snapshot.routes {
            self.routes_named(name, table);
        }
        for (source, list) in &update.snapshot.scopes {
            self.scopes_from(source).adopt(self, list, &update.snapshot);
        }
        self.demands.set_asking(update.asking.clone());
        let changes = self.adopt_listeners(update);
        self.demands.look_again();
        changes
    }

    fn scopes_from(&self, source: &Source) -> Rc<Scopes> {
        self.scopes.borrow_mut().entry(source.clone()).or_default().clone()
    }

    pub(super) fn routes_named(&self, name: &Arc<str>, table: &Arc<model::route::RouteTable>) -> Rc<Routes> {
        let mut routes = self.routes.borrow_mut();
        match routes.get(name) {
            Some(known) => {
                if !Arc::ptr_eq(&known.current(), table) {
                    known.replace(table.clone());
                }
                known.clone()
            }
            None => {
                let fresh = Rc::new(Routes::new(table.clone()));
                routes.insert(name.clone(), fresh.clone());
                fresh
            }
        }
    }

    fn adopt_listeners(&self, update: &Update) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut listeners = self.listeners.borrow_mut();
        let wanted = &update.snapshot.listeners;
        listeners.retain(|name, slot| {
            let stays = wanted.get(name).is_some_and(|new| same_sockets(new, &slot.current.borrow().config));
            if !stays {
                self.leave(slot.current.borrow().clone());
                changes.push(Change::Removed(slot.clone()));
            }
            stays
        });
        for (name, config) in wanted {
            match listeners.get(name) {
                Some(slot) if slot.current.borrow().config.hash == config.hash => {
                    renew_transports(&slot.current.borrow(), update);
                }
                Some(slot) => {
                    let fresh = Rc::new(self.listener(config, update));
                    let old = slot.current.replace(fresh);
                    self.leave(old);
                }
                None => {
                    let fresh = Rc::new(self.listener(config, update));
                    let slot = Rc::new(Slot { current: fresh.into(), tasks: Default::default() });
                    listeners.insert(name.clone(), slot.clone());
                    changes.push(Change::Added(slot, config.clone()));
                }
            }
        }
        changes
    }

    /// Connections of an old version finish what they have under way.
    fn leave(&self, listener: Rc<ListenerService>) {
        listener.drain.start();
        self.leaving.borrow_mut().push(listener);
    }

    fn listener(&self, config: &Arc<Listener>, update: &Update) -> ListenerService {
        let drain: Rc<Drain> = Rc::default();
        let name = config.stat_prefix.as_deref().map_or_else(|| config.address.to_string(), str::to_string);
        let chains = config.chains.iter().chain(&config.default_chain);
        let chains = chains.enumerate().map(|(index, chain)| {
            let transport = transport(update, config, index);
            Rc::new(ChainService {
                chain: chain.clone(),
                guards: self.guards(config, index, update),
                transport: transport.into(),
                kind: self.kind(chain, update, &drain, !config.bypass_overload),
            })
        });
        ListenerService {
            chains: chains.collect(),
            stats: self.registry.add(Owner::Listener(name.into())),
            config: config.clone(),
            drain,
        }
    }

    fn guards(&self, listener: &Listener, index: usize, update: &Update) -> Vec<GuardService> {
        let chain = listener.chains.iter().chain(&listener.default_chain).nth(index);
        let place = format!("{} {index}", listener.name);
        let all = chain.iter().flat_map(|chain| &chain.guards);
        all.map(|guard| GuardService::new(guard, &place, &update.guards, &self.registry)).collect()
    }

    fn kind(&self, chain: &FilterChain, update: &Update, drain: &Rc<Drain>, sheds: bool) -> ServiceKind {
        match &chain.filter {
            NetworkFilter::Http(manager) => {
                ServiceKind::Http(Rc::new(HttpService { sheds, ..self.http(manager, update, drain) }))
            }
            NetworkFilter::Tcp(config) => ServiceKind::Tcp(Rc::new(TcpService {
                config: config.clone(),
                stats: self.registry.add(Owner::Tcp(config.stat_prefix.as_ref().into())),
                logs: self.loggers(&config.access_logs),
                drain: drain.clone(),
            })),
            NetworkFilter::Close => ServiceKind::Close,
        }
    }

    fn http(&self, manager: &Arc<HttpManager>, update: &Update, drain: &Rc<Drain>) -> HttpService {
        let routes = match &manager.routes {
            RouteSource::Inline(table) => Tables::One(Rc::new(Routes::new(table.clone()))),
            RouteSource::Rds(name) => {
                let table = update.snapshot.routes.get(name).cloned().unwrap_or_default();
                Tables::One(self.routes_named(name, &table))
            }
            RouteSource::Scoped(config) => Tables::Scoped(ScopedTables::new(config, self.scopes(config, update))),
        };
        HttpService {
            sheds: true,
            manager: manager.clone(),
            routes,
            filters: manager.filters.iter().map(FilterState::new).collect(),
            stats: self.registry.add(Owner::Http(manager.stat_prefix.as_ref().into())),
            logs: self.loggers(&manager.access_logs),
            drain: drain.clone(),
        }
    }

    fn scopes(&self, config: &ScopedRoutes, update: &Update) -> Rc<Scopes> {
        match &config.scopes {
            ScopeSource::Srds(source) => self.scopes_from(source),
            ScopeSource::Inline(list) => {
                let scopes: Rc<Scopes> = Rc::default();
                scopes.adopt(self, list, &update.snapshot);
                scopes
            }
        }
    }

    /// A log that cannot be opened is reported and left out; it must not stop traffic.
    fn loggers(&self, configs: &[Arc<AccessLog>]) -> Vec<AccessLogger> {
        let open = |config: &Arc<AccessLog>| match self.output(&config.sink) {
            Ok(output) => Some(AccessLogger::new(config.clone(), output)),
            Err(error) => {
                tracing::error!(sink = ?config.sink, %error, "access log cannot be opened; its lines are lost");
                None
            }
        };
        configs.iter().filter_map(open).collect()
    }
}

fn same_sockets(new: &Listener, old: &Listener) -> bool {
    new.address == old.address && new.additional_addresses == old.additional_addresses && new.socket == old.socket
}

fn transport(update: &Update, listener: &Listener, chain: usize) -> ServerTransport {
    let found = update.transports.servers.get(&listener.name).and_then(|chains| chains.get(chain));
    found.cloned().unwrap_or(ServerTransport::Plain)
}

fn renew_transports(listener: &ListenerService, update: &Update) {
    for (index, chain) in listener.chains.iter().enumerate() {
        *chain.transport.borrow_mut() = transport(update, &listener.config, index);
    }
}

/// The endpoints that belong to a cluster now; `None` while nothing is known.
pub fn assignment(snapshot: &Snapshot, cluster: &model::cluster::Cluster) -> Option<Arc<Assignment>> {
    let settled = cluster.health_check.is_some().then(|| snapshot.assignments.get(&settled_key(&cluster.name)));
    settled.flatten().cloned().or_else(|| discovered(snapshot, cluster))
}

/// The same without what active health checks hold on to.
pub fn discovered(snapshot: &Snapshot, cluster: &model::cluster::Cluster) -> Option<Arc<Assignment>> {
    match &cluster.discovery {
        Discovery::Static(assignment) => Some(assignment.clone()),
        Discovery::StrictDns { .. } | Discovery::LogicalDns { .. } => {
            snapshot.assignments.get(&dns_key(&cluster.name)).cloned()
        }
        Discovery::OriginalDst(_) | Discovery::Aggregate(_) => None,
        Discovery::Eds(name) => snapshot.assignments.get(name).cloned(),
    }
}

/// Where endpoints stand that discovery dropped and health checks still find well.
pub fn settled_key(cluster: &str) -> Arc<str> {
    format!("settled://{cluster}").into()
}

/// Where the resolver puts what it found for a STRICT_DNS cluster; no EDS name begins like this.
pub fn dns_key(cluster: &str) -> Arc<str> {
    format!("dns://{cluster}").into()
}
