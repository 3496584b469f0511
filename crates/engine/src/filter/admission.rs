//! Admission control: while too many requests fail, a share of them is refused (`AdmissionControl`).

use model::filter::AdmissionControl;
use std::collections::VecDeque;
use std::time::Duration;

/// What happened in the last seconds.
#[derive(Debug, Default)]
pub struct History {
    /// A second each: when it began, requests, successes.
    seconds: VecDeque<(Duration, u64, u64)>,
    requests: u64,
    successes: u64,
}

impl History {
    /// Counts a request that was let through. `now` is measured from any fixed moment.
    pub fn record(&mut self, config: &AdmissionControl, success: bool, now: Duration) {
        self.forget(config.window, now);
        let second = Duration::from_secs(1);
        if self.seconds.back().is_none_or(|(began, ..)| now.saturating_sub(*began) >= second) {
            self.seconds.push_back((now, 0, 0));
        }
        if let Some((_, requests, successes)) = self.seconds.back_mut() {
            *requests += 1;
            *successes += u64::from(success);
        }
        self.requests += 1;
        self.successes += u64::from(success);
    }

    fn forget(&mut self, window: Duration, now: Duration) {
        while let Some((began, requests, successes)) = self.seconds.front().copied() {
            if now.saturating_sub(began) < window {
                break;
            }
            self.requests -= requests;
            self.successes -= successes;
            self.seconds.pop_front();
        }
    }

    /// Whether a request is let through; `random` is uniform in `[0, 1)`.
    pub fn admits(&mut self, config: &AdmissionControl, now: Duration, random: f64) -> bool {
        self.forget(config.window, now);
        let age = self.seconds.front().map_or(0, |(began, ..)| now.saturating_sub(*began).as_secs());
        if config.least_rate > 0 && self.requests / age.max(1) < u64::from(config.least_rate) {
            return true;
        }
        random >= refusal_probability(config, self.requests, self.successes)
    }
}

/// `((requests - successes / threshold) / (requests + 1)) ^ (1 / aggression)`, at most what is configured.
pub fn refusal_probability(config: &AdmissionControl, requests: u64, successes: u64) -> f64 {
    let surplus = requests as f64 - successes as f64 / config.success_threshold;
    let base = (surplus / (requests as f64 + 1.0)).max(0.0);
    let probability = if config.aggression == 1.0 { base } else { base.powf(1.0 / config.aggression) };
    probability.min(config.most_refused)
}

/// Whether an answer counts as a success; `grpc` is its status, for gRPC requests.
pub fn succeeded(config: &AdmissionControl, status: u16, grpc: Option<u8>) -> bool {
    match grpc {
        Some(grpc) => config.grpc_success.contains(&grpc),
        None => config.http_success.iter().any(|(start, end)| (*start..*end).contains(&status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> AdmissionControl {
        AdmissionControl {
            enabled: true,
            http_success: vec![(100, 500)],
            grpc_success: vec![0],
            window: Duration::from_secs(10),
            aggression: 1.0,
            success_threshold: 0.95,
            least_rate: 0,
            most_refused: 0.8,
        }
    }

    #[test]
    fn probabilities() {
        let linear = config();
        let keen = AdmissionControl { aggression: 2.0, ..config() };
        for (requests, successes, wanted, keenly) in [
            (0, 0, 0.0, 0.0),
            (100, 100, 0.0, 0.0),
            (100, 95, 0.0, 0.0),
            (99, 0, 0.8, 0.8),
            (99, 57, 0.39, 0.6245),
            (99, 76, 0.19, 0.4359),
        ] {
            let found = [&linear, &keen].map(|config| refusal_probability(config, requests, successes));
            let close = |left: f64, right: f64| (left - right).abs() < 0.001;
            assert!(close(found[0], wanted) && close(found[1], keenly), "{requests} {successes} {found:?}");
        }
    }

    #[test]
    fn a_window_slides() {
        let config = config();
        let mut history = History::default();
        let at = Duration::from_secs;
        (0..100).for_each(|_| history.record(&config, false, at(0)));
        assert!(!history.admits(&config, at(5), 0.5));
        assert!(history.admits(&config, at(5), 0.81), "never more than is configured");
        assert!(history.admits(&config, at(10), 0.0), "the failures are forgotten");
    }

    #[test]
    fn slow_traffic_is_admitted() {
        let config = AdmissionControl { least_rate: 10, ..config() };
        let mut history = History::default();
        (0..9).for_each(|_| history.record(&config, false, Duration::ZERO));
        assert!(history.admits(&config, Duration::from_millis(500), 0.0));
        (0..9).for_each(|_| history.record(&config, false, Duration::ZERO));
        assert!(!history.admits(&config, Duration::from_millis(500), 0.0));
        assert!(history.admits(&config, Duration::from_secs(2), 0.0), "18 in 2 s are 9 a second");
    }

    #[test]
    fn successes() {
        let config = config();
        for (status, grpc, wanted) in
            [(200, None, true), (404, None, true), (500, None, false), (200, Some(0), true), (200, Some(14), false)]
        {
            assert_eq!(succeeded(&config, status, grpc), wanted, "{status} {grpc:?}");
        }
    }
}
