//! The state machine of active health checks (`core.v3.HealthCheck`): what a result means, and when to check again.

use model::health::{ActiveHealth, HealthCheck, Intervals};
use std::time::Duration;

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `degraded`: the endpoint says that others should be preferred.
    Healthy {
        degraded: bool,
    },
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The endpoint answered that it is not well, with this HTTP status (0: none); counts at once.
    Answer(u16),
    /// It answered so in a way that counts towards the threshold only (`retriable_statuses`).
    Retriable(u16),
    /// A response to a request said so; counts at once.
    Passive,
    /// No connection, or it broke.
    Network,
    Timeout,
}

impl Failure {
    fn at_once(self) -> bool {
        matches!(self, Failure::Answer(_) | Failure::Passive)
    }

    /// Of the answer; 0 if there is none.
    pub fn status(self) -> u16 {
        match self {
            Failure::Answer(status) | Failure::Retriable(status) => status,
            Failure::Passive | Failure::Network | Failure::Timeout => 0,
        }
    }

    pub fn network(self) -> bool {
        matches!(self, Failure::Network | Failure::Timeout)
    }
}

/// Something for the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    EjectUnhealthy(Failure),
    AddHealthy { first: bool },
    Failure { failure: Failure, first: bool },
    Success,
    Degraded,
    NoLongerDegraded,
}

/// One endpoint under check.
#[derive(Clone, Debug)]
pub struct Checked {
    health: ActiveHealth,
    first: bool,
    successes: u32,
    failures: u32,
}

/// What follows from a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub events: Vec<Event>,
    next: Next,
}

/// Which of the intervals applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next {
    healthy: bool,
    /// Results add up towards a change.
    edge: bool,
}

impl Checked {
    /// An endpoint about which `health` is known; `ActiveHealth::NEW` if nothing is.
    pub fn new(health: ActiveHealth) -> Self {
        Checked { health, first: health.pending, successes: 0, failures: 0 }
    }

    pub fn health(&self) -> ActiveHealth {
        self.health
    }

    pub fn note(&mut self, config: &HealthCheck, outcome: Outcome) -> Verdict {
        let was_pending = std::mem::take(&mut self.health.pending);
        let first = std::mem::take(&mut self.first);
        let mut events = Vec::new();
        let edge = match outcome {
            Outcome::Healthy { degraded } => {
                let edge = self.succeed(config, first, &mut events);
                self.judge_degraded(degraded, &mut events);
                if config.always_log_successes {
                    events.push(Event::Success);
                }
                edge
            }
            Outcome::Failed(failure) => {
                let edge = self.fail(config, failure, &mut events);
                if first || config.always_log_failures {
                    events.push(Event::Failure { failure, first });
                }
                edge
            }
        };
        let healthy = matches!(outcome, Outcome::Healthy { .. });
        Verdict { events, next: Next { healthy, edge: edge && !was_pending } }
    }

    fn succeed(&mut self, config: &HealthCheck, first: bool, events: &mut Vec<Event>) -> bool {
        self.failures = 0;
        self.health.timeout = false;
        if !self.health.failed {
            return false;
        }
        self.successes += 1;
        // The very first result counts at once, so that a start is quick.
        if !first && self.successes < config.healthy_threshold {
            return true;
        }
        self.health.failed = false;
        events.push(Event::AddHealthy { first });
        false
    }

    fn fail(&mut self, config: &HealthCheck, failure: Failure, events: &mut Vec<Event>) -> bool {
        self.successes = 0;
        let mut edge = false;
        if !self.health.failed {
            self.failures += 1;
            if failure.at_once() || self.failures >= config.unhealthy_threshold {
                self.health.failed = true;
                events.push(Event::EjectUnhealthy(failure));
            } else {
                edge = true;
            }
        }
        self.health.timeout = failure == Failure::Timeout && self.health.failed;
        edge
    }

    fn judge_degraded(&mut self, degraded: bool, events: &mut Vec<Event>) {
        if self.health.degraded != degraded {
            self.health.degraded = degraded;
            events.push(if degraded { Event::Degraded } else { Event::NoLongerDegraded });
        }
    }
}

impl Verdict {
    /// Time until the next check. `traffic`: the cluster has had a connection; `random` gives numbers in `[0, 1)`.
    pub fn wait(&self, intervals: &Intervals, traffic: bool, mut random: impl FnMut() -> f64) -> Duration {
        let Next { healthy, edge } = self.next;
        let base = match (traffic, healthy, edge) {
            (false, true, false) => intervals.no_traffic_healthy,
            (false, ..) => intervals.no_traffic,
            (true, true, false) => intervals.normal,
            (true, true, true) => intervals.healthy_edge,
            (true, false, false) => intervals.unhealthy,
            (true, false, true) => intervals.unhealthy_edge,
        };
        let share = base.mul_f64(f64::from(intervals.jitter_percent) / 100.0);
        base + share.mul_f64(random()) + intervals.jitter.mul_f64(random())
    }
}

/// Whether `blocks` stand in `bytes` in this order, with anything between.
pub fn found_in_order(blocks: &[Box<[u8]>], mut bytes: &[u8]) -> bool {
    blocks.iter().all(|block| match memchr::memmem::find(bytes, block) {
        Some(at) => {
            bytes = &bytes[at + block.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::health::{Probe, TcpProbe};

    const OK: Outcome = Outcome::Healthy { degraded: false };
    const DOWN: Outcome = Outcome::Failed(Failure::Network);

    fn config() -> HealthCheck {
        let seconds = Duration::from_secs;
        HealthCheck {
            probe: Probe::Tcp(TcpProbe { send: Box::default(), receive: Vec::new() }),
            timeout: seconds(1),
            intervals: Intervals {
                normal: seconds(10),
                unhealthy: seconds(20),
                unhealthy_edge: seconds(1),
                healthy_edge: seconds(2),
                no_traffic: seconds(60),
                no_traffic_healthy: seconds(90),
                initial_jitter: Duration::ZERO,
                jitter: seconds(4),
                jitter_percent: 50,
            },
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            reuse_connection: true,
            event_logs: Vec::new(),
            always_log_failures: false,
            always_log_successes: false,
            alpn: Vec::new(),
            socket_match: None,
        }
    }

    fn wait(verdict: &Verdict) -> u64 {
        verdict.wait(&config().intervals, true, || 0.0).as_secs()
    }

    #[test]
    fn the_first_success_is_enough() {
        let mut checked = Checked::new(ActiveHealth::NEW);
        assert!(checked.health().failed && checked.health().pending);
        let verdict = checked.note(&config(), OK);
        assert_eq!(
            (checked.health(), verdict.events.as_slice()),
            (ActiveHealth::default(), &[Event::AddHealthy { first: true }][..])
        );
        assert_eq!(wait(&verdict), 10);
    }

    #[test]
    fn thresholds_and_edges() {
        let (config, mut checked) = (config(), Checked::new(ActiveHealth::default()));
        let waits: Vec<_> = [DOWN, DOWN, DOWN, DOWN].map(|outcome| wait(&checked.note(&config, outcome))).into();
        assert_eq!(waits, [1, 1, 20, 20]);
        assert!(checked.health().failed);
        let waits: Vec<_> = [OK, DOWN, OK, OK, OK].map(|outcome| wait(&checked.note(&config, outcome))).into();
        assert_eq!(waits, [2, 20, 2, 10, 10], "a failure in between starts the count anew");
        assert!(!checked.health().failed);
    }

    #[test]
    fn an_answer_counts_at_once_unless_it_is_retriable() {
        let (config, mut checked) = (config(), Checked::new(ActiveHealth::default()));
        checked.note(&config, Outcome::Failed(Failure::Retriable(500)));
        assert!(!checked.health().failed);
        let verdict = checked.note(&config, Outcome::Failed(Failure::Answer(503)));
        assert_eq!(verdict.events, [Event::EjectUnhealthy(Failure::Answer(503))]);
        assert!(checked.health().failed);
    }

    #[test]
    fn time_outs_and_degradation_show() {
        let (config, mut checked) = (config(), Checked::new(ActiveHealth::NEW));
        let verdict = checked.note(&config, Outcome::Failed(Failure::Timeout));
        assert_eq!(verdict.events, [Event::Failure { failure: Failure::Timeout, first: true }]);
        assert!(checked.health().timeout && checked.health().failed && !checked.health().pending);
        checked.note(&config, DOWN);
        assert!(!checked.health().timeout);
        let verdict = checked.note(&config, Outcome::Healthy { degraded: true });
        assert_eq!(verdict.events, [Event::Degraded]);
        assert!(checked.note(&config, OK).events.contains(&Event::NoLongerDegraded));
    }

    #[test]
    fn quiet_clusters_and_jitter() {
        let (config, mut checked) = (config(), Checked::new(ActiveHealth::NEW));
        let verdict = checked.note(&config, OK);
        assert_eq!(verdict.wait(&config.intervals, false, || 0.0).as_secs(), 90);
        assert_eq!(verdict.wait(&config.intervals, true, || 0.5).as_millis(), 14_500);
        let verdict = checked.note(&config, DOWN);
        assert_eq!(verdict.wait(&config.intervals, false, || 0.0).as_secs(), 60);
    }

    #[test]
    fn blocks_in_order() {
        let blocks: Vec<Box<[u8]>> = vec![b"ab"[..].into(), b"b"[..].into()];
        assert!(found_in_order(&blocks, b"xaby b"));
        assert!(!found_in_order(&blocks, b"bab"));
        assert!(found_in_order(&[], b""));
    }
}
