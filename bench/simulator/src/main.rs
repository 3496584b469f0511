//! Prints how the policies do in every scenario.

use model::balance::{LeastRequest, PeakEwma, Policy};
use simulator::report::Figures;
use simulator::{scenario, world};

fn main() {
    let mut policies = vec![
        ("round robin".to_string(), Policy::RoundRobin { slow_start: None }),
        ("least request".into(), Policy::LeastRequest(LeastRequest::default())),
        ("lr full scan".into(), Policy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() })),
        ("peak ewma".into(), Policy::PeakEwma(PeakEwma::default())),
        ("peak ewma of 4".into(), Policy::PeakEwma(PeakEwma { choices: 4, ..PeakEwma::default() })),
    ];
    let filter = std::env::args().nth(1).unwrap_or_default();
    if std::env::args().nth(2).is_some() {
        policies = vec![("adaptive".into(), Policy::Adaptive)];
    }
    for mut scenario in scenario::all() {
        scenario.reports = std::env::args().nth(2) == Some("r".into());
        if !format!("c{} {}", scenario.clients, scenario.name).contains(&filter) {
            continue;
        }
        for (name, policy) in &policies {
            let runs = [1, 2].map(|seed| world::run(&scenario, policy, seed)).to_vec();
            let f = Figures::of(runs);
            println!(
                "{}\t{}\t{}\t{:.1}\t{:.1}\t{:.1}\t{:.3}\t{:.2}",
                scenario.clients,
                scenario.name,
                name,
                f.p50,
                f.p99,
                f.p999,
                f.success,
                f.share.unwrap_or(0.0)
            );
        }
    }
}
