//! Picks a host. Everything that varies is an argument: hosts are seen through [`Hosts`], time and random numbers
//! come with each [`Pick`].
//!
//! A [`Balancer`] is made when hosts or their health change; after that a pick costs a few look-ups:
//!
//! ```text
//! Balancer      which subset of the hosts                 subsets
//! Priorities    which priority, locality, and health      loads, zones
//! Picker        which host of those                       a file for each policy
//! ```

pub mod adaptive;
mod balancer;
pub mod client_weighted;
pub mod hashing;
pub mod least_request;
pub mod loads;
pub mod orca;
pub mod peak_ewma;
mod picker;
mod priorities;
pub mod record;
pub mod round_robin;
pub mod schedule;
pub mod slow_start;
pub mod spill;
mod subsets;
pub mod zones;

pub use adaptive::Learned;
pub use balancer::Balancer;
pub use picker::{Picker, finished, reported, started};
pub use priorities::{Layout, Place, Priorities, Rules};
pub use record::{Ending, Outcome, Record};

use model::balance::Metadata;
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
    fn availability(&self, _host: usize) -> Availability {
        Availability::Healthy
    }
    /// Its place in [`Layout::places`].
    fn place(&self, _host: usize) -> usize {
        0
    }
    /// What subsets are made by.
    fn metadata(&self, _host: usize) -> &Metadata {
        &[]
    }
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What may be expected of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Healthy,
    /// Used when the healthy ones cannot carry the load.
    Degraded,
    /// Used in a panic only.
    Unhealthy,
    /// As unhealthy, and not counted where the share of healthy hosts is: not checked yet.
    Excluded,
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
    /// The route's `metadata_match`.
    pub subset: &'a Metadata,
    /// Priorities to be left (`previous_priorities`); emptied when none is left.
    pub tried: Option<&'a mut Vec<u32>>,
    /// What the pick met.
    pub notes: Notes,
}

impl<'a> Pick<'a> {
    /// Any host will do.
    pub fn any(now: Duration, random: &'a mut fastrand::Rng) -> Self {
        Pick { now, random, hash: None, again: 0, subset: &[], tried: None, notes: Notes::default() }
    }
}

/// What a pick met on its way, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Too few hosts were healthy: all were used.
    pub panic: bool,
    pub zone: zones::Step,
    pub subset: subsets::Step,
}

pub use subsets::Step as SubsetStep;

fn equal_weights(hosts: &impl Hosts) -> bool {
    (1..hosts.len()).all(|host| hosts.weight(host) == hosts.weight(0))
}

#[cfg(test)]
mod tests;
