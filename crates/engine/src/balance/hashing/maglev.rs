//! Maglev: a table of prime size that hosts fill in turn, each along its own permutation of the places.
//!
//! "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4, with Envoy's treatment of weights.

use super::Entry;
use xxhash_rust::xxh64::xxh64;

#[derive(Clone, Debug, Default)]
pub struct Maglev {
    /// The host at each place.
    table: Vec<u32>,
}

/// A host's way through the table.
struct Way {
    host: u32,
    place: u64,
    skip: u64,
    share: f64,
    target: f64,
}

impl Maglev {
    pub fn new(size: u32, entries: &[Entry<'_>]) -> Self {
        const FREE: u32 = u32::MAX;
        if entries.is_empty() {
            return Maglev::default();
        }
        let size = u64::from(size);
        let mut ways: Vec<Way> = entries.iter().enumerate().map(|(host, entry)| Way::new(host, entry, size)).collect();
        // Hosts take their turns in the order of their keys, so that the order of the list does not matter.
        ways.sort_by_key(|way| entries[way.host as usize].key);
        let largest = entries.iter().map(|entry| entry.share).fold(0.0, f64::max);
        let mut table = vec![FREE; size as usize];
        let mut left = size;
        for round in 1u64.. {
            for way in &mut ways {
                // A host with a third of the largest share comes up every third round.
                if round as f64 * way.share < way.target {
                    continue;
                }
                if left == 0 {
                    return Maglev { table };
                }
                way.target += largest;
                while table[way.place as usize] != FREE {
                    way.place = (way.place + way.skip) % size;
                }
                table[way.place as usize] = way.host;
                left -= 1;
            }
        }
        Maglev { table }
    }

    /// The host of `key`. Further attempts change the key.
    pub fn choose(&self, key: u64, attempt: u32) -> Option<usize> {
        let key = if attempt > 0 { key ^ 0u64.wrapping_sub(u64::from(attempt)) } else { key };
        let place = key.checked_rem(self.table.len() as u64)?;
        Some(self.table[place as usize] as usize)
    }
}

impl Way {
    fn new(host: usize, entry: &Entry<'_>, size: u64) -> Way {
        let key = entry.key.as_bytes();
        Way {
            host: host as u32,
            place: xxh64(key, 0) % size,
            skip: xxh64(key, 1) % (size - 1) + 1,
            share: entry.share,
            target: 0.0,
        }
    }
}
