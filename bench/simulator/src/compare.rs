//! Every policy in one scenario.

use crate::report::Figures;
use crate::scenario::Scenario;
use crate::world;
use model::balance::{LeastRequest, PeakEwma, Policy};

/// What policies did in a scenario, in the order of [`policies`].
#[derive(Clone, Debug)]
pub struct Comparison {
    pub scenario: Scenario,
    pub figures: Vec<Figures>,
}

/// A policy under its name; whether servers report their load.
#[derive(Clone, Debug)]
pub struct Entrant {
    pub name: &'static str,
    pub policy: Policy,
    pub reports: bool,
}

/// The last but one is our own, and the last is our own where servers report their load.
pub fn policies() -> Vec<Entrant> {
    let entrant = |name, policy| Entrant { name, policy, reports: false };
    vec![
        entrant("round robin", Policy::RoundRobin { slow_start: None }),
        entrant("random", Policy::Random),
        entrant("least request", Policy::LeastRequest(LeastRequest::default())),
        entrant("least of all", Policy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() })),
        entrant("peak EWMA", Policy::PeakEwma(PeakEwma::default())),
        entrant("peak EWMA of 4", Policy::PeakEwma(PeakEwma { choices: 4, ..PeakEwma::default() })),
        entrant("adaptive", Policy::Adaptive),
        Entrant { name: "adaptive, reports", policy: Policy::Adaptive, reports: true },
    ]
}

/// Runs `scenario` with every policy; each seed is one run.
pub fn run(scenario: &Scenario, seeds: &[u64]) -> Comparison {
    let figures = policies().into_iter().map(|entrant| {
        let scenario = Scenario { reports: entrant.reports, ..scenario.clone() };
        Figures::of(seeds.iter().map(|seed| world::run(&scenario, &entrant.policy, *seed)).collect())
    });
    Comparison { figures: figures.collect(), scenario: scenario.clone() }
}

impl Comparison {
    fn place(name: &str) -> usize {
        policies().iter().position(|entrant| entrant.name == name).expect("an entrant")
    }

    pub fn of(&self, name: &str) -> Figures {
        self.figures[Self::place(name)]
    }

    /// The best that a policy other than ours reached.
    pub fn best_other(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        self.figures[..Self::place("adaptive")].iter().map(figure).fold(f64::INFINITY, f64::min)
    }
}
