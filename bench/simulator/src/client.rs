//! A client: one worker of a proxy, with a balancer of its own.

use crate::Nanos;
use engine::balance::{self, Hosts, Learned, Outcome, Pick, Picker, Record};
use model::balance::Policy;
use std::rc::Rc;
use std::time::Duration;

pub struct Client {
    policy: Policy,
    learned: Rc<Learned>,
    picker: Picker,
    hosts: List,
    random: fastrand::Rng,
}

struct List(Vec<Host>);

#[derive(Clone, Default)]
struct Host {
    active: u32,
    record: Record,
}

impl Hosts for List {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, _: usize) -> u32 {
        1
    }

    fn active(&self, host: usize) -> u32 {
        self.0[host].active
    }

    fn record(&self, host: usize) -> &Record {
        &self.0[host].record
    }

    fn healthy_since(&self, _: usize) -> Duration {
        Duration::ZERO
    }

    fn key(&self, _: usize, _: bool) -> &str {
        ""
    }
}

impl Client {
    pub fn new(policy: &Policy, hosts: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let hosts = List(vec![Host::default(); hosts]);
        let learned = Rc::default();
        let picker = Picker::new(policy, &learned, &hosts, None, &mut pick(0, &mut random));
        Client { policy: policy.clone(), learned, picker, hosts, random }
    }

    /// Picks a host and counts a request to it.
    pub fn send(&mut self, now: Nanos) -> usize {
        let host = self.picker.pick(&self.hosts, &mut pick(now, &mut self.random)).expect("there are hosts");
        self.hosts.0[host].active += 1;
        balance::started(&self.policy, &self.hosts.0[host].record, Duration::from_nanos(now));
        host
    }

    pub fn finished(&mut self, now: Nanos, host: usize, outcome: &Outcome) {
        self.hosts.0[host].active -= 1;
        let chosen = &self.hosts.0[host];
        let now = Duration::from_nanos(now);
        balance::finished(&self.policy, &self.learned, &chosen.record, chosen.active, outcome, now);
    }
}

fn pick(now: Nanos, random: &mut fastrand::Rng) -> Pick<'_> {
    Pick::any(Duration::from_nanos(now), random)
}
