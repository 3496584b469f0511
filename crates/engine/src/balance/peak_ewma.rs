//! Peak EWMA, as in Finagle and Linkerd: of two hosts drawn, the one with the smaller product of latency and load.
//!
//! The latency estimate jumps up to a slower answer at once and decays with time, so that a slow host is left alone
//! quickly and tried again later.

use super::{Ending, Hosts, Outcome, Pick, Record};
use model::balance;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct PeakEwma {
    config: balance::PeakEwma,
}

impl PeakEwma {
    pub fn new(config: balance::PeakEwma) -> Self {
        PeakEwma { config }
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        let count = hosts.len();
        if count < 2 {
            return count.checked_sub(1);
        }
        let mut best = pick.random.usize(..count);
        let mut least = self.cost(hosts, best, pick.now);
        for _ in 1..self.config.choices {
            let other = (best + 1 + pick.random.usize(..count - 1)) % count;
            let cost = self.cost(hosts, other, pick.now);
            if cost < least {
                (best, least) = (other, cost);
            }
        }
        Some(best)
    }

    fn cost(&self, hosts: &impl Hosts, host: usize, now: Duration) -> f64 {
        let record = hosts.record(host);
        let active = f64::from(hosts.active(host));
        fade(&self.config, record, now);
        match record.latency.get() {
            0.0 if active > 0.0 => self.config.penalty / 1000.0 + active,
            0.0 => self.config.default_latency.as_secs_f64(),
            latency => latency * (active + 1.0),
        }
    }
}

/// A request to the host of `record` ended.
pub fn finished(config: &balance::PeakEwma, record: &Record, outcome: &Outcome, now: Duration) {
    let old = record.latency.get();
    let kept = fade(config, record, now);
    let latency = outcome.latency.as_secs_f64();
    if outcome.ending == Ending::Abandoned && latency <= record.latency.get() {
        return;
    }
    if latency > old || old == 0.0 {
        record.latency.set(latency);
    } else {
        record.latency.set(old * kept + latency * (1.0 - kept));
    }
}

/// Lets the estimate decay until `now`; returns the factor.
fn fade(config: &balance::PeakEwma, record: &Record, now: Duration) -> f64 {
    let elapsed = now.saturating_sub(record.updated.replace(now)).as_secs_f64();
    let kept = (-elapsed / config.decay.as_secs_f64()).exp();
    record.latency.set(record.latency.get() * kept);
    kept
}
