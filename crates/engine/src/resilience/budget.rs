//! Bounds what retries add to the load of a cluster, however badly it fails.

use model::cluster::{Limits, RetryBudget};
use std::time::Duration;

/// Retries that each request pays for.
const PER_REQUEST: f64 = 0.15;
/// Retries per second that are granted whatever the load is, so that quiet callers can retry too.
const PER_SECOND: f64 = 5.0;
/// Retries that can be saved up.
const MOST: f64 = 50.0;

/// A token bucket per cluster and worker: requests pay in, retries take out. Times are since an arbitrary start.
#[derive(Clone, Debug)]
pub struct Budget {
    tokens: f64,
    filled: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { tokens: MOST, filled: Duration::ZERO }
    }
}

impl Budget {
    /// A request that is not a retry.
    pub fn deposit(&mut self) {
        self.tokens = (self.tokens + PER_REQUEST).min(MOST);
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * PER_SECOND).min(MOST);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

/// The circuit breaker for retries: may one more start beside `retries`, with `active` requests under way?
/// (`Thresholds.retry_budget`, else `max_retries`.)
pub fn may_start(limits: &Limits, retries: u32, active: u32) -> bool {
    match (limits.retry_budget, limits.max_retries) {
        (Some(RetryBudget { percent, min_concurrency }), _) => {
            retries < min_concurrency.max((f64::from(active) * percent / 100.0) as u32)
        }
        (None, Some(max)) => retries < max,
        (None, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_stays_small() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut budget = Budget::default();
        let (mut requests, mut attempts) = (0u32, 0u32);
        // A thousand requests a second for a minute, every second attempt failing, up to three retries each.
        for millis in 0..60_000 {
            requests += 1;
            budget.deposit();
            for _ in 0..4 {
                attempts += 1;
                if rng.bool() || !budget.withdraw(Duration::from_millis(millis)) {
                    break;
                }
            }
        }
        let load = f64::from(attempts) / f64::from(requests);
        assert!((1.1..1.2).contains(&load), "{load}");
    }

    #[test]
    fn quiet_callers_can_retry() {
        let mut budget = Budget::default();
        for _ in 0..MOST as u32 {
            assert!(budget.withdraw(Duration::ZERO));
        }
        assert!(!budget.withdraw(Duration::from_millis(100)));
        assert!(budget.withdraw(Duration::from_millis(400)));
    }

    #[test]
    fn breakers() {
        let mut limits = Limits { max_retries: Some(3), ..Limits::default() };
        assert!(may_start(&limits, 2, 0) && !may_start(&limits, 3, 1000));
        limits.retry_budget = Some(RetryBudget { percent: 20.0, min_concurrency: 3 });
        assert!(may_start(&limits, 2, 0) && !may_start(&limits, 3, 10));
        assert!(may_start(&limits, 199, 1000) && !may_start(&limits, 200, 1000));
    }
}
