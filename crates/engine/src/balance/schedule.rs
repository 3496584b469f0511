//! Weighted round robin: earliest deadline first, as in Envoy's `EdfScheduler`.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Every host has a deadline, one picks the earliest, and its next one is `1 / weight` later. Weights may change
/// between picks; a host's new weight counts from its next pick on.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    now: f64,
    /// Orders equal deadlines: first come, first served.
    count: u64,
    queue: BinaryHeap<Reverse<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    host: u32,
}

impl Schedule {
    /// `phase`, from 0 to 1, spreads the starting points of many schedules; the shares are exact from any of them.
    pub fn new(weights: impl IntoIterator<Item = f64>, phase: f64) -> Self {
        Schedule::of(weights.into_iter().enumerate(), phase)
    }

    /// As `new`, of hosts with numbers of their own.
    pub fn of(weights: impl IntoIterator<Item = (usize, f64)>, phase: f64) -> Self {
        let mut schedule = Schedule::default();
        for (host, weight) in weights {
            let deadline = ((phase * weight).floor() + 1.0) / weight - phase;
            schedule.queue.push(Reverse(Entry { deadline, order: schedule.count, host: host as u32 }));
            schedule.count += 1;
        }
        schedule
    }

    /// The next host; `weight` is asked for its weight from now on, which must be greater than zero.
    pub fn pick(&mut self, weight: impl FnOnce(usize) -> f64) -> Option<usize> {
        let mut top = self.queue.peek_mut()?;
        let host = top.0.host as usize;
        self.now = top.0.deadline;
        top.0 = Entry { deadline: self.now + 1.0 / weight(host), order: self.count, host: host as u32 };
        self.count += 1;
        // Moves the entry to its new place.
        drop::<PeekMut<'_, _>>(top);
        Some(host)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_cycle_gives_each_host_its_weight(
            weights in proptest::collection::vec(1..20u32, 1..8),
            phase in 0.0..1.0f64,
        ) {
            let total: u32 = weights.iter().sum();
            let mut schedule = Schedule::new(weights.iter().map(|weight| f64::from(*weight)), phase);
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..10 * total {
                counts[schedule.pick(|host| f64::from(weights[host])).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                // Rounding of deadlines may move one pick over the last cycle's end.
                prop_assert!(count.abs_diff(10 * weight) <= 1, "{counts:?} of {weights:?}");
            }
        }
    }

    #[test]
    fn light_hosts_come_between_heavy_ones() {
        let weights = [1.0, 3.0];
        let mut schedule = Schedule::new(weights, 0.0);
        let picks: Vec<usize> = (0..8).map(|_| schedule.pick(|host| weights[host]).unwrap()).collect();
        assert_eq!(picks.iter().filter(|host| **host == 0).count(), 2, "{picks:?}");
        assert!(picks.windows(2).all(|pair| pair != [0, 0]), "{picks:?}");
    }
}
