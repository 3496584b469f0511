//! Zone-aware routing: requests stay in their zone as far as its hosts can take its share of all requests, as Envoy
//! documents it.

use model::balance::ZoneAware;
use model::endpoint::Locality;

/// The proxies like this one, by locality: they send as much as this one each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Where this proxy is.
    pub own: Locality,
    /// Healthy ones, by locality; only localities that have any at all.
    pub healthy: Vec<(Locality, u64)>,
    pub total: u64,
    /// Too few of them are healthy to go by their number.
    pub panic: bool,
}

/// Where requests of this zone go. Localities are those of the upstream cluster, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zones {
    /// All stay in this locality.
    Direct(usize),
    /// So many of 10000 stay; the rest goes where capacity is left.
    Residual { own: Option<usize>, stays: u64, capacity: Vec<u64> },
}

/// What a pick by zone did, for the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    #[default]
    None,
    /// The local cluster cannot be gone by.
    PeersNotOk,
    AllDirectly,
    Sampled,
    CrossZone,
    NoCapacityLeft,
}

/// Why there is no routing by zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrouted {
    OneZone,
    PeersNotOk,
    TooSmall,
}

impl Zones {
    /// `upstream` are the healthy hosts by locality.
    pub fn new(config: &ZoneAware, peers: &Peers, upstream: &[(&Locality, u64)]) -> Result<Zones, Unrouted> {
        if upstream.len() < 2 || (peers.healthy.len() < 2 && !config.force_local) {
            return Err(Unrouted::OneZone);
        }
        if !peers.healthy.iter().any(|(locality, healthy)| *locality == peers.own && *healthy > 0) {
            return Err(Unrouted::PeersNotOk);
        }
        let total: u64 = upstream.iter().map(|(_, healthy)| healthy).sum();
        if total < config.min_cluster_size {
            return Err(Unrouted::TooSmall);
        }
        let all: u64 = peers.healthy.iter().map(|(_, healthy)| healthy).sum();
        let sends = |locality: &Locality| {
            let found = peers.healthy.iter().find(|(other, _)| other == locality);
            found.map_or(0, |(_, healthy)| 10_000 * healthy / all.max(1))
        };
        let takes = |healthy: u64| 10_000 * healthy / total.max(1);
        let own = upstream.iter().position(|(locality, _)| **locality == peers.own);
        let (own_takes, own_sends) = own.map_or((0, 0), |own| (takes(upstream[own].1), sends(&peers.own)));
        if let Some(own) = own
            && (own_takes > 0 && own_takes >= own_sends || config.force_local)
        {
            return Ok(Zones::Direct(own));
        }
        let left = upstream.iter().enumerate().map(|(index, (locality, healthy))| match *healthy {
            _ if own == Some(index) => 0,
            0 => 0,
            healthy => takes(healthy).saturating_sub(sends(locality)),
        });
        let mut sum = 0;
        let capacity = left.map(|left| {
            sum += left;
            sum
        });
        let stays = (own_takes * 10_000).checked_div(own_sends).unwrap_or(0);
        Ok(Zones::Residual { own, stays, capacity: capacity.collect() })
    }

    /// The locality of one request.
    pub fn choose(&self, random: &mut fastrand::Rng) -> (usize, Step) {
        let (own, stays, capacity) = match self {
            Zones::Direct(own) => return (*own, Step::AllDirectly),
            Zones::Residual { own, stays, capacity } => (own, stays, capacity),
        };
        if let Some(own) = own
            && random.u64(..10_000) < *stays
        {
            return (*own, Step::Sampled);
        }
        match capacity.last() {
            Some(total) if *total > 0 => {
                let point = random.u64(..*total);
                (capacity.partition_point(|sum| *sum <= point), Step::CrossZone)
            }
            _ => (random.usize(..capacity.len().max(1)), Step::NoCapacityLeft),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Locality {
        Locality { zone: name.into(), ..Locality::default() }
    }

    fn peers(counts: &[(&str, u64)]) -> Peers {
        let healthy: Vec<_> = counts.iter().map(|(name, count)| (zone(name), *count)).collect();
        let total = counts.iter().map(|(_, count)| count).sum();
        Peers { own: zone("a"), healthy, total, panic: false }
    }

    #[test]
    fn requests_stay_as_far_as_there_is_room() {
        // Peers and upstream hosts in the zones a, b and c; then what becomes of requests from zone a.
        let cases = [
            ([1, 1, 1], [2, 2, 2], Zones::Direct(0)),
            ([2, 1, 1], [2, 2, 4], Zones::Residual { own: Some(0), stays: 5000, capacity: vec![0, 0, 2500] }),
            ([4, 4, 2], [2, 4, 2], Zones::Residual { own: Some(0), stays: 6250, capacity: vec![0, 1000, 1500] }),
            ([1, 1, 1], [0, 4, 4], Zones::Residual { own: Some(0), stays: 0, capacity: vec![0, 1667, 3334] }),
        ];
        for (sending, taking, expected) in cases {
            let peers = peers(&[("a", sending[0]), ("b", sending[1]), ("c", sending[2])]);
            let names = [zone("a"), zone("b"), zone("c")];
            let upstream: Vec<_> = names.iter().zip(taking).collect();
            let found = Zones::new(&ZoneAware::default(), &peers, &upstream);
            assert_eq!(found, Ok(expected), "{sending:?} to {taking:?}");
        }
    }

    #[test]
    fn zones_do_not_always_count() {
        let (a, b) = (zone("a"), zone("b"));
        let config = ZoneAware::default();
        let new = |peers: &[(&str, u64)], upstream: &[(&Locality, u64)]| {
            Zones::new(&config, &self::peers(peers), upstream).unwrap_err()
        };
        assert_eq!(new(&[("a", 1), ("b", 1)], &[(&a, 9)]), Unrouted::OneZone);
        assert_eq!(new(&[("a", 1)], &[(&a, 3), (&b, 3)]), Unrouted::OneZone);
        assert_eq!(new(&[("a", 0), ("b", 1)], &[(&a, 3), (&b, 3)]), Unrouted::PeersNotOk);
        assert_eq!(new(&[("a", 1), ("b", 1)], &[(&a, 3), (&b, 2)]), Unrouted::TooSmall);
    }

    #[test]
    fn residual_capacity_is_drawn_in_proportion() {
        let zones = Zones::Residual { own: Some(0), stays: 5000, capacity: vec![0, 1000, 4000] };
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = [0u32; 3];
        for _ in 0..40_000 {
            counts[zones.choose(&mut random).0] += 1;
        }
        for (count, expected) in counts.into_iter().zip([20_000u32, 5_000, 15_000]) {
            assert!(count.abs_diff(expected) < 600, "{counts:?}");
        }
    }
}
