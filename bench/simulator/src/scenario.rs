//! The situations that policies are compared in.

use crate::server::{Fault, Profile, Work};
use crate::{MILLI, Nanos, SECOND};

#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub clients: u64,
    pub arrivals: Arrivals,
    pub duration: Nanos,
    pub servers: Vec<Profile>,
    /// A client gives up after this time.
    pub patience: Option<Nanos>,
    /// Servers say with each answer how many requests they have.
    pub reports: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Arrivals {
    /// So many requests a second, whatever becomes of them; from all clients together.
    Open { rate: f64 },
    /// Always so many requests under way, from all clients together.
    Closed { concurrency: u64 },
}

/// Requests per second where a scenario has no rate of its own: 50 clients send 20 each.
const RATE: f64 = 1000.0;
const MINUTE: Nanos = 60 * SECOND;

/// Every scenario, with one client and with fifty.
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    for clients in [1, 50] {
        for percent in [50, 70, 90] {
            let load = f64::from(percent) / 100.0;
            let mut add =
                |name: &str, servers| all.push(at_load(&format!("{name}, {percent} %"), clients, load, servers));
            add("10 equal", alike(10));
            add("capacities 1:2:4 by workers", by_workers());
            add("capacities 1:2:4 by speed", by_speed());
            add("antagonist on 2 of 10", antagonist(2));
            add("antagonist on 5 of 10", antagonist(5));
        }
        all.extend(finagle(clients));
        all.push(buoyant(clients));
        all.extend(tower(clients));
        all.push(one_dead(clients));
        all.push(one_of_five(clients));
    }
    all
}

fn alike(count: usize) -> Vec<Profile> {
    vec![Profile::new(4, Work::Exponential(10 * MILLI)); count]
}

fn by_workers() -> Vec<Profile> {
    let server = |workers| Profile::new(workers, Work::Exponential(10 * MILLI));
    [2, 2, 2, 4, 4, 4, 8, 8, 8].map(server).to_vec()
}

fn by_speed() -> Vec<Profile> {
    let server = |milli| Profile::new(4, Work::Exponential(milli * MILLI));
    [20, 20, 20, 10, 10, 10, 5, 5, 5].map(server).to_vec()
}

/// Prequal's: others' work takes three quarters of the processors away from `count` servers of ten.
fn antagonist(count: usize) -> Vec<Profile> {
    let mut servers = alike(10);
    for server in &mut servers[..count] {
        *server = server.clone().during(10 * SECOND, Nanos::MAX, Fault::Slow(4.0));
    }
    servers
}

/// Stretches the work so that `RATE` is the given share of what the servers can do at their worst.
fn at_load(name: &str, clients: u64, load: f64, mut servers: Vec<Profile>) -> Scenario {
    let capacity: f64 = servers.iter().map(Profile::capacity).sum();
    let stretch = capacity * load / RATE;
    for server in &mut servers {
        let Work::Exponential(mean) = &mut server.work else { continue };
        *mean = (*mean as f64 * stretch) as Nanos;
    }
    let arrivals = Arrivals::Open { rate: RATE };
    Scenario { name: name.into(), clients, arrivals, duration: MINUTE, servers, patience: None, reports: false }
}

/// Finagle's balancersim: ten stable servers and one with a fault; 1250 requests a second for 45 seconds. Its servers
/// have no capacity, so these have a large one.
fn finagle(clients: u64) -> [Scenario; 4] {
    let stable = Profile::new(64, Work::Steady(10 * MILLI));
    let with = |name: &str, other: Profile| {
        let mut servers = vec![stable.clone(); 10];
        servers.push(other);
        let arrivals = Arrivals::Open { rate: 1250.0 };
        Scenario {
            name: name.into(),
            clients,
            arrivals,
            duration: 45 * SECOND,
            servers,
            patience: None,
            reports: false,
        }
    };
    let cold = Profile { warm_up: Some((10 * SECOND, 5.0)), ..stable.clone() };
    [
        with("cold start", cold.during(19 * SECOND, 23 * SECOND, Fault::Slow(10.0))),
        with("slow middle", stable.clone().during(15 * SECOND, 45 * SECOND, Fault::Slow(10.0))),
        with("temporary failure", stable.clone().during(10 * SECOND, 25 * SECOND, Fault::Failing)),
        with("permanent failure", stable.clone().during(10 * SECOND, Nanos::MAX, Fault::Failing)),
    ]
}

/// Buoyant 2016: eleven servers, one goes from 167 ms to 2 s for 30 s; clients wait for one second.
fn buoyant(clients: u64) -> Scenario {
    let mut servers = vec![Profile::new(512, Work::Steady(167 * MILLI)); 11];
    servers[0] = servers[0].clone().during(15 * SECOND, 45 * SECOND, Fault::Slow(12.0));
    Scenario {
        name: "one of 11 from 167 ms to 2 s".into(),
        clients,
        arrivals: Arrivals::Open { rate: RATE },
        duration: MINUTE,
        servers,
        patience: Some(SECOND),
        reports: false,
    }
}

/// Tower's: 500 requests always under way, latencies even from zero to these; in its pull request 76 and today.
fn tower(clients: u64) -> [Scenario; 2] {
    let with = |name: &str, most: [u64; 10]| Scenario {
        name: name.into(),
        clients,
        arrivals: Arrivals::Closed { concurrency: 500 },
        duration: 5 * SECOND,
        servers: most
            .into_iter()
            .map(|milli| {
                let server = Profile::new(500, Work::Uniform(milli * MILLI));
                // Only marks them, for the share of requests that they get.
                if milli > 10 { server.always(Fault::Slow(1.0)) } else { server }
            })
            .collect(),
        patience: None,
        reports: false,
    };
    [
        with("tower #76: 1, 10x4, 100x4, 1000 ms", [1, 10, 10, 10, 10, 100, 100, 100, 100, 1000]),
        with("tower: 1 to 1000 ms", [1, 5, 10, 10, 10, 100, 100, 100, 500, 1000]),
    ]
}

fn one_dead(clients: u64) -> Scenario {
    let mut servers = vec![Profile::new(4, Work::Exponential(20 * MILLI)); 10];
    servers[0] = servers[0].clone().always(Fault::Dead);
    let arrivals = Arrivals::Open { rate: RATE };
    Scenario {
        name: "one of 10 dead".into(),
        clients,
        arrivals,
        duration: MINUTE,
        servers,
        patience: None,
        reports: false,
    }
}

fn one_of_five(clients: u64) -> Scenario {
    let mut servers = vec![Profile::new(512, Work::Steady(40 * MILLI)); 5];
    servers[0] = servers[0].clone().always(Fault::Slow(50.0));
    let arrivals = Arrivals::Open { rate: RATE };
    Scenario {
        name: "one of 5 at 2 s".into(),
        clients,
        arrivals,
        duration: MINUTE,
        servers,
        patience: None,
        reports: false,
    }
}
