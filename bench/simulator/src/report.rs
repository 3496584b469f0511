//! Figures of runs, and the table of them.

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
