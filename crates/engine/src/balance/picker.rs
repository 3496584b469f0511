//! One policy at work on one list of hosts.

use super::adaptive::{self, Adaptive, Learned};
use super::client_weighted::{self, ClientWeighted};
use super::hashing::{Bounded, Entry, Maglev, Ring};
use super::least_request::LeastRequest;
use super::orca::Report;
use super::peak_ewma::{self, PeakEwma};
use super::round_robin::RoundRobin;
use super::{Hosts, Outcome, Pick, Record};
use model::balance::{Hashing, Policy};
use std::rc::Rc;
use std::time::Duration;

/// A policy with its state between picks, for one list of hosts and one worker.
#[derive(Clone, Debug)]
pub enum Picker {
    RoundRobin(RoundRobin),
    LeastRequest(LeastRequest),
    Random,
    Ring(Ring, Option<Bounded>),
    Maglev(Maglev, Option<Bounded>),
    PeakEwma(PeakEwma),
    ClientWeighted(ClientWeighted),
    Adaptive(Adaptive),
}

impl Picker {
    /// For `hosts` as they are at `pick.now`; when they change, another one is made. `shares` add up to 1 and replace
    /// the weights where keys are hashed.
    pub fn new(
        policy: &Policy,
        learned: &Rc<Learned>,
        hosts: &impl Hosts,
        shares: Option<&[f64]>,
        pick: &mut Pick<'_>,
    ) -> Self {
        match policy {
            Policy::RoundRobin { slow_start } => Picker::RoundRobin(RoundRobin::new(*slow_start, hosts, pick)),
            Policy::LeastRequest(config) => Picker::LeastRequest(LeastRequest::new(config.clone(), hosts, pick)),
            Policy::Random => Picker::Random,
            Policy::RingHash(config) => {
                let entries = entries(hosts, config.hashing, shares);
                Picker::Ring(Ring::new(config, &entries), bounded(config.hashing, &entries))
            }
            Policy::Maglev(config) => {
                let entries = entries(hosts, config.hashing, shares);
                Picker::Maglev(Maglev::new(config.table_size, &entries), bounded(config.hashing, &entries))
            }
            Policy::PeakEwma(config) => Picker::PeakEwma(PeakEwma::new(*config)),
            Policy::ClientWeighted(config) => {
                Picker::ClientWeighted(ClientWeighted::new((**config).clone(), hosts, pick))
            }
            Policy::Adaptive => Picker::Adaptive(Adaptive::new(learned.clone())),
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
            Picker::ClientWeighted(state) => state.pick(hosts, pick),
            Picker::Adaptive(state) => state.pick(hosts, pick),
        }
    }
}

/// A request was sent to the host of `record`.
pub fn started(policy: &Policy, record: &Record, now: Duration) {
    if *policy == Policy::Adaptive {
        adaptive::started(record, now);
    }
}

/// A request to the host of `record` ended; `active` are left in flight.
pub fn finished(policy: &Policy, learned: &Learned, record: &Record, active: u32, outcome: &Outcome, now: Duration) {
    match policy {
        Policy::PeakEwma(config) => peak_ewma::finished(config, record, outcome, now),
        Policy::Adaptive => learned.finished(record, active, outcome, now),
        _ => {}
    }
}

/// The host of `record` said how loaded it is.
pub fn reported(policy: &Policy, record: &Record, report: &Report<'_>, now: Duration) {
    if let Policy::ClientWeighted(config) = policy {
        client_weighted::reported(config, record, report, now);
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

fn entries<'h>(hosts: &'h impl Hosts, hashing: Hashing, shares: Option<&[f64]>) -> Vec<Entry<'h>> {
    let total: u64 = (0..hosts.len()).map(|host| u64::from(hosts.weight(host))).sum();
    let share = |host: usize| match shares {
        Some(shares) => shares[host],
        None => f64::from(hosts.weight(host)) / total as f64,
    };
    (0..hosts.len()).map(|host| Entry { key: hosts.key(host, hashing.use_hostname), share: share(host) }).collect()
}

fn bounded(hashing: Hashing, entries: &[Entry<'_>]) -> Option<Bounded> {
    let factor = hashing.balance_factor?;
    Some(Bounded::new(factor, entries.iter().map(|entry| entry.share).collect()))
}
