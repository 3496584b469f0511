//! Figures of runs, and the table of them.

use crate::compare::{Comparison, policies};
use crate::world::Results;
use crate::{MILLI, Nanos};

/// The figures of one policy in one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// Percent of all requests.
    pub success: f64,
    /// Percent of the requests sent while a server was at fault, sent to such a server.
    pub share: Option<f64>,
}

impl Figures {
    pub fn of(runs: Vec<Results>) -> Figures {
        let requests: u64 = runs.iter().map(|run| run.requests).sum();
        let during: u64 = runs.iter().map(|run| run.during_fault).sum();
        let to: u64 = runs.iter().map(|run| run.to_fault).sum();
        let mut latencies: Vec<Nanos> = runs.into_iter().flat_map(|run| run.latencies).collect();
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            latencies
                .get(place.min(latencies.len().saturating_sub(1)))
                .map_or(0.0, |found| *found as f64 / MILLI as f64)
        };
        Figures {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            success: latencies.len() as f64 * 100.0 / requests as f64,
            share: (during > 0).then(|| to as f64 * 100.0 / during as f64),
        }
    }
}

/// Tables, one for each number of clients, and where our own policy is not the best.
pub fn markdown(all: &[Comparison]) -> String {
    let mut out = String::new();
    let mut clients: Vec<u64> = all.iter().map(|comparison| comparison.scenario.clients).collect();
    clients.dedup();
    for count in clients {
        out.push_str(&format!("\n**{}**\n\n| scenario |", clients_of(count)));
        policies().iter().for_each(|entrant| out.push_str(&format!(" {} |", entrant.name)));
        out.push_str(&format!("\n|---|{}\n", "---|".repeat(policies().len())));
        for comparison in all.iter().filter(|comparison| comparison.scenario.clients == count) {
            out.push_str(&format!("| {} |", comparison.scenario.name));
            comparison.figures.iter().for_each(|figures| out.push_str(&format!(" {} |", cell(figures))));
            out.push('\n');
        }
    }
    out.push_str(&format!(
        "\n**Where another is better than adaptive** by more than {:.0} %\n\n",
        (NOISE - 1.0) * 100.0
    ));
    for comparison in all {
        for line in behind(comparison) {
            out.push_str(&format!(
                "- {}, {}: {line}\n",
                clients_of(comparison.scenario.clients),
                comparison.scenario.name
            ));
        }
    }
    out
}

fn clients_of(count: u64) -> String {
    format!("{count} client{}", if count == 1 { "" } else { "s" })
}

/// Differences between seeds are smaller than this.
pub const NOISE: f64 = 1.05;

/// Figures in which another policy does better than ours.
pub fn behind(comparison: &Comparison) -> Vec<String> {
    let ours = comparison.of("adaptive");
    let mut lines = Vec::new();
    for (name, ours, best) in [
        ("p50", ours.p50, comparison.best_other(|figures| figures.p50)),
        ("p99", ours.p99, comparison.best_other(|figures| figures.p99)),
        ("p99.9", ours.p999, comparison.best_other(|figures| figures.p999)),
        ("failed %", 100.0 - ours.success, comparison.best_other(|figures| 100.0 - figures.success)),
    ] {
        if ours > best * NOISE + 0.01 {
            lines.push(format!("{name} {ours:.1} to {best:.1} ({:.2})", ours / best));
        }
    }
    lines
}

/// p50 / p99 / p99.9 in milliseconds, then failures, then the share of the slow hosts, where there are any.
fn cell(figures: &Figures) -> String {
    let millis = |value: f64| if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    let mut text = format!("{} / {} / {}", millis(figures.p50), millis(figures.p99), millis(figures.p999));
    if figures.success < 99.995 {
        text.push_str(&format!(", {:.2} % failed", 100.0 - figures.success));
    }
    if let Some(share) = figures.share {
        text.push_str(&format!(", {share:.1} % to slow"));
    }
    text
}
