//! A token bucket (`type.v3.TokenBucket`); times are durations since an arbitrary start.

use model::listener::BucketConfig;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Bucket {
    /// Full.
    pub fn new(config: &BucketConfig, now: Duration) -> Self {
        Bucket { tokens: f64::from(config.most), at: now }
    }

    /// Takes a token, if there is one. The bucket fills steadily, not in steps.
    pub fn take(&mut self, config: &BucketConfig, now: Duration) -> bool {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        let rate = f64::from(config.per_fill) / config.fill_interval.as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(f64::from(config.most));
        self.at = self.at.max(now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empties_and_fills() {
        let config = BucketConfig { most: 2, per_fill: 1, fill_interval: Duration::from_secs(1) };
        let mut bucket = Bucket::new(&config, Duration::ZERO);
        let at = Duration::from_millis;
        let taken: Vec<bool> = [0, 0, 0, 500, 1000, 1001].map(|now| bucket.take(&config, at(now))).into();
        assert_eq!(taken, [true, true, false, false, true, false]);
        let taken = [at(60_000); 3].map(|now| bucket.take(&config, now));
        assert_eq!(taken, [true, true, false], "never more than it holds");
    }
}
