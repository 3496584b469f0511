//! Client-side weighted round robin (gRPC A58, Envoy's `client_side_weighted_round_robin`): a host's weight is what it
//! gets done divided by how loaded it says it is.

use super::orca::Report;
use super::schedule::Schedule;
use super::{Hosts, Pick, Record, slow_start};
use model::balance;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct ClientWeighted {
    config: balance::ClientWeighted,
    weights: Vec<f64>,
    schedule: Schedule,
    renew_at: Duration,
}

impl ClientWeighted {
    pub fn new(config: balance::ClientWeighted, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Self {
        let mut state =
            ClientWeighted { config, weights: Vec::new(), schedule: Schedule::default(), renew_at: Duration::ZERO };
        state.renew(hosts, pick);
        state
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        if pick.now >= self.renew_at {
            self.renew(hosts, pick);
        }
        self.schedule.pick(|host| self.weights[host])
    }

    /// Takes over what hosts have reported. A host without a report has the median weight of the others.
    fn renew(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) {
        self.renew_at = pick.now + self.config.update_period;
        let reported = |host| weight(&self.config, hosts.record(host), pick.now);
        let mut known: Vec<f64> = (0..hosts.len()).filter_map(reported).collect();
        known.sort_by(f64::total_cmp);
        let median = match known.len() {
            0 => 1.0,
            count if count % 2 == 1 => known[count / 2],
            count => (known[count / 2 - 1] + known[count / 2]) / 2.0,
        };
        let full = |host| {
            let slow =
                slow_start::weight(&self.config.slow_start, hosts, host, pick.now) / f64::from(hosts.weight(host));
            reported(host).unwrap_or(median) * slow
        };
        let fresh: Vec<f64> = (0..hosts.len()).map(full).collect();
        if fresh != self.weights {
            self.schedule = Schedule::new(fresh.iter().copied(), pick.random.f64());
            self.weights = fresh;
        }
    }
}

/// The weight of a host by its reports, if they count yet and still.
fn weight(config: &balance::ClientWeighted, record: &Record, now: Duration) -> Option<f64> {
    let weight = record.reported.get();
    let counts = weight > 0.0
        && now.saturating_sub(record.reporting_since.get()) >= config.blackout
        && now.saturating_sub(record.reported_at.get()) < config.expiration;
    counts.then_some(weight)
}

/// The host of `record` said how loaded it is.
pub fn reported(config: &balance::ClientWeighted, record: &Record, report: &Report<'_>, now: Duration) {
    let utilization = report.utilization(config.metrics.iter().map(|name| &**name));
    let rate = report.rate;
    if rate <= 0.0 || utilization <= 0.0 {
        return;
    }
    let errors = if report.errors > 0.0 { report.errors / rate * config.error_penalty } else { 0.0 };
    let expired = now.saturating_sub(record.reported_at.get()) >= config.expiration;
    if record.reported.get() == 0.0 || expired {
        record.reporting_since.set(now);
    }
    record.reported.set(rate / (utilization + errors));
    record.reported_at.set(now);
}
