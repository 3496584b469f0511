//! Runs a case: all peers at once in idle, measured one after the other, round after round.

use crate::backend::Backend;
use crate::cases::{Case, ClientSide, Shape, Traffic};
use crate::load::{self, Plan};
use crate::measure::{self, Sample};
use crate::peers::{Job, Peer, Process, Security, Side, Wire, free_address};
use crate::tls;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The proxy has this CPU; load and backend have the other.
pub const PROXY_CPU: usize = 0;
pub const LOAD_CPU: usize = 1;

pub struct Settings {
    pub rounds: usize,
    pub warm_up: Duration,
    pub duration: Duration,
    /// For configurations and logs of the proxies.
    pub folder: PathBuf,
}

/// One peer in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Microseconds of CPU time per request: user and system time of all the proxy's processes.
    pub cpu_us: f64,
    pub requests_per_second: f64,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// Resident memory of the proxy's processes at the end, in bytes.
    pub resident: u64,
    /// Share of the proxy's CPU that others used.
    pub foreign: f64,
}

/// A peer's part in a case: its rounds, or why it has none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    pub peer: String,
    pub version: String,
    pub rounds: Vec<Round>,
    pub cannot: Option<String>,
}

/// A peer's processes for a case, and where the load goes.
struct Rival {
    processes: Vec<Process>,
    entry: SocketAddr,
}

/// Measures all peers; `progress` hears of each round.
pub fn case(
    case: &Case,
    peers: &[Peer],
    settings: &Settings,
    mut progress: impl FnMut(&str, usize, &Round),
) -> anyhow::Result<Vec<Column>> {
    let traffic = &case.traffic;
    let folder = settings.folder.join(case.name);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let files = tls::make(&folder)?;
    let backend = Backend::start(traffic.backend, traffic.expect, LOAD_CPU)?;
    let mut rivals = Vec::new();
    let mut columns = Vec::new();
    for peer in peers {
        let (rival, cannot) = match start(peer, traffic, backend.address, &files, &folder.join(peer.name))? {
            Ok(rival) => (Some(rival), None),
            Err(reason) => (None, Some(reason.to_string())),
        };
        rivals.push(rival);
        let (peer, version) = (peer.name.to_string(), peer.version.clone());
        columns.push(Column { peer, version, rounds: Vec::new(), cannot });
    }
    for number in 0..settings.rounds {
        for index in 0..rivals.len() {
            // Every round begins with another peer, so that none always follows the same one.
            let index = (index + number) % rivals.len();
            let Some(rival) = &rivals[index] else { continue };
            let column = &mut columns[index];
            let round = measure(rival, traffic, &files, settings).with_context(|| column.peer.clone())?;
            progress(&column.peer, number, &round);
            column.rounds.push(round);
        }
    }
    Ok(columns)
}

/// Starts a peer's one or two processes.
fn start(
    peer: &Peer,
    traffic: &Traffic,
    backend: SocketAddr,
    files: &tls::Files,
    folder: &Path,
) -> anyhow::Result<Result<Rival, &'static str>> {
    let (to_clients, to_backend) = traffic.sides();
    let hops: Vec<(Side, Side)> = match traffic.shape {
        Shape::Single => vec![(to_clients, to_backend)],
        Shape::Mesh(wire) => {
            let between = Side { wire, security: Security::Mutual };
            vec![(to_clients, between), (between, to_backend)]
        }
    };
    let mut processes = Vec::new();
    let mut upstream = backend;
    // From the backend to the load, so that each finds its upstream listening.
    for (number, (to_clients, to_upstream)) in hops.into_iter().enumerate().rev() {
        let job = Job {
            folder: folder.join(number.to_string()),
            listen: free_address()?,
            upstream,
            to_clients,
            to_upstream,
            log: traffic.log,
            routes: traffic.routes,
            tls: files.clone(),
        };
        match peer.start(&job, PROXY_CPU)? {
            Ok(process) => processes.push(process),
            Err(reason) => return Ok(Err(reason)),
        }
        upstream = job.listen;
    }
    Ok(Ok(Rival { processes, entry: upstream }))
}

fn measure(rival: &Rival, traffic: &Traffic, files: &tls::Files, settings: &Settings) -> anyhow::Result<Round> {
    let ids: Vec<u32> = rival.processes.iter().map(Process::id).collect();
    let alpn = if traffic.sides().0.wire == Wire::Http2 { "h2" } else { "http/1.1" };
    let tls = match traffic.tls {
        ClientSide::Plain => None,
        side => Some(tls::client(files, alpn, side == ClientSide::Resumed)?),
    };
    let outcome = load::run(plan(traffic, rival.entry, tls, settings), || Sample::take(&ids, PROXY_CPU))?;
    let (before, after) = (&outcome.before, &outcome.after);
    let requests = outcome.requests as f64;
    let microseconds = |share: f64| outcome.latency.quantile(share) as f64 / 1e3;
    Ok(Round {
        cpu_us: (after.cpu - before.cpu).as_secs_f64() * 1e6 / requests,
        requests_per_second: requests / (after.at - before.at).as_secs_f64(),
        p50: microseconds(0.5),
        p99: microseconds(0.99),
        p999: microseconds(0.999),
        resident: measure::resident(&ids),
        foreign: before.foreign(after),
    })
}

fn plan(traffic: &Traffic, target: SocketAddr, tls: Option<Arc<load::ClientTls>>, settings: &Settings) -> Plan {
    Plan {
        protocol: traffic.protocol,
        target,
        tls,
        connections: traffic.connections,
        streams: traffic.streams,
        path: traffic.path(),
        host: tls::SERVER_NAME.into(),
        send: traffic.send,
        expect: traffic.expect,
        pace: traffic.pace,
        warm_up: settings.warm_up,
        duration: settings.duration,
    }
}
