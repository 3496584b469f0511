//! Latencies in nanoseconds, kept in buckets whose width is below 1 % of their value.

/// Buckets per power of two.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();

#[derive(Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub fn record(&mut self, nanoseconds: u64) {
        let bucket = bucket(nanoseconds);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    pub fn add(&mut self, other: &Histogram) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own += more;
        }
        self.total += other.total;
    }

    /// The value that `share` (0 to 1) of the recorded values do not exceed, within 1 %; 0 when nothing was recorded.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return highest(bucket as u64);
            }
        }
        0
    }
}

/// Values below `STEPS` have a bucket each; above, each power of two has `STEPS` buckets.
fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEP_BITS;
    ((u64::from(shift) + 1) * STEPS + ((value >> shift) - STEPS)) as usize
}

/// The largest value that falls into a bucket.
fn highest(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent_of_the_sorted_values() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut values: Vec<u64> = (0..5000).map(|_| random.u64(..) >> random.u32(20..64)).collect();
        let (mut left, mut right) = (Histogram::default(), Histogram::default());
        for (index, value) in values.iter().enumerate() {
            if index % 2 == 0 { left.record(*value) } else { right.record(*value) }
        }
        left.add(&right);
        values.sort_unstable();
        for share in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[(share * values.len() as f64).ceil() as usize - 1];
            let found = left.quantile(share);
            assert!(found >= exact && found as f64 <= exact as f64 * 1.01 + 1.0, "{share}: {found}, not {exact}");
        }
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
