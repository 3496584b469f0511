//! Some of the scenarios, shortened, with one seed: our policy does what it is for.

use model::balance::{LeastRequest, PeakEwma, Policy};
use simulator::report::{Figures, NOISE};
use simulator::scenario::{self, Scenario};
use simulator::{SECOND, world};

const SEED: u64 = 7;

fn shortened(name: &str, clients: u64) -> Scenario {
    let all = scenario::all().into_iter();
    let found = all.filter(|scenario| scenario.clients == clients).find(|scenario| scenario.name.starts_with(name));
    let found = found.unwrap_or_else(|| panic!("there is no scenario `{name}`"));
    Scenario { duration: found.duration.min(14 * SECOND), ..found }
}

fn figures(scenario: &Scenario, policy: &Policy) -> Figures {
    Figures::of(vec![world::run(scenario, policy, SEED)])
}

/// Name, clients, and by how much its p99 must lie below that of peak EWMA.
const CASES: [(&str, u64, f64); 6] = [
    ("antagonist on 5 of 10, 70 %", 1, 0.8),
    ("antagonist on 5 of 10, 70 %", 50, 0.8),
    ("capacities 1:2:4 by speed, 50 %", 1, 0.8),
    ("tower #76", 1, 0.8),
    ("one of 5 at 2 s", 50, NOISE),
    ("10 equal, 50 %", 1, NOISE),
];

#[test]
fn adaptive_is_never_behind() {
    for (name, clients, ratio) in CASES {
        let scenario = shortened(name, clients);
        let ours = figures(&scenario, &Policy::Adaptive);
        let ewma = figures(&scenario, &Policy::PeakEwma(PeakEwma::default()));
        let least = figures(&scenario, &Policy::LeastRequest(LeastRequest::default()));
        let text = format!("{name}, {clients} clients, seed {SEED}: {ours:?}\n{ewma:?}\n{least:?}");
        assert!(ours.p99 <= ewma.p99 * ratio, "{text}");
        assert!(ours.p99 <= least.p99 * NOISE, "{text}");
    }
}

#[test]
fn a_dead_host_is_left_alone() {
    for clients in [1, 50] {
        let ours = figures(&shortened("one of 10 dead", clients), &Policy::Adaptive);
        assert!(ours.success > 99.0, "{clients} clients, seed {SEED}: {ours:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let scenario = shortened("antagonist on 2 of 10, 70 %", 1);
    let [one, two] = [SEED; 2].map(|seed| world::run(&scenario, &Policy::Adaptive, seed));
    assert_eq!(one.latencies, two.latencies);
}
