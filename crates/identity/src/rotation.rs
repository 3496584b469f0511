//! When to renew a certificate. A state machine without a clock: the caller passes the time and a random number.

use std::time::{Duration, SystemTime};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// One certificate's renewal plan. Make a new one from every certificate obtained.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    not_after: SystemTime,
    next: SystemTime,
    failures: u32,
}

impl Rotation {
    /// Renewal is due at two thirds of the lifetime, give or take a twentieth of it, so that proxies which started
    /// together do not all renew together. `random` is in 0..1.
    pub fn new(not_before: SystemTime, not_after: SystemTime, random: f64) -> Self {
        let lifetime = not_after.duration_since(not_before).unwrap_or_default();
        let share = 2.0 / 3.0 + (unit(random) - 0.5) / 10.0;
        Self { not_after, next: not_before + lifetime.mul_f64(share), failures: 0 }
    }

    /// When to try next.
    pub fn next(&self) -> SystemTime {
        self.next
    }

    pub fn due(&self, now: SystemTime) -> bool {
        now >= self.next
    }

    pub fn expired(&self, now: SystemTime) -> bool {
        now >= self.not_after
    }

    /// How long to sleep until the next attempt.
    pub fn wait(&self, now: SystemTime) -> Duration {
        self.next.duration_since(now).unwrap_or_default()
    }

    /// Plans the next attempt: from one second doubling to a minute, each drawn from the upper half of its step.
    pub fn failed(&mut self, now: SystemTime, random: f64) {
        let step = FIRST_RETRY.saturating_mul(1 << self.failures.min(6)).min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.next = now + step.mul_f64(0.5 + unit(random) / 2.0);
    }
}

fn unit(random: f64) -> f64 {
    if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn due_around_two_thirds() {
        for (random, earliest, latest) in [(0.0, 616, 617), (0.5, 666, 667), (1.0, 716, 717)] {
            let plan = Rotation::new(at(1000), at(2000), random);
            assert!(!plan.due(at(1000 + earliest)), "{random}");
            assert!(plan.due(at(1000 + latest)), "{random}");
        }
    }

    #[test]
    fn failures_back_off_to_a_minute_and_stay_jittered() {
        let mut plan = Rotation::new(at(0), at(900), 0.5);
        let mut previous = Duration::ZERO;
        for _ in 0..40 {
            plan.failed(at(600), 1.0);
            let wait = plan.wait(at(600));
            assert!(wait >= previous && wait <= LAST_RETRY, "{wait:?}");
            previous = wait;
        }
        assert_eq!(previous, LAST_RETRY);
        plan.failed(at(600), 0.0);
        assert_eq!(plan.wait(at(600)), LAST_RETRY / 2);
    }

    #[test]
    fn a_past_certificate_is_due_at_once() {
        let plan = Rotation::new(at(0), at(10), 0.9);
        assert!(plan.due(at(50)) && plan.expired(at(50)));
        assert_eq!(plan.wait(at(50)), Duration::ZERO);
        // A certificate with its dates swapped must not panic.
        assert!(Rotation::new(at(10), at(0), 0.9).due(at(10)));
    }
}
