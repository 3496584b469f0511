//! Prints how the policies do in every scenario.

use model::balance::{LeastRequest, PeakEwma, Policy};
use simulator::report::Figures;
use simulator::{scenario, world};

fn main() {
    let policies = [
        ("round robin", Policy::RoundRobin { slow_start: None }),
        ("random", Policy::Random),
        ("least request", Policy::LeastRequest(LeastRequest::default())),
        ("lr full scan", Policy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() })),
        ("peak ewma", Policy::PeakEwma(PeakEwma::default())),
        ("peak ewma of 4", Policy::PeakEwma(PeakEwma { choices: 4, ..PeakEwma::default() })),
    ];
    let filter = std::env::args().nth(1).unwrap_or_default();
    for scenario in scenario::all() {
        if !format!("{} {}", scenario.clients, scenario.name).contains(&filter) { continue; }
        println!("{} clients: {}", scenario.clients, scenario.name);
        for (name, policy) in &policies {
            let runs = [1, 2].map(|seed| world::run(&scenario, policy, seed)).to_vec();
            let f = Figures::of(runs);
            println!("  {name:16} p50 {:8.1} p99 {:8.1} p999 {:8.1} ok {:7.3} share {:6.2}", f.p50, f.p99, f.p999, f.success, f.share.unwrap_or(0.0));
        }
    }
}
