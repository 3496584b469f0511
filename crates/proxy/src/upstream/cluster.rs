//! A cluster as one worker sees it: hosts, balancer, limits.

use super::host::Host;
use super::passing::{Bound, Passing};
use crate::clock;
use crate::telemetry::ClusterStats;
use crate::tls::ClientTransport;
use engine::balance::{Hosts, Pick, Picker, Record};
use engine::resilience::budget::Budget;
use engine::resilience::outlier::{self, Sign};
use model::Refusal;
use model::cluster::Discovery;
use model::endpoint::{Assignment, Endpoint, EndpointTarget};
use model::health::ActiveHealth;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Cluster {
    pub config: Arc<model::cluster::Cluster>,
    /// For logs.
    pub name: Rc<str>,
    pub stats: Arc<ClusterStats>,
    /// Index 0 is the cluster's own transport, then one per `tls_matches` entry.
    transports: RefCell<Arc<Vec<ClientTransport>>>,
    hosts: RefCell<Rc<HostList>>,
    picker: RefCell<Picker>,
    random: RefCell<fastrand::Rng>,
    started: Instant,
    /// By priority, as are retries.
    pub active_requests: [Cell<u32>; 2],
    pub active_retries: [Cell<u32>; 2],
    retry_budget: RefCell<Budget>,
    pub connecting: Cell<u32>,
    /// Hosts of ORIGINAL_DST clusters, made when they are first wanted.
    passing: Passing,
    /// Connections begin with a PROXY protocol header and belong to one client each.
    pub speaks_for_clients: bool,
}

/// All hosts, and those that may be picked now.
#[derive(Default)]
pub struct HostList {
    pub all: Vec<Rc<Host>>,
    eligible: Vec<Rc<Host>>,
}

impl Hosts for HostList {
    fn len(&self) -> usize {
        self.eligible.len()
    }

    fn weight(&self, host: usize) -> u32 {
        self.eligible[host].endpoint.weight
    }

    fn active(&self, host: usize) -> u32 {
        self.eligible[host].active.get()
    }

    fn record(&self, host: usize) -> &Record {
        &self.eligible[host].record
    }

    fn healthy_since(&self, _: usize) -> Duration {
        Duration::ZERO
    }

    fn key(&self, host: usize, use_hostname: bool) -> &str {
        let host = &self.eligible[host];
        if use_hostname { &host.endpoint.hostname } else { &host.name }
    }
}

impl Cluster {
    pub fn new(
        config: Arc<model::cluster::Cluster>,
        stats: Arc<ClusterStats>,
        transports: Arc<Vec<ClientTransport>>,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut pick = Pick { now: Duration::ZERO, random: &mut random, hash: None, again: 0 };
        let picker = Picker::new(&config.policy, &HostList::default(), &mut pick);
        Cluster {
            speaks_for_clients: config.speaks_for_clients(),
            name: Rc::from(&*config.name),
            config,
            stats,
            transports: RefCell::new(transports),
            hosts: RefCell::default(),
            picker: RefCell::new(picker),
            random: RefCell::new(random),
            started: Instant::now(),
            active_requests: Default::default(),
            active_retries: Default::default(),
            retry_budget: RefCell::default(),
            connecting: Cell::new(0),
            passing: Passing::default(),
        }
    }

    pub fn hosts(&self) -> Rc<HostList> {
        self.hosts.borrow().clone()
    }

    /// Takes over a new list of endpoints; known ones keep their connections and records.
    pub fn assign(&self, assignment: &Assignment) {
        let old = self.hosts();
        let mut all: Vec<Rc<Host>> = Vec::new();
        for (endpoint, address) in addresses(assignment) {
            // The one endpoint of a LOGICAL_DNS cluster stays itself wherever it moves, and keeps its connections.
            let logical = matches!(self.config.discovery, Discovery::LogicalDns { .. });
            let known = old.all.iter().find(|host| logical || host.address == address);
            match known {
                Some(host) if *host.endpoint == *endpoint => all.push(host.clone()),
                Some(host) => all.push(Rc::new(successor(host, endpoint, address))),
                None => all.push(Rc::new(Host::new(endpoint, address))),
            }
        }
        for host in &old.all {
            if !host.gone.get() && !all.iter().any(|kept| kept.address == host.address) {
                host.retire();
            }
        }
        self.stats.membership_change.inc();
        self.publish(all, assignment);
    }

    fn publish(&self, all: Vec<Rc<Host>>, assignment: &Assignment) {
        self.stats.membership_total.set(all.len() as u64);
        let preferred = best_priority(&all, assignment);
        let list = HostList { eligible: self.eligible(&preferred), all };
        self.stats.membership_healthy.set(list.all.iter().filter(|host| host.usable()).count() as u64);
        self.adopt(list);
    }

    fn adopt(&self, list: HostList) {
        let random = &mut *self.random.borrow_mut();
        let mut pick = Pick { now: self.started.elapsed(), random, hash: None, again: 0 };
        *self.picker.borrow_mut() = Picker::new(&self.config.policy, &list, &mut pick);
        *self.hosts.borrow_mut() = Rc::new(list);
    }

    /// Takes over what active health checks found; an endpoint they do not know yet must not be used.
    pub fn set_health(&self, found: Option<&Arc<BTreeMap<model::Address, ActiveHealth>>>) {
        if self.config.health_check.is_none() {
            return;
        }
        let hosts = self.hosts();
        let mut changed = false;
        for host in hosts.all.iter().filter(|host| !host.endpoint.check.disabled) {
            let known = found.and_then(|found| found.get(&host.address)).copied();
            let fresh = known.unwrap_or(ActiveHealth::NEW);
            let before = host.checked.replace(fresh);
            changed |= before != fresh;
            if fresh.failed && !before.failed {
                host.fail(self.config.close_connections_on_health_failure);
            }
        }
        if changed {
            self.refresh_eligible();
        }
    }

    /// Usable hosts, or all when too few are usable to carry the load (panic).
    fn eligible(&self, hosts: &[Rc<Host>]) -> Vec<Rc<Host>> {
        let ignore_new = self.config.ignore_new_hosts_until_first_check;
        let counted = hosts.iter().filter(|host| !(ignore_new && host.checked.get().pending));
        let hosts: &[Rc<Host>] = &counted.cloned().collect::<Vec<_>>();
        let usable: Vec<Rc<Host>> = hosts.iter().filter(|host| host.usable()).cloned().collect();
        let share = usable.len() as f64 * 100.0;
        if usable.len() < hosts.len() && share < self.config.panic_threshold * hosts.len() as f64 {
            self.stats.lb_healthy_panic.inc();
            return hosts.iter().filter(|host| host.endpoint.health.usable() || usable.is_empty()).cloned().collect();
        }
        usable
    }

    fn refresh_eligible(&self) {
        let current = self.hosts();
        let list = HostList { eligible: self.eligible(&current.all), all: current.all.clone() };
        self.stats.membership_healthy.set(list.all.iter().filter(|host| host.usable()).count() as u64);
        self.adopt(list);
    }

    /// The host of a request to this cluster: the one it was going to where the cluster leaves that to it, else a
    /// picked one.
    pub fn choose(&self, tried: &[Rc<Host>], attempts: u32, bound: Bound<'_>) -> Result<Rc<Host>, Refusal> {
        match &self.config.discovery {
            Discovery::OriginalDst(config) => {
                let host = self.passing.host(config, &bound);
                host.map_err(|wrong| {
                    self.stats.original_dst_host_invalid.add(u64::from(wrong));
                    self.stats.upstream_cx_none_healthy.inc();
                    Refusal::NoHealthyUpstream
                })
            }
            _ => self.pick(tried, attempts),
        }
    }

    /// Every host, also those that were not configured.
    pub fn every_host(&self) -> Vec<Rc<Host>> {
        self.hosts().all.iter().cloned().chain(self.passing.hosts()).collect()
    }

    /// The percentage of its load that the cluster can carry.
    pub fn availability(&self) -> u32 {
        let hosts = self.hosts();
        let usable = hosts.all.iter().filter(|host| host.usable()).count();
        engine::balance::spill::availability(usable, hosts.all.len(), 140)
    }

    /// The next host, avoiding those in `tried` for up to `attempts` picks.
    pub fn pick(&self, tried: &[Rc<Host>], attempts: u32) -> Result<Rc<Host>, Refusal> {
        let hosts = self.hosts();
        let mut picker = self.picker.borrow_mut();
        let random = &mut *self.random.borrow_mut();
        let mut pick = Pick { now: clock::since(self.started), random, hash: None, again: 0 };
        let mut draw = || picker.pick(&*hosts, &mut pick).map(|index| hosts.eligible[index].clone());
        let Some(mut host) = draw() else {
            self.stats.upstream_cx_none_healthy.inc();
            return Err(Refusal::NoHealthyUpstream);
        };
        if tried.is_empty() {
            return Ok(host);
        }
        for _ in 1..attempts.max(1) {
            if !tried.iter().any(|other| Rc::ptr_eq(other, &host)) {
                return Ok(host);
            }
            host = draw().unwrap_or(host);
        }
        // The draws were unlucky: any host not tried yet, else the last one drawn.
        let untried = hosts.eligible.iter().find(|host| !tried.iter().any(|other| Rc::ptr_eq(other, host)));
        Ok(untried.cloned().unwrap_or(host))
    }

    /// A new request pays into the retry budget.
    pub fn deposit_retry(&self) {
        self.retry_budget.borrow_mut().deposit();
    }

    pub fn withdraw_retry(&self) -> bool {
        self.retry_budget.borrow_mut().withdraw(self.started.elapsed())
    }

    /// Records what a request said about `host`; ejects it when it keeps failing.
    pub fn note(&self, host: &Rc<Host>, sign: Sign) {
        let bad = !matches!(sign, Sign::ConnectOk) && !matches!(sign, Sign::Status(status) if status < 500);
        if bad {
            host.errors.set(host.errors.get() + 1);
        }
        let Some(config) = &self.config.outlier else { return };
        let eject = host.outlier.borrow_mut().note(config, sign);
        if !eject || host.outlier.borrow().is_ejected() {
            return;
        }
        let hosts = self.hosts();
        let ejected = hosts.all.iter().filter(|host| host.outlier.borrow().is_ejected()).count();
        if outlier::may_eject(config, ejected, hosts.all.len()) {
            host.outlier.borrow_mut().eject(config, self.started.elapsed());
            self.stats.outlier_detection_ejections_enforced_total.inc();
            self.stats.outlier_detection_ejections_active.inc();
            self.refresh_eligible();
        }
    }

    /// Lets ejected hosts return and closes idle connections.
    pub fn tick(&self, now: Instant) {
        if let Discovery::OriginalDst(config) = &self.config.discovery {
            self.passing.tick(now, config.cleanup, self.config.idle_timeout);
            return;
        }
        let hosts = self.hosts();
        let mut changed = false;
        for host in &hosts.all {
            if self.config.outlier.is_some() && host.outlier.borrow_mut().tick(self.started.elapsed()) {
                self.stats.outlier_detection_ejections_active.dec();
                changed = true;
            }
            let closed = host.sweep(now, self.config.idle_timeout);
            self.stats.upstream_cx_idle_timeout.add(closed as u64);
        }
        if changed {
            self.refresh_eligible();
        }
    }

    /// How often `tick` wants to be called.
    pub fn interval(&self) -> Duration {
        self.config.outlier.as_ref().map_or(Duration::from_secs(1), |outlier| outlier.interval)
    }

    /// The transport for `endpoint`: the first match its metadata satisfies.
    pub fn transport(&self, endpoint: &Endpoint) -> ClientTransport {
        let satisfied = |criteria: &[(Box<str>, Box<str>)]| {
            criteria.iter().all(|wanted| endpoint.socket_match.iter().any(|found| found == wanted))
        };
        let found = self.config.tls_matches.iter().position(|entry| satisfied(&entry.criteria));
        self.transports.borrow()[found.map_or(0, |index| index + 1)].clone()
    }

    /// New certificates or trust: for connections from now on.
    pub fn set_transports(&self, transports: Arc<Vec<ClientTransport>>) {
        *self.transports.borrow_mut() = transports;
    }

    /// Closes all pooled connections: the cluster was removed or replaced.
    pub fn retire(&self) {
        for host in self.every_host() {
            host.retire();
        }
    }
}

/// A host whose endpoint changed in weight, health or metadata.
fn successor(old: &Rc<Host>, endpoint: Arc<Endpoint>, address: model::Address) -> Host {
    let host = Host { connections: old.connections.clone(), ..Host::new(endpoint, address) };
    *host.outlier.borrow_mut() = old.outlier.borrow().clone();
    host.active.set(old.active.get());
    host.idle.swap(&old.idle);
    host.h2.swap(&old.h2);
    host.requests.set(old.requests.get());
    host.errors.set(old.errors.get());
    old.gone.set(true);
    host
}

fn addresses(assignment: &Assignment) -> Vec<(Arc<Endpoint>, model::Address)> {
    let resolved = |endpoint: &Arc<Endpoint>| match &endpoint.target {
        EndpointTarget::Address(address) => Some((endpoint.clone(), address.clone())),
        EndpointTarget::Name(_) => None,
    };
    assignment.endpoints().filter_map(resolved).collect()
}

/// The hosts of the first priority that has a usable one.
fn best_priority(all: &[Rc<Host>], assignment: &Assignment) -> Vec<Rc<Host>> {
    let mut priorities: Vec<u32> = assignment.localities.iter().map(|locality| locality.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let at = |priority: u32| -> Vec<Rc<Host>> {
        let endpoints =
            || assignment.localities.iter().filter(|l| l.priority == priority).flat_map(|l| l.endpoints.iter());
        all.iter().filter(|host| endpoints().any(|endpoint| *endpoint == host.endpoint)).cloned().collect()
    };
    priorities
        .iter()
        .map(|&priority| at(priority))
        .find(|hosts| hosts.iter().any(|host| host.usable()))
        .unwrap_or_else(|| all.to_vec())
}
