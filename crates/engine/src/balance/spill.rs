//! Which of several groups of hosts, in order of preference, takes the next request: the first while enough of it is
//! well, then the next for what the first cannot carry (Envoy's priority levels, and the members of an aggregate).

/// The percentage of its load that a group can carry: all while at least 100/140 of it is well.
pub fn availability(healthy: usize, total: usize, overprovisioning: u32) -> u32 {
    if total == 0 {
        return 0;
    }
    let percent = healthy as u64 * u64::from(overprovisioning) / total as u64;
    percent.min(100) as u32
}

/// The group for a request whose random number is `point`, below 100. `None`: nobody is available.
pub fn spill(groups: impl Iterator<Item = u32> + Clone, point: u32) -> Option<usize> {
    let total = groups.clone().sum::<u32>().min(100);
    if total == 0 {
        return None;
    }
    let (mut reached, mut last) = (0, None);
    for (index, available) in groups.enumerate().filter(|(_, available)| *available > 0) {
        reached += available * 100 / total;
        last = Some(index);
        if point < reached {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(groups: &[u32]) -> Vec<usize> {
        let mut shares = vec![0; groups.len()];
        (0..100).filter_map(|point| spill(groups.iter().copied(), point)).for_each(|index| shares[index] += 1);
        shares
    }

    #[test]
    fn the_rest_goes_to_the_next() {
        assert_eq!(shares(&[100, 100]), [100, 0]);
        assert_eq!(shares(&[70, 100]), [70, 30]);
        assert_eq!(shares(&[0, 20, 20]), [0, 50, 50], "what is left carries all");
        assert_eq!(shares(&[0, 0]), [0, 0]);
        assert_eq!(shares(&[35, 35, 100]), [35, 35, 30]);
    }

    #[test]
    fn overprovisioned() {
        assert_eq!(availability(5, 7, 140), 100);
        assert_eq!(availability(1, 2, 140), 70);
        assert_eq!(availability(0, 0, 140), 0);
    }
}
