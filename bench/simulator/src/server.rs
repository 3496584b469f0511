//! A server: some workers, one queue, and what goes wrong with it when.

use crate::{MILLI, Nanos, SECOND};
use std::collections::VecDeque;

/// A server as a scenario describes it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Requests served at the same time; more wait in order of arrival.
    pub workers: u32,
    pub work: Work,
    /// What happens to it; the last that applies counts.
    pub changes: Vec<Change>,
    /// Progressively faster from `factor` times slower to full speed: Finagle's `warmup`.
    pub warm_up: Option<(Nanos, f64)>,
}

/// How long a request takes on an idle server.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Exponential with this mean.
    Exponential(Nanos),
    /// Evenly between zero and this.
    Uniform(Nanos),
    /// Log-normal with this median and the sigma of many services (p99 is 2.5 times the median).
    Steady(Nanos),
}

#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub from: Nanos,
    pub until: Nanos,
    pub what: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Everything takes so many times longer.
    Slow(f64),
    /// Answers are errors, after the usual time.
    Failing,
    /// Refuses connections at once.
    Dead,
}

impl Work {
    /// `draw` and `draw2` are even between 0 and 1.
    pub fn time(self, draw: f64, draw2: f64) -> Nanos {
        let time = match self {
            Work::Exponential(mean) => -(1.0 - draw).ln() * mean as f64,
            Work::Uniform(most) => draw * most as f64,
            Work::Steady(median) => {
                // Box and Muller.
                let normal = (-2.0 * (1.0 - draw).ln()).sqrt() * (std::f64::consts::TAU * draw2).cos();
                (0.4 * normal).exp() * median as f64
            }
        };
        time as Nanos
    }

    pub fn mean(self) -> f64 {
        match self {
            Work::Exponential(mean) => mean as f64,
            Work::Uniform(most) => most as f64 / 2.0,
            Work::Steady(median) => median as f64 * (0.4f64 * 0.4 / 2.0).exp(),
        }
    }
}

impl Profile {
    pub fn new(workers: u32, work: Work) -> Self {
        Profile { workers, work, changes: Vec::new(), warm_up: None }
    }

    #[must_use]
    pub fn during(mut self, from: Nanos, until: Nanos, what: Fault) -> Self {
        self.changes.push(Change { from, until, what });
        self
    }

    #[must_use]
    pub fn always(self, what: Fault) -> Self {
        self.during(0, Nanos::MAX, what)
    }

    pub fn fault(&self, now: Nanos) -> Option<Fault> {
        let applies = |change: &&Change| change.from <= now && now < change.until;
        self.changes.iter().rev().find(applies).map(|change| change.what)
    }

    /// Requests per second at full use, at its worst.
    pub fn capacity(&self) -> f64 {
        let slowest = self.changes.iter().fold(1.0, |slowest: f64, change| match change.what {
            Fault::Slow(factor) => slowest.max(factor),
            Fault::Failing | Fault::Dead => f64::INFINITY,
        });
        f64::from(self.workers) * SECOND as f64 / (self.work.mean() * slowest)
    }

    fn slowness(&self, now: Nanos) -> f64 {
        let warming = self.warm_up.map_or(1.0, |(end, most)| {
            let factor = end as f64 / now.max(MILLI) as f64;
            factor.clamp(1.0, most)
        });
        match self.fault(now) {
            Some(Fault::Slow(factor)) => factor * warming,
            _ => warming,
        }
    }
}

/// A request on a server.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub request: u32,
    /// Two draws that settle its work.
    pub draws: (f64, f64),
}

/// A server at work.
#[derive(Debug)]
pub struct Server {
    pub profile: Profile,
    busy: u32,
    queue: VecDeque<Job>,
}

impl Server {
    pub fn new(profile: Profile) -> Self {
        Server { profile, busy: 0, queue: VecDeque::new() }
    }

    /// Requests here, waiting ones too.
    pub fn load(&self) -> u32 {
        self.busy + self.queue.len() as u32
    }

    /// Takes a request; the time it needs if it starts at once.
    pub fn arrive(&mut self, now: Nanos, job: Job) -> Option<Nanos> {
        if self.busy == self.profile.workers {
            self.queue.push_back(job);
            return None;
        }
        self.busy += 1;
        Some(self.time(now, job))
    }

    /// A request is done; the next one that starts, and the time it needs.
    pub fn finish(&mut self, now: Nanos) -> Option<(Job, Nanos)> {
        let Some(next) = self.queue.pop_front() else {
            self.busy -= 1;
            return None;
        };
        Some((next, self.time(now, next)))
    }

    fn time(&self, now: Nanos, job: Job) -> Nanos {
        let time = self.profile.work.time(job.draws.0, job.draws.1) as f64 * self.profile.slowness(now);
        (time as Nanos).max(1)
    }
}
