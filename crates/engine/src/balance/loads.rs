//! How load is shared among priorities, as Envoy documents it ("Priority levels", "Degraded endpoints", "Panic
//! threshold").

/// The hosts of one priority, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub hosts: u32,
    pub healthy: u32,
    pub degraded: u32,
    /// Percent of the load that its healthy hosts can carry: their share times the overprovisioning factor.
    pub healthy_capacity: u32,
    pub degraded_capacity: u32,
}

/// Percent of the load by priority; together 100.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    pub healthy: Vec<u32>,
    pub degraded: Vec<u32>,
    /// Priorities in which all hosts are used because too few are healthy.
    pub panic: Vec<bool>,
}

impl Loads {
    /// `panic_threshold` is a percentage.
    pub fn new(levels: &[Level], panic_threshold: u32) -> Loads {
        let capacity = |level: &Level| level.healthy_capacity + level.degraded_capacity;
        let total = levels.iter().map(capacity).sum::<u32>().min(100);
        let mut loads =
            Loads { healthy: vec![0; levels.len()], degraded: vec![0; levels.len()], panic: vec![false; levels.len()] };
        if total > 0 {
            let (first, left) =
                share(&mut loads.healthy, levels.iter().map(|level| level.healthy_capacity), 100, total);
            let capacities = levels.iter().map(|level| level.degraded_capacity);
            let (first_degraded, left) = share(&mut loads.degraded, capacities, left, total);
            // What rounding left over.
            match (first, first_degraded) {
                (Some(first), _) => loads.healthy[first] += left,
                (None, Some(first)) => loads.degraded[first] += left,
                (None, None) => {}
            }
        }
        if total == 0 && (panic_threshold == 0 || levels.is_empty()) {
            if let Some(first) = loads.healthy.first_mut() {
                *first = 100;
            }
            return loads;
        }
        for (panic, level) in loads.panic.iter_mut().zip(levels) {
            let usable = 100.0 * f64::from(level.healthy + level.degraded) / f64::from(level.hosts.max(1));
            *panic = total < 100 && usable < f64::from(panic_threshold);
        }
        if loads.panic.iter().all(|panic| *panic) {
            loads.share_in_total_panic(levels);
        }
        loads
    }

    /// Every priority gets load by the number of its hosts, whatever their health.
    fn share_in_total_panic(&mut self, levels: &[Level]) {
        let total: u32 = levels.iter().map(|level| level.hosts).sum();
        let mut left = 100;
        for (load, level) in self.healthy.iter_mut().zip(levels) {
            *load = (100 * level.hosts).checked_div(total).unwrap_or(0);
            left -= *load;
        }
        self.degraded.fill(0);
        let first = levels.iter().position(|level| level.hosts > 0).unwrap_or(0);
        if let Some(first) = self.healthy.get_mut(first) {
            *first += left;
        }
    }

    /// The priority at `point`, a random number or a hash, and whether its degraded hosts are meant.
    pub fn choose(&self, point: u64) -> (usize, bool) {
        let point = (point % 100) as u32 + 1;
        let mut sum = 0;
        let degraded = self.degraded.iter().enumerate().map(|(priority, load)| (priority, true, load));
        for (priority, degraded, load) in
            self.healthy.iter().enumerate().map(|(priority, load)| (priority, false, load)).chain(degraded)
        {
            sum += load;
            if point <= sum {
                return (priority, degraded);
            }
        }
        (0, false)
    }

    /// The load that retries bring once the priorities in `tried` are left (`previous_priorities`). If none other has
    /// capacity, `tried` is forgotten.
    pub fn leaving(&self, levels: &[Level], tried: &mut Vec<u32>) -> Loads {
        let capacity = |tried: &[u32]| -> u32 {
            let left = levels.iter().enumerate().filter(|(priority, _)| !tried.contains(&(*priority as u32)));
            left.map(|(_, level)| level.healthy_capacity + level.degraded_capacity).sum::<u32>().min(100)
        };
        let mut total = capacity(tried);
        if total == 0 {
            tried.clear();
            total = capacity(tried);
        }
        if total == 0 {
            return self.clone();
        }
        let mut loads = Loads { panic: self.panic.clone(), ..Loads::default() };
        loads.healthy.resize(levels.len(), 0);
        loads.degraded.resize(levels.len(), 0);
        let mut left = 100;
        while left > 0 {
            for (priority, level) in levels.iter().enumerate() {
                if !tried.contains(&(priority as u32)) {
                    let healthy = left.min(level.healthy_capacity * 100 / total);
                    let degraded = (left - healthy).min(level.degraded_capacity * 100 / total);
                    loads.healthy[priority] += healthy;
                    loads.degraded[priority] += degraded;
                    left -= healthy + degraded;
                }
            }
        }
        loads
    }
}

/// Gives each priority as much as it can carry, in order; the first that can carry any, and what is left.
fn share(loads: &mut [u32], capacities: impl Iterator<Item = u32>, mut left: u32, total: u32) -> (Option<usize>, u32) {
    let mut first = None;
    for (priority, capacity) in capacities.enumerate() {
        if capacity > 0 {
            first = first.or(Some(priority));
        }
        loads[priority] = left.min(capacity * 100 / total);
        left -= loads[priority];
    }
    (first, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts, healthy and degraded ones of each priority, with an overprovisioning factor of 140.
    fn levels(counts: &[(u32, u32, u32)]) -> Vec<Level> {
        let level = |&(hosts, healthy, degraded): &(u32, u32, u32)| {
            let capacity = |count: u32| (140 * count).checked_div(hosts).unwrap_or(0).min(100);
            let (healthy_capacity, degraded_capacity) = (capacity(healthy), capacity(degraded));
            Level { hosts, healthy, degraded, healthy_capacity, degraded_capacity }
        };
        counts.iter().map(level).collect()
    }

    #[test]
    fn as_documented() {
        // The tables of Envoy's documentation, and corners. Counts; healthy loads; degraded loads; panic.
        type Case = (&'static [(u32, u32, u32)], &'static [u32], &'static [u32], &'static [bool]);
        let cases: [Case; 12] = [
            (&[(100, 100, 0), (100, 100, 0)], &[100, 0], &[0, 0], &[false, false]),
            (&[(100, 72, 0), (100, 72, 0)], &[100, 0], &[0, 0], &[false, false]),
            (&[(100, 71, 0), (100, 71, 0)], &[99, 1], &[0, 0], &[false, false]),
            (&[(100, 50, 0), (100, 50, 0)], &[70, 30], &[0, 0], &[false, false]),
            (&[(100, 25, 0), (100, 100, 0)], &[35, 65], &[0, 0], &[false, false]),
            (&[(100, 25, 0), (100, 25, 0)], &[50, 50], &[0, 0], &[true, true]),
            (&[(100, 0, 0), (100, 0, 0), (100, 100, 0)], &[0, 0, 100], &[0, 0, 0], &[false, false, false]),
            (&[(4, 2, 2), (4, 4, 0)], &[70, 30], &[0, 0], &[false, false]),
            (&[(4, 0, 4)], &[0], &[100], &[false]),
            (&[(10, 5, 2)], &[72], &[28], &[false]),
            (&[(3, 0, 0), (1, 0, 0)], &[75, 25], &[0, 0], &[true, true]),
            (&[(0, 0, 0)], &[100], &[0], &[true]),
        ];
        for (counts, healthy, degraded, panic) in cases {
            let loads = Loads::new(&levels(counts), 50);
            assert_eq!((&*loads.healthy, &*loads.degraded, &*loads.panic), (healthy, degraded, panic), "{counts:?}");
        }
        let loads = Loads::new(&levels(&[(3, 0, 0)]), 0);
        assert_eq!((&*loads.healthy, &*loads.panic), (&[100][..], &[false][..]), "no panic at a threshold of zero");
    }

    #[test]
    fn points_follow_the_loads() {
        let loads = Loads { healthy: vec![30, 0, 20], degraded: vec![50, 0, 0], panic: vec![false; 3] };
        let mut counts = [0; 4];
        for point in 0..1000 {
            match loads.choose(point) {
                (0, false) => counts[0] += 1,
                (2, false) => counts[1] += 1,
                (0, true) => counts[2] += 1,
                _ => counts[3] += 1,
            }
        }
        assert_eq!(counts, [300, 200, 500, 0]);
    }

    #[test]
    fn retries_leave_priorities() {
        let levels = levels(&[(4, 4, 0), (4, 2, 0), (4, 1, 0)]);
        let loads = Loads::new(&levels, 50);
        assert_eq!(loads.healthy, [100, 0, 0]);
        assert_eq!(loads.leaving(&levels, &mut vec![0]).healthy, [0, 70, 30]);
        let mut tried = vec![0, 1, 2];
        assert_eq!(loads.leaving(&levels, &mut tried).healthy, [100, 0, 0]);
        assert!(tried.is_empty(), "all were tried: it begins again");
    }
}
