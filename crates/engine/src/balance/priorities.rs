//! Which hosts a request may go to: priority by priority, healthy before degraded ones, by locality where that counts.

use super::loads::{Level, Loads};
use super::schedule::Schedule;
use super::zones::{Peers, Step, Unrouted, Zones};
use super::{Availability, Hosts, Learned, Pick, Picker, Record};
use model::balance::{Localities, Metadata, Policy};
use model::endpoint::Locality;
use std::rc::Rc;
use std::time::Duration;

/// Where hosts can be, as the control plane arranged it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub places: Vec<Place>,
    /// Percent.
    pub overprovisioning: u32,
}

/// A locality of one priority.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    pub locality: Locality,
    pub priority: u32,
    /// Zero gets no load where localities are weighted.
    pub weight: f64,
}

/// What a cluster's configuration says of balancing.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub policy: &'a Policy,
    pub localities: &'a Localities,
    /// Percent.
    pub panic_threshold: u32,
    pub learned: &'a Rc<Learned>,
    /// Where this proxy is among its like.
    pub peers: Option<&'a Peers>,
}

/// Priorities with their hosts, ready to pick from.
#[derive(Clone, Debug)]
pub struct Priorities {
    levels: Vec<Level>,
    loads: Loads,
    /// By priority.
    pools: Vec<Pools>,
    hashing: bool,
    fail_on_panic: bool,
    zones: Option<ZoneRouting>,
    /// Why there are no zones, though peers are known.
    pub unrouted: Option<Unrouted>,
}

/// Zones for priority 0.
#[derive(Clone, Debug)]
struct ZoneRouting {
    zones: Zones,
    /// Percent of the requests.
    enabled: u32,
    peers_in_panic: bool,
}

#[derive(Clone, Debug)]
struct Pools {
    /// All hosts, in a panic.
    all: Option<Group>,
    healthy: Pool,
    degraded: Pool,
}

/// Hosts of one priority and health.
#[derive(Clone, Debug)]
struct Pool {
    whole: Group,
    by_locality: Vec<Group>,
    /// Localities in turn, by weight.
    turns: Option<(Schedule, Vec<f64>)>,
}

#[derive(Clone, Debug)]
struct Group {
    members: Box<[u32]>,
    picker: Picker,
}

/// Some hosts of a list as a list.
struct Within<'a, H> {
    hosts: &'a H,
    members: &'a [u32],
}

impl<H: Hosts> Hosts for Within<'_, H> {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn weight(&self, host: usize) -> u32 {
        self.hosts.weight(self.members[host] as usize)
    }

    fn active(&self, host: usize) -> u32 {
        self.hosts.active(self.members[host] as usize)
    }

    fn record(&self, host: usize) -> &Record {
        self.hosts.record(self.members[host] as usize)
    }

    fn healthy_since(&self, host: usize) -> Duration {
        self.hosts.healthy_since(self.members[host] as usize)
    }

    fn key(&self, host: usize, use_hostname: bool) -> &str {
        self.hosts.key(self.members[host] as usize, use_hostname)
    }

    fn metadata(&self, host: usize) -> &Metadata {
        self.hosts.metadata(self.members[host] as usize)
    }
}

impl Group {
    fn new(
        rules: &Rules<'_>,
        hosts: &impl Hosts,
        members: Vec<u32>,
        shares: Option<&[f64]>,
        pick: &mut Pick<'_>,
    ) -> Self {
        let list = Within { hosts, members: &members };
        let picker = Picker::new(rules.policy, rules.learned, &list, shares, pick);
        Group { members: members.into(), picker }
    }

    fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        let list = Within { hosts, members: &self.members };
        self.picker.pick(&list, pick).map(|host| self.members[host] as usize)
    }
}

/// Builds the pools of one priority.
struct Builder<'a, H> {
    rules: &'a Rules<'a>,
    layout: &'a Layout,
    hosts: &'a H,
    /// By locality with any host at all: its place and its hosts.
    localities: Vec<(usize, Vec<u32>)>,
}

impl<H: Hosts> Builder<'_, H> {
    fn of(&self, wanted: impl Fn(Availability) -> bool) -> Vec<Vec<u32>> {
        let wanted = |host: &&u32| wanted(self.hosts.availability(**host as usize));
        self.localities.iter().map(|(_, hosts)| hosts.iter().filter(wanted).copied().collect()).collect()
    }

    fn level(&self) -> Level {
        let mut level = Level::default();
        for host in self.localities.iter().flat_map(|(_, hosts)| hosts) {
            match self.hosts.availability(*host as usize) {
                Availability::Healthy => level.healthy += 1,
                Availability::Degraded => level.degraded += 1,
                Availability::Unhealthy => {}
                Availability::Excluded => continue,
            }
            level.hosts += 1;
        }
        let capacity = |usable: u32| {
            let percent = u64::from(self.layout.overprovisioning) * u64::from(usable) / u64::from(level.hosts.max(1));
            percent.min(100) as u32
        };
        let (healthy_capacity, degraded_capacity) = (capacity(level.healthy), capacity(level.degraded));
        Level { healthy_capacity, degraded_capacity, ..level }
    }

    fn weighted(&self) -> bool {
        *self.rules.localities == Localities::Weighted
    }

    /// The hosts of every locality as one group.
    fn whole(&self, by_locality: &[Vec<u32>], pick: &mut Pick<'_>) -> Group {
        if !(self.rules.policy.is_hashing() && self.weighted()) {
            return Group::new(self.rules, self.hosts, by_locality.concat(), None, pick);
        }
        // Where keys are hashed, weights of localities are shares of the ring; without any weight it is empty.
        let weight = |place: usize| self.layout.places[place].weight;
        let total: f64 = self.localities.iter().map(|(place, _)| weight(*place)).sum();
        if total == 0.0 {
            return Group::new(self.rules, self.hosts, Vec::new(), None, pick);
        }
        let (mut members, mut shares) = (Vec::new(), Vec::new());
        for ((place, _), hosts) in
            self.localities.iter().zip(by_locality).filter(|((place, _), _)| weight(*place) > 0.0)
        {
            let sum: f64 = hosts.iter().map(|host| f64::from(self.hosts.weight(*host as usize))).sum();
            for host in hosts {
                members.push(*host);
                shares.push(weight(*place) / total * f64::from(self.hosts.weight(*host as usize)) / sum);
            }
        }
        Group::new(self.rules, self.hosts, members, Some(&shares), pick)
    }

    fn pool(&self, by_locality: Vec<Vec<u32>>, zoned: bool, pick: &mut Pick<'_>) -> Pool {
        let whole = self.whole(&by_locality, pick);
        if self.rules.policy.is_hashing() || !(zoned || self.weighted()) {
            return Pool { whole, by_locality: Vec::new(), turns: None };
        }
        let turns = self.weighted().then(|| self.turns(&by_locality, pick)).flatten();
        let group = |members| Group::new(self.rules, self.hosts, members, None, pick);
        Pool { whole, by_locality: by_locality.into_iter().map(group).collect(), turns }
    }

    /// A locality's weight shrinks when so many of its hosts are unusable that the rest cannot carry its load.
    fn turns(&self, usable: &[Vec<u32>], pick: &mut Pick<'_>) -> Option<(Schedule, Vec<f64>)> {
        let overprovisioning = f64::from(self.layout.overprovisioning) / 100.0;
        let counts = |host: &&u32| self.hosts.availability(**host as usize) != Availability::Excluded;
        let weight = |((place, all), usable): (&(usize, Vec<u32>), &Vec<u32>)| {
            let all = all.iter().filter(counts).count().max(1);
            let available = overprovisioning * usable.len() as f64 / all as f64;
            self.layout.places[*place].weight * available.min(1.0)
        };
        let weights: Vec<f64> = self.localities.iter().zip(usable).map(weight).collect();
        let loaded = || weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
        loaded().next()?;
        Some((Schedule::of(loaded().map(|(index, weight)| (index, *weight)), pick.random.f64()), weights))
    }

    /// Zones of priority 0, or why there are none.
    fn zones(&self) -> Option<Result<ZoneRouting, Unrouted>> {
        let (Localities::ZoneAware(config), Some(peers)) = (self.rules.localities, self.rules.peers) else {
            return None;
        };
        let healthy = self.of(|availability| availability == Availability::Healthy);
        let upstream = self.localities.iter().zip(&healthy);
        let upstream: Vec<(&Locality, u64)> =
            upstream.map(|((place, _), hosts)| (&self.layout.places[*place].locality, hosts.len() as u64)).collect();
        Some(Zones::new(config, peers, &upstream).map(|zones| ZoneRouting {
            zones,
            enabled: config.routing_enabled,
            peers_in_panic: peers.panic,
        }))
    }
}

impl Priorities {
    /// Of the `members` among `hosts`.
    pub fn new(
        rules: &Rules<'_>,
        layout: &Layout,
        hosts: &impl Hosts,
        members: impl Iterator<Item = usize>,
        pick: &mut Pick<'_>,
    ) -> Self {
        let count = layout.places.iter().map(|place| place.priority as usize + 1).max().unwrap_or(1);
        let mut by_place: Vec<Vec<u32>> = vec![Vec::new(); layout.places.len().max(1)];
        for host in members {
            by_place[hosts.place(host)].push(host as u32);
        }
        let mut localities: Vec<Vec<(usize, Vec<u32>)>> = vec![Vec::new(); count];
        for (place, members) in by_place.into_iter().enumerate().filter(|(_, members)| !members.is_empty()) {
            let priority = layout.places.get(place).map_or(0, |place| place.priority as usize);
            localities[priority].push((place, members));
        }
        let builders = localities.into_iter().map(|localities| Builder { rules, layout, hosts, localities });
        let builders: Vec<_> = builders.collect();
        let levels: Vec<Level> = builders.iter().map(Builder::level).collect();
        let loads = Loads::new(&levels, rules.panic_threshold);
        let (zones, unrouted) = match builders.first().and_then(Builder::zones) {
            Some(Ok(zones)) => (Some(zones), None),
            Some(Err(unrouted)) => (None, Some(unrouted)),
            None => (None, None),
        };
        let pools = builders.iter().enumerate().map(|(priority, builder)| {
            let zoned = priority == 0 && zones.is_some();
            Pools {
                all: loads.panic[priority].then(|| builder.whole(&builder.of(|_| true), pick)),
                healthy: builder.pool(builder.of(|found| found == Availability::Healthy), zoned, pick),
                degraded: builder.pool(builder.of(|found| found == Availability::Degraded), zoned, pick),
            }
        });
        let pools = pools.collect();
        let fail_on_panic = match rules.localities {
            Localities::ZoneAware(config) => config.fail_traffic_on_panic,
            Localities::Weighted => false,
        };
        Priorities { levels, loads, pools, hashing: rules.policy.is_hashing(), fail_on_panic, zones, unrouted }
    }

    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        let point = if self.hashing
            && let Some(hash) = pick.hash
        {
            hash
        } else {
            pick.random.u64(..)
        };
        if self.hashing {
            pick.hash = Some(point);
        }
        let (priority, degraded) = match &mut pick.tried {
            Some(tried) if !tried.is_empty() && !self.hashing => self.loads.leaving(&self.levels, tried).choose(point),
            _ => self.loads.choose(point),
        };
        let pools = self.pools.get_mut(priority)?;
        if let Some(all) = &mut pools.all {
            pick.notes.panic = true;
            return if self.fail_on_panic && !self.hashing { None } else { all.pick(hosts, pick) };
        }
        if self.hashing {
            return pools.healthy.whole.pick(hosts, pick);
        }
        let pool = if degraded { &mut pools.degraded } else { &mut pools.healthy };
        if let Some((schedule, weights)) = &mut pool.turns {
            let locality = schedule.pick(|locality| weights[locality])?;
            return pool.by_locality[locality].pick(hosts, pick);
        }
        if let Some(zones) = self.zones.as_ref().filter(|zones| priority == 0 && pick.random.u32(..100) < zones.enabled)
        {
            if !zones.peers_in_panic {
                let (locality, step) = zones.zones.choose(pick.random);
                pick.notes.zone = step;
                return pool.by_locality[locality].pick(hosts, pick);
            }
            pick.notes.zone = Step::PeersNotOk;
            if self.fail_on_panic {
                return None;
            }
        }
        pool.whole.pick(hosts, pick)
    }
}
