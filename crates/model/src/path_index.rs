//! Finds the few routes of a large table that a path may take, without looking at the others.

use crate::route::{PathMatch, Route};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Routes fewer than these are looked through faster.
const FEW: usize = 32;
/// With more lengths of paths than these, looking each up would not be faster.
const LENGTHS: usize = 64;

/// A route's place in its table behind the hash of the path that it names.
type Entry = (u64, u32);

#[derive(Debug)]
pub struct PathIndex {
    /// Each length of a path that a route names, once.
    lengths: Vec<usize>,
    /// Sorted: routes with the same path follow each other in the table's order.
    by_path: Vec<Entry>,
    /// Routes that say something else of the path, or nothing.
    others: Vec<Entry>,
}

impl PathIndex {
    /// `None` where it would not help.
    pub fn new(routes: &[Route]) -> Option<Box<PathIndex>> {
        if routes.len() < FEW {
            return None;
        }
        let (mut lengths, mut by_path, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (place, route) in (0..).zip(routes) {
            match named(&route.matches.path) {
                Some(path) => {
                    lengths.push(path.len());
                    by_path.push((hash(path.as_bytes()), place));
                }
                None => others.push((0, place)),
            }
        }
        lengths.sort_unstable();
        lengths.dedup();
        by_path.sort_unstable();
        [&mut by_path, &mut others].into_iter().for_each(Vec::shrink_to_fit);
        (lengths.len() <= LENGTHS).then(|| Box::new(PathIndex { lengths, by_path, others }))
    }

    /// Places of all routes that may match `path`, and of few others, in the table's order.
    pub fn candidates<'i>(&'i self, path: &'i [u8]) -> Candidates<'i> {
        let mut runs = [&self.others[..]; LENGTHS + 1];
        let mut count = 1;
        for &length in self.lengths.iter().take_while(|length| **length <= path.len()) {
            let wanted = hash(&path[..length]);
            let rest = &self.by_path[self.by_path.partition_point(|(hash, _)| *hash < wanted)..];
            let run = &rest[..rest.iter().take_while(|(hash, _)| *hash == wanted).count()];
            if !run.is_empty() {
                runs[count] = run;
                count += 1;
            }
        }
        Candidates { runs, count }
    }
}

/// The path that a request's path begins with, or is, where the condition is of this kind.
fn named(path: &PathMatch) -> Option<&str> {
    match path {
        PathMatch::Prefix { prefix: path, ignore_case: false }
        | PathMatch::SeparatedPrefix { prefix: path, ignore_case: false }
        | PathMatch::Exact { path, ignore_case: false } => Some(path),
        _ => None,
    }
}

/// Two paths with one hash only make for a candidate more.
fn hash(path: &[u8]) -> u64 {
    FixedState::default().hash_one(path)
}

/// Places in ascending order.
pub struct Candidates<'i> {
    runs: [&'i [Entry]; LENGTHS + 1],
    count: usize,
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let runs = self.runs[..self.count].iter_mut();
        let next = runs.filter(|run| !run.is_empty()).min_by_key(|run| run[0].1)?;
        let place = next[0].1;
        *next = &next[1..];
        Some(place as usize)
    }
}
