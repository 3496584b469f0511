//! Adaptive concurrency: how many requests may be under way at once follows from how their latency compares with
//! the latency without load (`AdaptiveConcurrency`, the gradient controller).
//!
//! Two cares for low rates go beyond Envoy's controller: the limit grows only while half of it was in use, so that an
//! idle hour does not lift it to the maximum; and the latency without load is settled at the latest by the next
//! measurement with what samples there are, so that a rare client is not held to a few requests for long.

use model::filter::{AdaptiveConcurrency, IdealLatency};
use std::time::Duration;

/// After so many updates at the minimum the latency without load is measured anew.
const STUCK: u32 = 5;
/// Samples kept of a window; later ones replace them in turn.
const MOST_SAMPLES: usize = 1000;

/// Times are measured from any fixed moment.
#[derive(Debug)]
pub struct Controller {
    limit: u32,
    under_way: u32,
    /// The most that was under way in this window.
    peak: u32,
    /// Seconds.
    samples: Vec<f64>,
    seen: usize,
    ideal: Option<Duration>,
    measuring: Option<Measuring>,
    next_update: Duration,
    next_measurement: Duration,
    at_least: u32,
}

#[derive(Debug)]
struct Measuring {
    began: Duration,
    limit_before: u32,
}

impl Controller {
    pub fn new(config: &AdaptiveConcurrency, now: Duration) -> Self {
        let mut controller = Controller {
            limit: config.least,
            under_way: 0,
            peak: 0,
            samples: Vec::new(),
            seen: 0,
            ideal: None,
            measuring: None,
            next_update: now + config.update_interval,
            next_measurement: now,
            at_least: 0,
        };
        match config.ideal {
            IdealLatency::Fixed(latency) => controller.ideal = Some(latency),
            IdealLatency::Measured { .. } => controller.measure(config, now, 0.0),
        }
        controller
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn under_way(&self) -> u32 {
        self.under_way
    }

    /// Admits a request, which must be ended by `end`. `random` (in `[0, 1)`) spreads measurements.
    pub fn admit(&mut self, config: &AdaptiveConcurrency, now: Duration, random: f64) -> bool {
        self.tick(config, now, random);
        if self.under_way >= self.limit {
            return false;
        }
        self.under_way += 1;
        self.peak = self.peak.max(self.under_way);
        true
    }

    /// A request that was admitted at `began` has ended; `answered`: its latency counts.
    pub fn end(&mut self, config: &AdaptiveConcurrency, began: Duration, now: Duration, answered: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        // What began before a measurement says nothing about the latency without load.
        if !answered || self.measuring.as_ref().is_some_and(|measuring| began < measuring.began) {
            return;
        }
        self.sample(now.saturating_sub(began));
        if let IdealLatency::Measured { requests, .. } = config.ideal
            && self.measuring.is_some()
            && self.seen >= requests as usize
        {
            self.settle(config);
        }
    }

    fn sample(&mut self, latency: Duration) {
        let seconds = latency.as_secs_f64();
        match self.samples.len() {
            0..MOST_SAMPLES => self.samples.push(seconds),
            _ => self.samples[self.seen % MOST_SAMPLES] = seconds,
        }
        self.seen += 1;
    }

    fn tick(&mut self, config: &AdaptiveConcurrency, now: Duration, random: f64) {
        if let IdealLatency::Measured { .. } = config.ideal
            && now >= self.next_measurement
        {
            if self.measuring.is_some() && self.seen > 0 {
                self.settle(config);
            }
            if self.measuring.is_none() {
                self.measure(config, now, random);
            }
        }
        if now >= self.next_update {
            self.next_update = now + config.update_interval;
            if self.measuring.is_none() {
                self.update(config, now, random);
            }
        }
    }

    /// Begins to measure the latency without load.
    fn measure(&mut self, config: &AdaptiveConcurrency, now: Duration, random: f64) {
        let IdealLatency::Measured { interval, jitter, concurrency, .. } = config.ideal else { return };
        self.measuring = Some(Measuring { began: now, limit_before: self.limit });
        self.limit = concurrency;
        self.clear();
        self.at_least = 0;
        self.next_measurement = now + interval + interval.mul_f64(jitter * random);
    }

    /// The samples of the measurement are the latency without load.
    fn settle(&mut self, config: &AdaptiveConcurrency) {
        if let Some(measuring) = self.measuring.take() {
            self.ideal = self.percentile(config.percentile);
            self.limit = measuring.limit_before.clamp(config.least, config.most);
            self.clear();
        }
    }

    fn update(&mut self, config: &AdaptiveConcurrency, now: Duration, random: f64) {
        let (Some(ideal), Some(latency)) = (self.ideal, self.percentile(config.percentile)) else { return };
        let wanted = next_limit(self.limit, ideal, latency, config);
        if wanted < self.limit || self.peak.saturating_mul(2) >= self.limit {
            self.limit = wanted;
        }
        self.clear();
        self.at_least = if self.limit <= config.least { self.at_least + 1 } else { 0 };
        if self.at_least >= STUCK {
            self.measure(config, now, random);
        }
    }

    fn clear(&mut self) {
        self.samples.clear();
        self.seen = 0;
        self.peak = self.under_way;
    }

    fn percentile(&mut self, share: f64) -> Option<Duration> {
        let last = self.samples.len().checked_sub(1)?;
        let at = ((last as f64) * share).round() as usize;
        let (_, value, _) = self.samples.select_nth_unstable_by(at.min(last), f64::total_cmp);
        Some(Duration::from_secs_f64(*value))
    }
}

/// The limit scaled by how the latency compares with the ideal one, with room for bursts.
pub fn next_limit(limit: u32, ideal: Duration, latency: Duration, config: &AdaptiveConcurrency) -> u32 {
    let buffered = ideal.as_secs_f64() * (1.0 + config.buffer);
    let gradient = (buffered / latency.as_secs_f64().max(1e-9)).clamp(0.5, 2.0);
    let scaled = f64::from(limit) * gradient;
    let with_room = scaled + scaled.sqrt();
    (with_room as u32).clamp(config.least, config.most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(ideal: IdealLatency) -> AdaptiveConcurrency {
        AdaptiveConcurrency {
            enabled: true,
            status: 503,
            percentile: 0.5,
            most: 1000,
            least: 3,
            update_interval: Duration::from_millis(100),
            ideal,
            buffer: 0.25,
        }
    }

    fn measured() -> IdealLatency {
        IdealLatency::Measured { interval: Duration::from_secs(60), requests: 50, jitter: 0.0, concurrency: 3 }
    }

    /// A server that works at `capacity` requests at once without delay, asked by `clients` without pause.
    fn simulate(config: &AdaptiveConcurrency, capacity: u32, clients: u32, seconds: u64) -> Controller {
        let step = Duration::from_millis(10);
        let mut controller = Controller::new(config, Duration::ZERO);
        let mut under_way: Vec<(Duration, Duration)> = Vec::new();
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(seconds) {
            under_way.retain(|(began, due)| {
                let over = *due <= now;
                if over {
                    controller.end(config, *began, now, true);
                }
                !over
            });
            while (under_way.len() as u32) < clients && controller.admit(config, now, 0.5) {
                let load = (under_way.len() as u32 + 1).div_ceil(capacity);
                under_way.push((now, now + step * load));
            }
            now += step;
        }
        controller
    }

    #[test]
    fn limits_by_gradient() {
        let config = config(IdealLatency::Fixed(Duration::from_millis(10)));
        let millis = Duration::from_millis;
        for (limit, latency, wanted) in [
            (100, 10, 136),
            (100, 12, 114),
            (100, 25, 57),
            (100, 1000, 57),
            (100, 1, 214),
            (3, 1000, 3),
            (900, 1, 1000),
        ] {
            assert_eq!(next_limit(limit, millis(10), millis(latency), &config), wanted, "{limit} {latency}");
        }
    }

    #[test]
    fn finds_what_a_server_can_do() {
        let controller = simulate(&config(measured()), 20, 200, 50);
        assert!((15..=60).contains(&controller.limit()), "{}", controller.limit());
    }

    #[test]
    fn idle_times_do_not_lift_the_limit() {
        let config = config(IdealLatency::Fixed(Duration::from_millis(20)));
        let controller = simulate(&config, 100, 2, 600);
        assert!(controller.limit() <= 10, "{}", controller.limit());
    }

    #[test]
    fn rare_requests_settle_a_measurement() {
        let config = config(IdealLatency::Measured {
            interval: Duration::from_secs(1),
            requests: 50,
            jitter: 0.0,
            concurrency: 1,
        });
        let mut controller = Controller::new(&config, Duration::ZERO);
        assert_eq!(controller.limit(), 1);
        assert!(controller.admit(&config, Duration::ZERO, 0.0));
        controller.end(&config, Duration::ZERO, Duration::from_millis(5), true);
        assert!(controller.admit(&config, Duration::from_secs(1), 0.0));
        assert_eq!(controller.ideal, Some(Duration::from_millis(5)));
    }

    proptest! {
        #[test]
        fn never_beyond_its_bounds(
            events in proptest::collection::vec((0u64..200, any::<bool>(), any::<bool>()), 1..400)
        ) {
            let config = config(measured());
            let mut controller = Controller::new(&config, Duration::ZERO);
            let mut began = Vec::new();
            let mut now = Duration::ZERO;
            for (wait, start, answered) in events {
                now += Duration::from_millis(wait);
                if start {
                    if controller.admit(&config, now, 0.3) {
                        began.push(now);
                    }
                } else if let Some(first) = began.pop() {
                    controller.end(&config, first, now, answered);
                }
                prop_assert_eq!(controller.under_way() as usize, began.len());
                prop_assert!((3..=1000).contains(&controller.limit()));
            }
        }
    }
}
