//! Moves requests between clients and servers in virtual time.

use crate::client::Client;
use crate::scenario::{Arrivals, Scenario};
use crate::server::{Fault, Job, Server};
use crate::{MILLI, Nanos, SECOND};
use engine::balance::{Ending, Outcome};
use model::balance::Policy;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// One way between client and server.
const WAY: Nanos = MILLI / 4;

/// What came of one run.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Nanoseconds from sending to answer, of successful requests.
    pub latencies: Vec<Nanos>,
    pub requests: u64,
    /// Requests sent while a server was at fault, and those sent to such a server.
    pub during_fault: u64,
    pub to_fault: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client sends its next request.
    Send { client: u32 },
    /// A request reaches its server.
    Reach { request: u32 },
    /// A server is done with a request.
    Done { request: u32 },
    /// The answer is at the client.
    Answer { request: u32 },
    /// The client waits no longer.
    GiveUp { request: u32 },
}

struct Request {
    client: u32,
    server: u32,
    sent: Nanos,
    draws: (f64, f64),
    failed: bool,
    /// What the server said of its load.
    load: u32,
    over: bool,
}

struct World<'a> {
    scenario: &'a Scenario,
    now: Nanos,
    count: u64,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    clients: Vec<Client>,
    servers: Vec<Server>,
    requests: Vec<Request>,
    /// For arrivals and work alone, so that all policies meet the same.
    random: fastrand::Rng,
    results: Results,
}

/// Runs one scenario with one policy.
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Results {
    let count = scenario.servers.len();
    let mut world = World {
        scenario,
        now: 0,
        count: 0,
        events: BinaryHeap::new(),
        clients: (0..scenario.clients)
            .map(|client| Client::new(policy, count, seed ^ (client << 32) ^ 0x5eed))
            .collect(),
        servers: scenario.servers.iter().cloned().map(Server::new).collect(),
        requests: Vec::new(),
        random: fastrand::Rng::with_seed(seed),
        results: Results::default(),
    };
    world.begin();
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        world.now = at;
        world.happen(event);
    }
    world.results
}

impl World<'_> {
    fn begin(&mut self) {
        for client in 0..self.scenario.clients as u32 {
            match self.scenario.arrivals {
                Arrivals::Open { .. } => self.next_arrival(client),
                Arrivals::Closed { concurrency } => {
                    for _ in 0..concurrency / self.scenario.clients {
                        self.after(0, Event::Send { client });
                    }
                }
            }
        }
    }

    fn after(&mut self, wait: Nanos, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + wait, self.count, event)));
    }

    /// Poisson arrivals.
    fn next_arrival(&mut self, client: u32) {
        let Arrivals::Open { rate } = self.scenario.arrivals else { return };
        let mean = SECOND as f64 * self.scenario.clients as f64 / rate;
        let wait = (-(1.0 - self.random.f64()).ln() * mean) as Nanos;
        if self.now + wait < self.scenario.duration {
            self.after(wait, Event::Send { client });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Send { client } => self.send(client),
            Event::Reach { request } => self.reach(request),
            Event::Done { request } => self.done(request),
            Event::Answer { request } => self.answer(request),
            Event::GiveUp { request } => self.end(request, false),
        }
    }

    fn send(&mut self, client: u32) {
        self.next_arrival(client);
        let draws = (self.random.f64(), self.random.f64());
        let server = self.clients[client as usize].send(self.now) as u32;
        let request = self.requests.len() as u32;
        self.requests.push(Request { client, server, sent: self.now, draws, failed: false, load: 0, over: false });
        self.results.requests += 1;
        if self.servers.iter().any(|server| server.profile.fault(self.now).is_some()) {
            self.results.during_fault += 1;
            self.results.to_fault += u64::from(self.servers[server as usize].profile.fault(self.now).is_some());
        }
        self.after(WAY, Event::Reach { request });
        if let Some(patience) = self.scenario.patience {
            self.after(patience, Event::GiveUp { request });
        }
    }

    fn reach(&mut self, number: u32) {
        let request = &mut self.requests[number as usize];
        let server = &mut self.servers[request.server as usize];
        match server.profile.fault(self.now) {
            Some(Fault::Dead) => {
                request.failed = true;
                self.after(WAY, Event::Answer { request: number });
                return;
            }
            Some(Fault::Failing) => request.failed = true,
            _ => {}
        }
        if let Some(time) = server.arrive(self.now, Job { request: number, draws: request.draws }) {
            self.after(time, Event::Done { request: number });
        }
    }

    fn done(&mut self, number: u32) {
        let server = &mut self.servers[self.requests[number as usize].server as usize];
        let next = server.finish(self.now);
        self.requests[number as usize].load = server.load();
        if let Some((job, time)) = next {
            self.after(time, Event::Done { request: job.request });
        }
        self.after(WAY, Event::Answer { request: number });
    }

    fn answer(&mut self, number: u32) {
        let failed = self.requests[number as usize].failed;
        self.end(number, !failed);
    }

    /// The client learns how the request ended; a late answer is dropped.
    fn end(&mut self, number: u32, success: bool) {
        let request = &mut self.requests[number as usize];
        if std::mem::replace(&mut request.over, true) {
            return;
        }
        let latency = self.now - request.sent;
        if success {
            self.results.latencies.push(latency);
        }
        let ending = if success { Ending::Answered } else { Ending::Failed };
        let load = (success && self.scenario.reports).then_some(f64::from(request.load));
        let outcome = Outcome { ending, latency: Duration::from_nanos(latency), load };
        let (client, server) = (request.client, request.server as usize);
        self.clients[client as usize].finished(self.now, server, &outcome);
        if matches!(self.scenario.arrivals, Arrivals::Closed { .. }) && self.now < self.scenario.duration {
            self.after(0, Event::Send { client });
        }
    }
}
