//! Metrics with a single writer: a plain load and store, no atomic read-modify-write. Readers sum over workers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Only ever grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub fn inc(&self) {
        self.add(1);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn inc(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sub-buckets per power of two: at most 12.5 % error.
const SUB: usize = 8;
/// Values up to 2^36 microseconds (19 hours).
const BUCKETS: usize = SUB * 34;

/// Durations in microseconds, in log-linear buckets. Takes memory with the first value.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: OnceLock<Box<[AtomicU64]>>,
    sum: Counter,
}

impl Histogram {
    pub fn record(&self, value: Duration) {
        let micros = value.as_micros() as u64;
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        let bucket = &buckets[bucket_of(micros)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.sum.add(micros);
    }

    /// Adds this histogram's counts to `into`.
    pub fn merge_into(&self, into: &mut Distribution) {
        if let Some(buckets) = self.buckets.get() {
            into.counts.resize(BUCKETS, 0);
            for (sum, bucket) in into.counts.iter_mut().zip(buckets.iter()) {
                *sum += bucket.load(Ordering::Relaxed);
            }
            into.sum_micros += self.sum.get();
        }
    }
}

fn bucket_of(micros: u64) -> usize {
    if micros < SUB as u64 {
        return micros as usize;
    }
    let power = 63 - micros.leading_zeros() as usize;
    let sub = (micros >> (power - 3)) as usize & (SUB - 1);
    ((power - 2) * SUB + sub).min(BUCKETS - 1)
}

/// Lower bound of a bucket in microseconds.
fn bucket_floor(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let power = bucket / SUB + 2;
    ((SUB + bucket % SUB) as u64) << (power - 3)
}

/// Counts summed over workers.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    counts: Vec<u64>,
    pub sum_micros: u64,
}

impl Distribution {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The value below which the share `q` (0 to 1) of all values lies, in milliseconds.
    pub fn quantile_millis(&self, q: f64) -> f64 {
        let total = self.count();
        let mut left = (q * total as f64).ceil().max(1.0) as u64;
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count >= left {
                let low = bucket_floor(bucket) as f64;
                let high = bucket_floor(bucket + 1) as f64;
                return (low + (high - low) * (left as f64 / count as f64)) / 1000.0;
            }
            left -= count;
        }
        0.0
    }

    /// How many values are at most `millis`.
    pub fn at_most_millis(&self, millis: f64) -> u64 {
        let limit = (millis * 1000.0) as u64;
        self.counts.iter().enumerate().filter(|(bucket, _)| bucket_floor(*bucket) < limit).map(|(_, count)| count).sum()
    }

    pub fn merge(&mut self, other: &Distribution) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.sum_micros += other.sum_micros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous() {
        for bucket in 0..BUCKETS - 1 {
            let floor = bucket_floor(bucket);
            assert_eq!(bucket_of(floor), bucket, "{floor}");
            assert_eq!(bucket_of(bucket_floor(bucket + 1) - 1), bucket);
        }
    }

    #[test]
    fn quantiles() {
        let histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.record(Duration::from_millis(millis));
        }
        let mut all = Distribution::default();
        histogram.merge_into(&mut all);
        assert_eq!(all.count(), 1000);
        for (q, wanted) in [(0.5, 500.0), (0.99, 990.0)] {
            let found = all.quantile_millis(q);
            assert!((found - wanted).abs() / wanted < 0.13, "{q}: {found}");
        }
        assert!(all.at_most_millis(2000.0) == 1000);
    }
}
