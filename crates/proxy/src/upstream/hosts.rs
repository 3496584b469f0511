//! The hosts of a cluster, as the balancer sees them.

use super::host::Host;
use engine::balance::zones::Peers;
use engine::balance::{Availability, Hosts, Layout, Place, Record};
use model::balance::Metadata;
use model::cluster::{Cluster, Discovery};
use model::endpoint::{Assignment, EndpointTarget, Locality};
use model::health::ActiveHealth;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// All hosts of a cluster, and where each is.
#[derive(Default)]
pub struct HostList {
    pub all: Vec<Rc<Host>>,
    /// By host: its place in the layout.
    places: Vec<u32>,
    /// Hosts that were not checked yet do not count.
    exclude_new: bool,
    pub(super) layout: Layout,
}

impl HostList {
    /// The hosts of `assignment`. Those that are `known` keep their connections and records.
    pub(super) fn new(assignment: &Assignment, known: &HostList, config: &Cluster) -> HostList {
        // The one endpoint of a LOGICAL_DNS cluster stays itself wherever it moves, and keeps its connections.
        let logical = matches!(config.discovery, Discovery::LogicalDns { .. });
        let mut old: HashMap<&model::Address, &Rc<Host>> = known.all.iter().map(|host| (&host.address, host)).collect();
        let mut list = HostList { exclude_new: config.ignore_new_hosts_until_first_check, ..HostList::default() };
        list.layout.overprovisioning = assignment.overprovisioning_factor;
        let mut seen: HashMap<&model::Address, ()> = HashMap::new();
        for group in &assignment.localities {
            let place = list.place_of(group);
            for endpoint in &group.endpoints {
                let EndpointTarget::Address(address) = &endpoint.target else { continue };
                if seen.insert(address, ()).is_some() {
                    continue;
                }
                let same = if logical { old.keys().next().copied() } else { Some(address) };
                list.all.push(match same.and_then(|address| old.remove(address)) {
                    Some(host) if *host.endpoint == **endpoint => host.clone(),
                    Some(host) => Rc::new(host.successor(endpoint.clone(), address.clone())),
                    None => Rc::new(Host::new(endpoint.clone(), address.clone())),
                });
                list.places.push(place);
            }
        }
        for host in old.into_values() {
            host.retire();
        }
        list
    }

    /// The index of a locality in its priority; the same one given twice is one.
    fn place_of(&mut self, group: &model::endpoint::LocalityEndpoints) -> u32 {
        let places = &mut self.layout.places;
        let same = |place: &Place| place.priority == group.priority && place.locality == group.locality;
        let found = places.iter().position(same).unwrap_or_else(|| {
            let weight = f64::from(group.weight.unwrap_or(0));
            places.push(Place { locality: group.locality.clone(), priority: group.priority, weight });
            places.len() - 1
        });
        found as u32
    }

    pub(super) fn priority(&self, host: usize) -> u32 {
        self.layout.places[self.places[host] as usize].priority
    }

    /// The list as that of the proxies that are like this one, which is in `own`.
    pub(super) fn peers(&self, own: &Locality, panic_threshold: u32) -> Peers {
        let mut peers = Peers { own: own.clone(), ..Peers::default() };
        let mut usable = 0;
        for (host, place) in self.all.iter().zip(&self.places) {
            let place = &self.layout.places[*place as usize];
            if place.priority > 0 {
                continue;
            }
            let healthy = u64::from(host.availability() == Availability::Healthy);
            usable += u64::from(host.availability() != Availability::Unhealthy);
            peers.total += 1;
            match peers.healthy.iter_mut().find(|(locality, _)| *locality == place.locality) {
                Some((_, count)) => *count += healthy,
                None => peers.healthy.push((place.locality.clone(), healthy)),
            }
        }
        peers.panic = usable * 100 < u64::from(panic_threshold) * peers.total.max(1);
        peers
    }
}

/// What active health checks found in a cluster.
pub(super) type Found = Arc<BTreeMap<model::Address, ActiveHealth>>;

/// An endpoint that they do not know yet must not be used.
pub(super) fn found_of(found: Option<&Found>, host: &Host) -> ActiveHealth {
    found.and_then(|found| found.get(&host.address)).copied().unwrap_or(ActiveHealth::NEW)
}

/// The hosts of a cluster that nobody has used yet.
pub fn resting(assignment: &Assignment, config: &Cluster, found: Option<&Found>) -> Vec<Rc<Host>> {
    let hosts = HostList::new(assignment, &HostList::default(), config).all;
    for host in hosts.iter().filter(|host| config.health_check.is_some() && host.endpoint.is_checked()) {
        host.checked.set(found_of(found, host));
    }
    hosts
}

impl Hosts for HostList {
    fn len(&self) -> usize {
        self.all.len()
    }

    fn weight(&self, host: usize) -> u32 {
        self.all[host].endpoint.weight
    }

    fn active(&self, host: usize) -> u32 {
        self.all[host].active.get()
    }

    fn record(&self, host: usize) -> &Record {
        &self.all[host].record
    }

    fn healthy_since(&self, host: usize) -> Duration {
        self.all[host].healthy_since.get().unwrap_or_default()
    }

    fn key(&self, host: usize, use_hostname: bool) -> &str {
        let host = &self.all[host];
        match &host.hash_key {
            Some(key) => key,
            None if use_hostname => &host.endpoint.hostname,
            None => &host.name,
        }
    }

    fn availability(&self, host: usize) -> Availability {
        match self.all[host].availability() {
            Availability::Unhealthy if self.exclude_new && self.all[host].checked.get().pending => {
                Availability::Excluded
            }
            found => found,
        }
    }

    fn place(&self, host: usize) -> usize {
        self.places[host] as usize
    }

    fn metadata(&self, host: usize) -> &Metadata {
        &self.all[host].endpoint.lb_metadata
    }
}
