//! A cluster as one worker sees it: hosts, balancer, limits.

use super::host::Host;
use super::hosts::{Found, HostList, found_of};
use super::passing::{Bound, Passing};
use crate::clock;
use crate::telemetry::ClusterStats;
use crate::tls::ClientTransport;
use engine::balance::zones::{Peers, Step, Unrouted};
use engine::balance::{
    self, Availability, Balancer, Ending, Hosts, Layout, Learned, Notes, Outcome, Pick, Rules, SubsetStep,
};
use engine::resilience::budget::Budget;
use model::Refusal;
use model::balance::{Metadata, Policy};
use model::cluster::Discovery;
use model::endpoint::{Assignment, Endpoint};
use model::health::{News, Report};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub struct Cluster {
    pub config: Arc<model::cluster::Cluster>,
    /// For logs.
    pub name: Rc<str>,
    pub stats: Arc<ClusterStats>,
    /// Index 0 is the cluster's own transport, then one per `tls_matches` entry.
    transports: RefCell<Arc<Vec<ClientTransport>>>,
    /// What the hosts come from.
    assignment: RefCell<Option<Arc<Assignment>>>,
    hosts: RefCell<Rc<HostList>>,
    balancer: RefCell<Balancer>,
    learned: Rc<Learned>,
    /// The proxies that are like this one, for zone-aware balancing.
    peers: RefCell<Option<Rc<Peers>>>,
    random: RefCell<fastrand::Rng>,
    started: Instant,
    pub(super) next_detection: Cell<Duration>,
    /// By priority, as are retries.
    pub active_requests: [Cell<u32>; 2],
    pub active_retries: [Cell<u32>; 2],
    retry_budget: RefCell<Budget>,
    pub connecting: Cell<u32>,
    /// Hosts of ORIGINAL_DST clusters, made when they are first wanted.
    passing: Passing,
    /// Where to say what endpoints say of their health.
    reports: RefCell<Option<mpsc::UnboundedSender<Report>>>,
    /// Connections begin with a PROXY protocol header and belong to one client each.
    pub speaks_for_clients: bool,
}

/// What a request wants of its host.
#[derive(Default)]
pub struct Want<'a> {
    /// For hashing balancers.
    pub hash: Option<u64>,
    /// The route's `metadata_match`.
    pub subset: &'a Metadata,
    /// How often another host is picked, if the first is not wanted.
    pub attempts: u32,
    /// Priorities that earlier attempts used (`previous_priorities`).
    pub tried_priorities: Option<&'a mut Vec<u32>>,
}

impl Cluster {
    pub fn new(
        config: Arc<model::cluster::Cluster>,
        stats: Arc<ClusterStats>,
        transports: Arc<Vec<ClientTransport>>,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let learned: Rc<Learned> = Rc::default();
        let rules = rules(&config, &learned, None);
        let mut pick = Pick::any(Duration::ZERO, &mut random);
        let balancer =
            Balancer::new(&rules, config.subsets.as_deref(), &Layout::default(), &HostList::default(), &mut pick);
        let next_detection = config.outlier.as_ref().map(|outlier| outlier.interval).unwrap_or_default();
        Cluster {
            speaks_for_clients: config.speaks_for_clients(),
            name: Rc::from(&*config.name),
            config,
            stats,
            transports: RefCell::new(transports),
            assignment: RefCell::default(),
            hosts: RefCell::default(),
            balancer: RefCell::new(balancer),
            learned,
            peers: RefCell::default(),
            random: RefCell::new(random),
            started: Instant::now(),
            next_detection: Cell::new(next_detection),
            active_requests: Default::default(),
            active_retries: Default::default(),
            retry_budget: RefCell::default(),
            connecting: Cell::new(0),
            passing: Passing::default(),
            reports: RefCell::default(),
        }
    }

    pub fn hosts(&self) -> Rc<HostList> {
        self.hosts.borrow().clone()
    }

    /// The cluster's clock.
    pub(super) fn now(&self) -> Duration {
        clock::since(self.started)
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn random_unit(&self) -> f64 {
        self.random.borrow_mut().f64()
    }

    /// Takes over a new list of endpoints; known ones keep their connections and records.
    pub fn assign(&self, assignment: &Arc<Assignment>) {
        if self.assignment.borrow().as_ref().is_some_and(|known| Arc::ptr_eq(known, assignment)) {
            return;
        }
        *self.assignment.borrow_mut() = Some(assignment.clone());
        let list = HostList::new(assignment, &self.hosts(), &self.config);
        self.stats.membership_change.inc();
        *self.hosts.borrow_mut() = Rc::new(list);
        self.refresh_eligible();
    }

    /// The proxies that are like this one, or their health, changed.
    pub fn set_peers(&self, peers: Option<&Rc<Peers>>) {
        if self.peers.borrow().as_deref() != peers.map(|peers| &**peers) {
            *self.peers.borrow_mut() = peers.cloned();
            self.rebuild();
        }
    }

    /// This cluster's hosts as the proxies that are like this one, which is in `own`.
    pub fn as_peers(&self, own: &model::endpoint::Locality) -> Peers {
        self.hosts().peers(own, self.config.panic_threshold.round() as u32)
    }

    /// Takes over what active health checks found; an endpoint they do not know yet must not be used.
    pub fn set_health(&self, found: Option<&Found>) {
        if self.config.health_check.is_none() {
            return;
        }
        let hosts = self.hosts();
        let mut changed = false;
        for host in hosts.all.iter().filter(|host| host.endpoint.is_checked()) {
            let fresh = found_of(found, host);
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

    pub fn set_reports(&self, reports: Option<mpsc::UnboundedSender<Report>>) {
        if self.config.health_check.is_some() {
            *self.reports.borrow_mut() = reports;
        }
    }

    /// Heeds what a response says of the endpoint's health, where checks can find it well again.
    pub fn heed(&self, host: &Host, response: &engine::Head) {
        if self.config.health_check.is_none() || response.get(b"x-envoy-immediate-health-check-fail").is_none() {
            return;
        }
        if let Some(reports) = &*self.reports.borrow() {
            let (cluster, address) = (self.config.name.clone(), host.address.clone());
            // Nobody listens any more when the process ends.
            let _ = reports.send(Report { cluster, address, news: News::SaidUnwell });
        }
    }

    /// The health of hosts changed.
    pub fn refresh_eligible(&self) {
        let (mut healthy, mut degraded) = (0, 0);
        let hosts = self.hosts();
        for host in &hosts.all {
            let availability = host.availability();
            healthy += u64::from(availability == Availability::Healthy);
            degraded += u64::from(availability == Availability::Degraded);
            let since = host.healthy_since.get();
            host.healthy_since.set((availability == Availability::Healthy).then(|| since.unwrap_or(self.now())));
        }
        self.stats.membership_total.set(hosts.all.len() as u64);
        self.stats.membership_healthy.set(healthy);
        self.stats.membership_degraded.set(degraded);
        self.rebuild();
    }

    fn rebuild(&self) {
        let hosts = self.hosts();
        let random = &mut *self.random.borrow_mut();
        let peers = self.peers.borrow();
        let rules = rules(&self.config, &self.learned, peers.as_deref());
        let mut pick = Pick::any(self.now(), random);
        let balancer = Balancer::new(&rules, self.config.subsets.as_deref(), &hosts.layout, &*hosts, &mut pick);
        self.stats.lb_subsets_active.set(balancer.subsets() as u64);
        if peers.is_some() {
            self.stats.lb_recalculate_zone_structures.inc();
        }
        match balancer.unrouted() {
            Some(Unrouted::PeersNotOk) => self.stats.lb_local_cluster_not_ok.inc(),
            Some(Unrouted::TooSmall) => self.stats.lb_zone_cluster_too_small.inc(),
            Some(Unrouted::OneZone) | None => {}
        }
        *self.balancer.borrow_mut() = balancer;
    }

    /// The host of a request to this cluster: the one it was going to where the cluster leaves that to it, else a
    /// picked one, with its priority.
    pub fn choose(
        &self,
        want: Want<'_>,
        bound: Bound<'_>,
        unwanted: impl Fn(&Rc<Host>) -> bool,
    ) -> Result<(Rc<Host>, u32), Refusal> {
        match &self.config.discovery {
            Discovery::OriginalDst(config) => {
                let host = self.passing.host(config, &bound);
                host.map(|host| (host, 0)).map_err(|wrong| {
                    self.stats.original_dst_host_invalid.add(u64::from(wrong));
                    self.stats.upstream_cx_none_healthy.inc();
                    Refusal::NoHealthyUpstream
                })
            }
            _ => self.pick_for(want, unwanted),
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

    /// The next host, avoiding those in `tried` for up to `attempts` more picks.
    pub fn pick(&self, tried: &[Rc<Host>], attempts: u32) -> Result<Rc<Host>, Refusal> {
        let unwanted = |host: &Rc<Host>| tried.iter().any(|other| Rc::ptr_eq(other, host));
        self.pick_for(Want { attempts, ..Want::default() }, unwanted).map(|(host, _)| host)
    }

    /// The next host and its priority; an `unwanted` one only when no more picks are left.
    pub fn pick_for(
        &self,
        mut want: Want<'_>,
        unwanted: impl Fn(&Rc<Host>) -> bool,
    ) -> Result<(Rc<Host>, u32), Refusal> {
        let hosts = self.hosts();
        let mut balancer = self.balancer.borrow_mut();
        let random = &mut *self.random.borrow_mut();
        let now = self.now();
        let mut found = None;
        for again in 0..=want.attempts {
            let tried = want.tried_priorities.as_deref_mut();
            let mut pick = Pick { hash: want.hash, again, subset: want.subset, tried, ..Pick::any(now, random) };
            found = balancer.pick(&*hosts, &mut pick);
            self.count(pick.notes);
            if found.is_none_or(|host| !unwanted(&hosts.all[host])) {
                break;
            }
        }
        let Some(mut host) = found else {
            self.stats.upstream_cx_none_healthy.inc();
            return Err(Refusal::NoHealthyUpstream);
        };
        if unwanted(&hosts.all[host]) && want.subset.is_empty() && !self.config.policy.is_hashing() {
            // The draws were unlucky: any other as good.
            let as_good = |other: &usize| {
                hosts.place(*other) == hosts.place(host)
                    && hosts.availability(*other) == hosts.availability(host)
                    && !unwanted(&hosts.all[*other])
            };
            host = (0..hosts.len()).find(as_good).unwrap_or(host);
        }
        Ok((hosts.all[host].clone(), hosts.priority(host)))
    }

    fn count(&self, notes: Notes) {
        let stats = &self.stats;
        if notes.panic {
            stats.lb_healthy_panic.inc();
        }
        match notes.zone {
            Step::None => {}
            Step::PeersNotOk => stats.lb_local_cluster_not_ok.inc(),
            Step::AllDirectly => stats.lb_zone_routing_all_directly.inc(),
            Step::Sampled => stats.lb_zone_routing_sampled.inc(),
            Step::CrossZone => stats.lb_zone_routing_cross_zone.inc(),
            Step::NoCapacityLeft => {
                stats.lb_zone_routing_cross_zone.inc();
                stats.lb_zone_no_capacity_left.inc();
            }
        }
        match notes.subset {
            SubsetStep::None => {}
            SubsetStep::Selected => stats.lb_subsets_selected.inc(),
            SubsetStep::FellBack => stats.lb_subsets_fallback.inc(),
            SubsetStep::FellBackInPanic => stats.lb_subsets_fallback_panic.inc(),
        }
    }

    /// Hosts are asked how loaded they are: by our own policy, inside a mesh.
    pub fn asks_load(&self) -> bool {
        let tls = self.config.tls.is_some() || !self.config.tls_matches.is_empty();
        tls && self.config.policy == Policy::Adaptive
    }

    /// A request was sent to `host`.
    pub fn sent(&self, host: &Host) {
        self.begin_probe(host);
        if self.config.policy.wants_outcomes() {
            balance::started(&self.config.policy, &host.record, self.now());
        }
    }

    /// Its answer came, or will not come.
    pub fn answered(&self, host: &Host, outcome: &Outcome) {
        if outcome.ending == Ending::Abandoned {
            self.end_probe(host);
        }
        if self.config.policy.wants_outcomes() {
            let active = host.active.get().saturating_sub(1);
            balance::finished(&self.config.policy, &self.learned, &host.record, active, outcome, self.now());
        }
    }

    /// A new request pays into the retry budget.
    pub fn deposit_retry(&self) {
        self.retry_budget.borrow_mut().deposit();
    }

    pub fn withdraw_retry(&self) -> bool {
        self.retry_budget.borrow_mut().withdraw(self.started.elapsed())
    }

    /// Closes idle connections.
    pub fn tick(&self, now: Instant) {
        if let Discovery::OriginalDst(config) = &self.config.discovery {
            self.passing.tick(now, config.cleanup, self.config.idle_timeout);
            return;
        }
        for host in &self.hosts().all {
            let closed = host.sweep(now, self.config.idle_timeout);
            self.stats.upstream_cx_idle_timeout.add(closed as u64);
        }
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

fn rules<'a>(config: &'a model::cluster::Cluster, learned: &'a Rc<Learned>, peers: Option<&'a Peers>) -> Rules<'a> {
    Rules {
        policy: &config.policy,
        localities: &config.localities,
        panic_threshold: config.panic_threshold.round() as u32,
        learned,
        peers,
    }
}
