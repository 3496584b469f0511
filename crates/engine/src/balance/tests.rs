//! Priorities, localities, subsets and reports, seen through the balancer.

use super::orca::Report;
use super::zones::{Peers, Step};
use super::*;
use model::balance::{ClientWeighted, Fallback, Localities, Policy, RingHash, Selector, Subsets, ZoneAware};
use model::endpoint::Locality;
use std::rc::Rc;

#[derive(Clone)]
struct Host {
    place: usize,
    availability: Availability,
    weight: u32,
    metadata: Vec<(Box<str>, Box<str>)>,
    record: Record,
}

struct List(Vec<Host>);

const NAMES: [&str; 10] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9"];

impl Hosts for List {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, host: usize) -> u32 {
        self.0[host].weight
    }

    fn active(&self, _: usize) -> u32 {
        0
    }

    fn record(&self, host: usize) -> &Record {
        &self.0[host].record
    }

    fn healthy_since(&self, _: usize) -> Duration {
        Duration::ZERO
    }

    fn key(&self, host: usize, _: bool) -> &str {
        NAMES[host]
    }

    fn availability(&self, host: usize) -> Availability {
        self.0[host].availability
    }

    fn place(&self, host: usize) -> usize {
        self.0[host].place
    }

    fn metadata(&self, host: usize) -> &Metadata {
        &self.0[host].metadata
    }
}

/// One place per text, one host per letter: `h`ealthy, `d`egraded, `u`nhealthy, e`x`cluded.
fn list(places: &[&str]) -> List {
    let host = |place, letter| Host {
        place,
        availability: match letter {
            'h' => Availability::Healthy,
            'd' => Availability::Degraded,
            'x' => Availability::Excluded,
            _ => Availability::Unhealthy,
        },
        weight: 1,
        metadata: Vec::new(),
        record: Record::default(),
    };
    let hosts = places.iter().enumerate().flat_map(|(place, text)| text.chars().map(move |letter| host(place, letter)));
    List(hosts.collect())
}

/// Zone, priority and weight of each place.
fn layout(places: &[(&str, u32, f64)]) -> Layout {
    let place = |&(zone, priority, weight): &(&str, u32, f64)| Place {
        locality: Locality { zone: zone.into(), ..Locality::default() },
        priority,
        weight,
    };
    Layout { places: places.iter().map(place).collect(), overprovisioning: 140 }
}

struct Setting {
    policy: Policy,
    localities: Localities,
    subsets: Option<Subsets>,
    peers: Option<Peers>,
}

impl Default for Setting {
    fn default() -> Self {
        let policy = Policy::RoundRobin { slow_start: None };
        Setting { policy, localities: Localities::default(), subsets: None, peers: None }
    }
}

const PICKS: usize = 10_000;

impl Setting {
    fn balancer(&self, layout: &Layout, hosts: &List, random: &mut fastrand::Rng) -> Balancer {
        let learned = Rc::default();
        let rules = Rules {
            policy: &self.policy,
            localities: &self.localities,
            panic_threshold: 50,
            learned: &learned,
            peers: self.peers.as_ref(),
        };
        Balancer::new(&rules, self.subsets.as_ref(), layout, hosts, &mut Pick::any(Duration::ZERO, random))
    }

    /// Percent of the picks by host, and what the last pick met.
    fn shares(&self, layout: &Layout, hosts: &List, subset: &Metadata) -> (Vec<u32>, Notes) {
        let mut random = fastrand::Rng::with_seed(11);
        let mut balancer = self.balancer(layout, hosts, &mut random);
        let mut counts = vec![0; hosts.len()];
        let mut notes = Notes::default();
        for _ in 0..PICKS {
            let mut pick = Pick { subset, ..Pick::any(Duration::ZERO, &mut random) };
            if let Some(host) = balancer.pick(hosts, &mut pick) {
                counts[host] += 1;
            }
            notes = pick.notes;
        }
        (counts.into_iter().map(|count| ((count * 100) as f64 / PICKS as f64).round() as u32).collect(), notes)
    }
}

fn near(found: &[u32], expected: &[u32]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 2)
}

#[test]
fn priorities_and_health() {
    let cases: [(&[&str], &[u32]); 6] = [
        (&["hxxx", "h"], &[100, 0, 0, 0, 0]),
        (&["hh", "hh"], &[50, 50, 0, 0]),
        (&["hu", "hh"], &[70, 0, 15, 15]),
        (&["dd", "h"], &[0, 0, 100]),
        (&["dd", "d"], &[50, 50, 0]),
        (&["uu", "uu"], &[25, 25, 25, 25]),
    ];
    for (places, expected) in cases {
        let layout = layout(&[("a", 0, 0.0), ("a", 1, 0.0)]);
        let (found, notes) = Setting::default().shares(&layout, &list(places), &[]);
        assert!(near(&found, expected), "{places:?}: {found:?}");
        assert_eq!(notes.panic, places[0] == "uu");
    }
    let failing = ZoneAware { fail_traffic_on_panic: true, ..ZoneAware::default() };
    let failing = Setting { localities: Localities::ZoneAware(failing), ..Setting::default() };
    assert_eq!(failing.shares(&layout(&[("a", 0, 0.0)]), &list(&["uuu"]), &[]).0, [0, 0, 0]);
}

#[test]
fn localities_by_weight() {
    let weighted = Setting { localities: Localities::Weighted, ..Setting::default() };
    let cases: [(&[&str], &[u32]); 4] = [
        (&["h", "hh"], &[25, 38, 37]),
        // Half of the second one is gone: it gets 0.7 of its weight.
        (&["h", "hu"], &[32, 68, 0]),
        (&["h", "hhhu"], &[25, 25, 25, 25, 0]),
        (&["u", "hh"], &[0, 50, 50]),
    ];
    for (places, expected) in cases {
        let (found, _) = weighted.shares(&layout(&[("a", 0, 1.0), ("b", 0, 3.0)]), &list(places), &[]);
        assert!(near(&found, expected), "{places:?}: {found:?}");
    }
    let (found, _) = weighted.shares(&layout(&[("a", 0, 0.0), ("b", 0, 0.0)]), &list(&["h", "hhh"]), &[]);
    assert!(near(&found, &[25, 25, 25, 25]), "no weights at all: {found:?}");
    let hashing = Setting { policy: Policy::RingHash(RingHash::default()), ..weighted };
    let (found, _) = hashing.shares(&layout(&[("a", 0, 1.0), ("b", 0, 3.0)]), &list(&["h", "hh"]), &[]);
    assert!(found[0].abs_diff(25) <= 4, "{found:?}");
}

#[test]
fn zones_of_the_first_priority() {
    let zone = |name: &str| Locality { zone: name.into(), ..Locality::default() };
    let peers =
        |a, b| Peers { own: zone("a"), healthy: vec![(zone("a"), a), (zone("b"), b)], total: a + b, panic: false };
    let layout = layout(&[("b", 0, 0.0), ("a", 0, 0.0)]);
    let hosts = list(&["hhhh", "hh"]);
    let setting = |peers| Setting { peers: Some(peers), ..Setting::default() };
    let (found, notes) = setting(peers(1, 9)).shares(&layout, &hosts, &[]);
    assert_eq!((found, notes.zone), (vec![0, 0, 0, 0, 50, 50], Step::AllDirectly));
    let (found, _) = setting(peers(2, 1)).shares(&layout, &hosts, &[]);
    assert!(near(&found, &[13, 13, 12, 12, 25, 25]), "{found:?}");
    let panicking = Peers { panic: true, ..peers(2, 1) };
    let (found, notes) = setting(panicking).shares(&layout, &hosts, &[]);
    assert!(near(&found, &[17; 6]), "{found:?}");
    assert_eq!(notes.zone, Step::PeersNotOk);
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(Box<str>, Box<str>)> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

#[test]
fn subsets_and_fallbacks() {
    let mut hosts = list(&["hhhh"]);
    hosts.0[0].metadata = pairs(&[("stage", "\"prod\""), ("version", "1")]);
    hosts.0[1].metadata = pairs(&[("stage", "\"prod\""), ("version", "2")]);
    hosts.0[2].metadata = pairs(&[("stage", "\"dev\""), ("version", "[2,3]")]);
    let selector = |keys: &[&str], fallback| Selector {
        keys: keys.iter().map(|key| (*key).into()).collect(),
        single_host: false,
        fallback,
    };
    let subsets = Subsets {
        selectors: vec![
            selector(&["stage"], Some(Fallback::Nothing)),
            selector(&["stage", "version"], Some(Fallback::Keys(vec!["stage".into()]))),
            selector(&["version"], None),
        ],
        fallback: Fallback::Default,
        default_subset: pairs(&[("stage", "\"dev\"")]),
        list_as_any: true,
        ..Subsets::default()
    };
    let setting = Setting { subsets: Some(subsets), ..Setting::default() };
    type Case = (&'static [(&'static str, &'static str)], &'static [u32], SubsetStep);
    let cases: [Case; 8] = [
        (&[], &[0, 0, 100, 0], SubsetStep::FellBack),
        (&[("stage", "\"prod\"")], &[50, 50, 0, 0], SubsetStep::Selected),
        (&[("stage", "\"none\"")], &[0, 0, 0, 0], SubsetStep::None),
        (&[("stage", "\"prod\""), ("version", "1")], &[100, 0, 0, 0], SubsetStep::Selected),
        (&[("stage", "\"prod\""), ("version", "9")], &[50, 50, 0, 0], SubsetStep::Selected),
        (&[("version", "2")], &[0, 50, 50, 0], SubsetStep::Selected),
        (&[("version", "9")], &[0, 0, 100, 0], SubsetStep::FellBack),
        (&[("other", "9")], &[0, 0, 100, 0], SubsetStep::FellBack),
    ];
    for (asked, expected, step) in cases {
        let (found, notes) = setting.shares(&layout(&[("", 0, 0.0)]), &hosts, &pairs(asked));
        assert!(near(&found, expected), "{asked:?}: {found:?}");
        assert_eq!(notes.subset, step, "{asked:?}");
    }
}

#[test]
fn a_panic_may_take_any_host_and_a_subset_may_be_one_host() {
    let mut hosts = list(&["hh"]);
    hosts.0[0].metadata = pairs(&[("id", "1")]);
    hosts.0[1].metadata = pairs(&[("id", "1")]);
    let selector = Selector { keys: vec!["id".into()], single_host: true, fallback: None };
    let subsets = Subsets {
        selectors: vec![selector],
        fallback: Fallback::Default,
        default_subset: pairs(&[("id", "7")]),
        panic_mode_any: true,
        ..Subsets::default()
    };
    let setting = Setting { subsets: Some(subsets), ..Setting::default() };
    let layout = layout(&[("", 0, 0.0)]);
    assert_eq!(setting.shares(&layout, &hosts, &pairs(&[("id", "1")])).0, [100, 0]);
    let (found, notes) = setting.shares(&layout, &hosts, &[]);
    assert_eq!((found, notes.subset), (vec![50, 50], SubsetStep::FellBackInPanic));
}

#[test]
fn weights_by_reports() {
    let config = ClientWeighted { blackout: Duration::ZERO, ..ClientWeighted::default() };
    let policy = Policy::ClientWeighted(config.into());
    let hosts = list(&["hhhh"]);
    for (host, (utilization, rate, errors)) in
        [(0.5, 100.0, 0.0), (0.25, 100.0, 0.0), (0.5, 100.0, 50.0)].into_iter().enumerate()
    {
        let report = Report { cpu: utilization, rate, errors, ..Report::default() };
        reported(&policy, hosts.record(host), &report, Duration::ZERO);
    }
    // Weights 200, 400 and 100; the one that is silent gets the median.
    let setting = Setting { policy, ..Setting::default() };
    let (found, _) = setting.shares(&layout(&[("", 0, 0.0)]), &hosts, &[]);
    assert!(near(&found, &[22, 44, 11, 22]), "{found:?}");
}

#[test]
fn retries_leave_priorities() {
    let hosts = list(&["h", "h"]);
    let layout = layout(&[("a", 0, 0.0), ("a", 1, 0.0)]);
    let mut random = fastrand::Rng::with_seed(3);
    let mut balancer = Setting::default().balancer(&layout, &hosts, &mut random);
    let mut tried = vec![0];
    let mut pick = Pick { tried: Some(&mut tried), ..Pick::any(Duration::ZERO, &mut random) };
    assert_eq!(balancer.pick(&hosts, &mut pick), Some(1));
    tried.push(1);
    let mut pick = Pick { tried: Some(&mut tried), ..Pick::any(Duration::ZERO, &mut random) };
    assert_eq!(balancer.pick(&hosts, &mut pick), Some(0));
    assert!(tried.is_empty());
}
