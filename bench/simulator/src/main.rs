//! Prints how the policies do in every scenario, as Markdown. `simulator TEXT` runs the scenarios with TEXT in their
//! names.

use simulator::compare::{self, Comparison};
use simulator::{report, scenario};
use std::sync::atomic::{AtomicUsize, Ordering};

const SEEDS: [u64; 4] = [1, 2, 3, 4];

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let scenarios: Vec<_> = scenario::all().into_iter().filter(|scenario| scenario.name.contains(&filter)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            scenarios.get(index).map(|scenario| (index, compare::run(scenario, &SEEDS)))
        });
        mine.collect::<Vec<(usize, Comparison)>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut found: Vec<(usize, Comparison)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    found.sort_by_key(|(index, _)| *index);
    let found: Vec<Comparison> = found.into_iter().map(|(_, comparison)| comparison).collect();
    print!("{}", report::markdown(&found));
}
