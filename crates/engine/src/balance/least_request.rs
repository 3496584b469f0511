//! Least request: of some hosts drawn at random, the one with the fewest requests in flight.

use super::schedule::Schedule;
use super::{Hosts, Pick, slow_start};
use model::balance;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct LeastRequest {
    config: balance::LeastRequest,
    /// Where weights differ: weighted round robin with weights that shrink as requests are in flight.
    weighted: Option<Schedule>,
}

impl LeastRequest {
    pub fn new(config: balance::LeastRequest, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Self {
        let equal = super::equal_weights(hosts) && !slow_start::any(&config.slow_start, hosts, pick.now);
        let weighted = (!equal).then(|| {
            let weights = (0..hosts.len()).map(|host| weight(&config, hosts, host, pick.now));
            Schedule::new(weights, pick.random.f64())
        });
        LeastRequest { config, weighted }
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        let count = hosts.len();
        if count == 0 {
            return None;
        }
        Some(match &mut self.weighted {
            Some(schedule) => schedule.pick(|host| weight(&self.config, hosts, host, pick.now))?,
            None if self.config.full_scan => least_of_all(hosts, pick),
            None => least_drawn(hosts, self.config.choices, pick),
        })
    }
}

/// `weight / (active + 1) ^ bias`.
fn weight(config: &balance::LeastRequest, hosts: &impl Hosts, host: usize, now: Duration) -> f64 {
    let full = slow_start::weight(&config.slow_start, hosts, host, now);
    full / (f64::from(hosts.active(host)) + 1.0).powf(config.bias)
}

/// Mitzenmacher's power of two (or more) choices. Draws are with replacement.
fn least_drawn(hosts: &impl Hosts, choices: u32, pick: &mut Pick<'_>) -> usize {
    let mut best = pick.random.usize(..hosts.len());
    for _ in 1..choices {
        let other = pick.random.usize(..hosts.len());
        if hosts.active(other) < hosts.active(best) {
            best = other;
        }
    }
    best
}

/// Any of those with the fewest requests, each as likely.
fn least_of_all(hosts: &impl Hosts, pick: &mut Pick<'_>) -> usize {
    let (mut best, mut equals) = (0, 1);
    for host in 1..hosts.len() {
        let (found, least) = (hosts.active(host), hosts.active(best));
        if found < least {
            (best, equals) = (host, 1);
        } else if found == least {
            equals += 1;
            if pick.random.usize(..equals) == 0 {
                best = host;
            }
        }
    }
    best
}
