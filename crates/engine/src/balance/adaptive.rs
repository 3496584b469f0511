//! Ripstop's own policy: to the host that is likely to answer first.
//!
//! - All hosts are compared, or some drawn ones where there are many: of two hosts drawn, too often both are slow.
//! - A host's latency is estimated from its answers, quick to rise and slow to fall, and from the age of what is in
//!   flight, so that a host which stopped answering is noticed before its first late answer.
//! - Hosts not much slower than usual are equals: the one with the fewest requests in flight gets the next, in turn
//!   where that is the same. Slower hosts count as if they had more in flight.
//! - Failures count as slow answers, so that a host which fails fast draws no requests.
//! - No estimate improves with time alone. A slow host is tried again with one request, as often as the time that
//!   trials have cost stays a small share of all time spent.
//! - If servers report their load, one that has more than usual is avoided until it says otherwise.
//!
//! `bench/README.md` compares it with the other policies.

use super::{Ending, Hosts, Outcome, Pick, Record};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// More hosts than this are not all compared.
const COMPARE_ALL: usize = 64;
const DRAWN: usize = 8;
/// Up to so many times the typical latency, hosts are equals.
const TOLERANCE: f64 = 1.5;
/// An estimate falls with this memory, in typical latencies.
const MEMORY: f64 = 64.0;
/// Weight of an answer slower than the estimate.
const RISE: f64 = 0.5;
/// A failure counts as an answer after so many typical latencies.
const FAILURE: f64 = 10.0;
/// Trials may cost this share of the time that requests take.
const TRIALS: f64 = 0.02;
/// What is set aside for trials, at most, in typical latencies.
const SAVINGS: f64 = 1000.0;
/// The price of a trial doubles up to this as trials go on to fail.
const HIGHEST_PRICE: f64 = 16.0;
/// The typical latency is an average over so many answers.
const TYPICAL_OF: f64 = 50.0;

/// What is known of a cluster as a whole. It stays when the list of hosts changes.
#[derive(Debug, Default)]
pub struct Learned {
    /// Latency in seconds that requests have had lately; zero while nothing is known.
    typical: Cell<f64>,
    answers: Cell<f64>,
}

/// The policy at work on one list of hosts.
#[derive(Clone, Debug)]
pub struct Adaptive {
    learned: Rc<Learned>,
    /// Seconds set aside for trials.
    savings: f64,
    /// How far the rotation among equals has come.
    turn: f64,
}

/// A host while they are compared.
struct Candidate {
    host: usize,
    cost: f64,
    turn: f64,
}

impl Adaptive {
    pub fn new(learned: Rc<Learned>) -> Self {
        Adaptive { learned, savings: 0.0, turn: 0.0 }
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        let (count, now, typical) = (hosts.len(), pick.now.as_secs_f64(), self.learned.typical.get());
        self.savings = (self.savings + TRIALS * typical).min(SAVINGS * typical);
        let start = pick.random.usize(..count.max(1));
        let mut best: Option<Candidate> = None;
        let mut due: Option<usize> = None;
        for number in 0..count.min(if count > COMPARE_ALL { DRAWN } else { COMPARE_ALL }) {
            let host = if count > COMPARE_ALL { pick.random.usize(..count) } else { (start + number) % count };
            let found = Candidate { host, cost: self.cost(hosts, host, now), turn: hosts.record(host).turn.get() };
            if best.as_ref().is_none_or(|best| (found.cost, found.turn) < (best.cost, best.turn)) {
                best = Some(found);
            }
            let waits = |due: usize| hosts.record(due).updated.get() > hosts.record(host).updated.get();
            if self.is_slow(hosts, host) && due.is_none_or(waits) {
                due = Some(host);
            }
        }
        let host = due.filter(|due| self.pays(hosts, *due, pick.now)).or(best.map(|best| best.host))?;
        let record = hosts.record(host);
        self.turn = self.turn.max(record.turn.get());
        record.turn.set(self.turn + 1.0 / f64::from(hosts.weight(host)));
        Some(host)
    }

    fn cost(&self, hosts: &impl Hosts, host: usize, now: f64) -> f64 {
        let record = hosts.record(host);
        let active = f64::from(hosts.active(host));
        let typical = self.learned.typical.get();
        let known = record.latency.get();
        let known = if known > 0.0 { known } else { typical };
        let awaited = f64::from(record.awaited.get());
        let age = if awaited > 0.0 { now - record.sent.get() / awaited } else { 0.0 };
        let slowness = known.max(age) / (TOLERANCE * typical).max(f64::MIN_POSITIVE);
        let slowness = if slowness > 1.0 { slowness * slowness.sqrt() } else { 1.0 };
        let crowd = (record.others.get() + 1.0) / (record.usual_others.get() + 1.0);
        let crowd = if crowd > 1.0 { crowd.sqrt() } else { 1.0 };
        slowness * crowd * (active + 1.0) / f64::from(hosts.weight(host))
    }

    /// Known to be slow and left alone.
    fn is_slow(&self, hosts: &impl Hosts, host: usize) -> bool {
        hosts.record(host).latency.get() > TOLERANCE * self.learned.typical.get() && hosts.active(host) == 0
    }

    /// Whether a trial of a slow host is due, and paid for.
    fn pays(&mut self, hosts: &impl Hosts, host: usize, now: Duration) -> bool {
        let (record, typical) = (hosts.record(host), self.learned.typical.get());
        let price = (record.latency.get() - typical) * record.price.get().max(1.0);
        let price = price.min(SAVINGS * typical);
        let rested = now.saturating_sub(record.updated.get()).as_secs_f64() > MEMORY * typical;
        let pays = rested && typical > 0.0 && price <= self.savings;
        if pays {
            self.savings -= price;
        }
        pays
    }
}

/// A request was sent to the host of `record`.
pub fn started(record: &Record, now: Duration) {
    record.awaited.set(record.awaited.get() + 1);
    record.sent.set(record.sent.get() + now.as_secs_f64());
}

impl Learned {
    /// A request to the host of `record` ended; `active` are left in flight.
    pub fn finished(&self, record: &Record, active: u32, outcome: &Outcome, now: Duration) {
        let mut latency = outcome.latency.as_secs_f64();
        let left = record.sent.get() - (now.as_secs_f64() - latency);
        let awaited = record.awaited.get().saturating_sub(1);
        record.awaited.set(awaited);
        record.sent.set(if awaited > 0 { left } else { 0.0 });
        let typical = self.typical.get();
        match outcome.ending {
            Ending::Answered => self.learn_typical(latency),
            Ending::Failed => latency = latency.max(FAILURE * typical),
            Ending::Abandoned if latency <= record.latency.get() => return,
            Ending::Abandoned => {}
        }
        if let Some(load) = outcome.load {
            let others = (load - f64::from(active)).max(0.0);
            let usual = record.usual_others.get();
            record.usual_others.set(if usual > 0.0 { usual + 0.1 * (others - usual) } else { others });
            record.others.set(others);
        }
        let old = record.latency.get();
        let elapsed = now.saturating_sub(record.updated.replace(now)).as_secs_f64();
        let weight = match latency > old {
            _ if old == 0.0 => 1.0,
            true => RISE,
            false => 1.0 - (-elapsed / (MEMORY * typical)).exp(),
        };
        record.latency.set(old + weight * (latency - old));
        let slow = latency > TOLERANCE * typical;
        record.price.set(if slow { (record.price.get() * 2.0).clamp(1.0, HIGHEST_PRICE) } else { 0.0 });
    }

    fn learn_typical(&self, latency: f64) {
        let typical = self.typical.get();
        let answers = (self.answers.get() + 1.0).min(TYPICAL_OF);
        self.answers.set(answers);
        // One very late answer says little about the others.
        let latency = if typical > 0.0 { latency.min(4.0 * typical) } else { latency };
        self.typical.set(typical + (latency - typical) / answers);
    }
}
