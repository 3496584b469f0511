//! Ring hash (Ketama): hosts hold many points on a ring; a key belongs to the next point at or after its hash.

use super::{Entry, hash, murmur::murmur2};
use model::balance::{HashFunction, RingHash};
use std::fmt::Write;

#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Hash and host, in order of the hash.
    points: Vec<(u64, u32)>,
}

impl Ring {
    pub fn new(config: &RingHash, entries: &[Entry<'_>]) -> Self {
        let least = entries.iter().map(|entry| entry.share).fold(1.0, f64::min);
        // The host with the smallest share gets a whole number of points, unless the ring would be too large.
        let scale = ((least * config.min_size as f64).ceil() / least).min(config.max_size as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let mut target = 0.0;
        let mut name = String::new();
        for (host, entry) in entries.iter().enumerate() {
            target += scale * entry.share;
            let mut number = 0;
            while (points.len() as f64) < target {
                name.clear();
                let _ = write!(name, "{}_{number}", entry.key);
                let point = match config.function {
                    HashFunction::XxHash => hash(name.as_bytes()),
                    HashFunction::MurmurHash2 => murmur2(name.as_bytes()),
                };
                points.push((point, host as u32));
                number += 1;
            }
        }
        points.sort_by_key(|(point, _)| *point);
        Ring { points }
    }

    /// The host of `key`. The `attempt`-th further attempt takes that many points more.
    pub fn choose(&self, key: u64, attempt: u32) -> Option<usize> {
        let at = self.points.partition_point(|(point, _)| *point < key);
        let (_, host) = self.points.get((at + attempt as usize).checked_rem(self.points.len())?)?;
        Some(*host as usize)
    }
}
