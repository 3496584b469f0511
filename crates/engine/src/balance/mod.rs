//! Picks a host. Everything that varies is an argument: hosts are seen through [`Hosts`], time and random numbers
//! come with each [`Pick`].
//!
//! `Picker` is one policy at work on one list of hosts; a file each holds the policies.

pub mod adaptive;
pub mod hashing;
pub mod least_request;
pub mod peak_ewma;
pub mod record;
pub mod round_robin;
pub mod schedule;
pub mod slow_start;
pub mod spill;

pub use record::{Ending, Outcome, Record};

use adaptive::Adaptive;
use hashing::{Bounded, Entry, Maglev, Ring};
use least_request::LeastRequest;
use model::balance::{Hashing, Policy};
use peak_ewma::PeakEwma;
use round_robin::RoundRobin;
use std::time::Duration;

/// The hosts to pick from, by index.
pub trait Hosts {
    fn len(&self) -> usize;
    /// At least 1.
    fn weight(&self, host: usize) -> u32;
    /// Requests in flight from this worker.
    fn active(&self, host: usize) -> u32;
    fn record(&self, host: usize) -> &Record;
    /// When the host was added or became healthy again, on the clock of [`Pick::now`].
    fn healthy_since(&self, host: usize) -> Duration;
    /// What consistent hashing knows the host by: the `hash_key` of its metadata, its host name or its address.
    fn key(&self, host: usize, use_hostname: bool) -> &str;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One request's wish.
pub struct Pick<'a> {
    /// Since any fixed moment.
    pub now: Duration,
    pub random: &'a mut fastrand::Rng,
    /// What the route's hash policy made of the request.
    pub hash: Option<u64>,
    /// How many hosts were picked for this attempt already and were not wanted.
    pub again: u32,
}

/// A policy with its state between picks, for one list of hosts and one worker.
#[derive(Clone, Debug)]
pub enum Picker {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random,
    Ring(Ring, Option<Bounded>),
    Maglev(Maglev, Option<Bounded>),
    PeakEwma(PeakEwma),
    Adaptive(Adaptive),
}

impl Picker {
    /// For `hosts` as they are at `pick.now`; when they change, another one is made.
    pub fn new(policy: &Policy, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Self {
        match policy {
            Policy::RoundRobin { slow_start } => Picker::RoundRobin(RoundRobin::new(*slow_start, hosts, pick)),
            Policy::LeastRequest(config) => Picker::LeastRequest(LeastRequest::new(config.clone(), hosts, pick)),
            Policy::Random => Picker::Random,
            Policy::RingHash(config) => {
                let entries = entries(hosts, config.hashing);
                Picker::Ring(Ring::new(config, &entries), bounded(config.hashing, &entries))
            }
            Policy::Maglev(config) => {
                let entries = entries(hosts, config.hashing);
                Picker::Maglev(Maglev::new(config.table_size, &entries), bounded(config.hashing, &entries))
            }
            Policy::PeakEwma(config) => Picker::PeakEwma(PeakEwma::new(*config)),
            Policy::Adaptive => Picker::Adaptive(Adaptive::new(hosts)),
        }
    }

    /// Index of the next host; `None` when there is none.
    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        if hosts.is_empty() {
            return None;
        }
        match self {
            Picker::RoundRobin(state) => state.pick(hosts, pick),
            Picker::LeastRequest(state) => state.pick(hosts, pick),
            Picker::Random => Some(pick.random.usize(..hosts.len())),
            Picker::Ring(ring, bounded) => within_bounds(bounded, hosts, pick, |key, again| ring.choose(key, again)),
            Picker::Maglev(table, bounded) => {
                within_bounds(bounded, hosts, pick, |key, again| table.choose(key, again))
            }
            Picker::PeakEwma(state) => state.pick(hosts, pick),
            Picker::Adaptive(state) => state.pick(hosts, pick),
        }
    }

    /// A request was sent to the host of `record`.
    pub fn started(&self, record: &Record, now: Duration) {
        if let Picker::Adaptive(state) = self {
            state.started(record, now);
        }
    }

    /// A request to the host of `record` ended; `active` are left in flight.
    pub fn finished(&self, record: &Record, active: u32, outcome: &Outcome, now: Duration) {
        match self {
            Picker::PeakEwma(state) => state.finished(record, outcome, now),
            Picker::Adaptive(state) => state.finished(record, active, outcome, now),
            _ => {}
        }
    }
}

/// Without a hash, any key will do.
fn within_bounds(
    bounded: &Option<Bounded>,
    hosts: &impl Hosts,
    pick: &mut Pick<'_>,
    choose: impl FnOnce(u64, u32) -> Option<usize>,
) -> Option<usize> {
    let key = pick.hash.unwrap_or_else(|| pick.random.u64(..));
    let first = choose(key, pick.again)?;
    Some(match bounded {
        Some(bounded) => bounded.choose(first, key, |host| hosts.active(host)),
        None => first,
    })
}

fn entries(hosts: &impl Hosts, hashing: Hashing) -> Vec<Entry<'_>> {
    let total: u64 = (0..hosts.len()).map(|host| u64::from(hosts.weight(host))).sum();
    let share = |host: usize| f64::from(hosts.weight(host)) / total as f64;
    (0..hosts.len()).map(|host| Entry { key: hosts.key(host, hashing.use_hostname), share: share(host) }).collect()
}

fn bounded(hashing: Hashing, entries: &[Entry<'_>]) -> Option<Bounded> {
    let factor = hashing.balance_factor?;
    Some(Bounded::new(factor, entries.iter().map(|entry| entry.share).collect()))
}

fn equal_weights(hosts: &impl Hosts) -> bool {
    (1..hosts.len()).all(|host| hosts.weight(host) == hosts.weight(0))
}
