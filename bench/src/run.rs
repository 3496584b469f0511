//! Runs a case: all peers at once in idle, measured one after the other, round after round.

use crate::backend::Backend;
use crate::cases::{Case, ClientSide, Kind, Metric, SERVICES_TRAFFIC, Shape, Traffic};
use crate::instructions::Counters;
use crate::load::{self, Plan};
use crate::measure::{self, Sample};
use crate::peers::{Job, Peer, Process, Security, Side, Wire, free_address, service};
use crate::tls;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    pub figures: BTreeMap<Metric, f64>,
    /// Share of the proxy's CPU that others used; 0 where only memory counts.
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
    let bench = Bench::new(case, settings)?;
    let mut rivals = Vec::new();
    let mut columns = Vec::new();
    for peer in peers {
        let rival = bench.start(peer)?;
        let cannot = rival.as_ref().err().map(ToString::to_string);
        // Where memory counts, each round begins with a new process.
        rivals.push(rival.ok().filter(|_| matches!(case.kind, Kind::Traffic(_))));
        let (peer, version) = (peer.name.to_string(), peer.version.clone());
        columns.push(Column { peer, version, rounds: Vec::new(), cannot });
    }
    for number in 0..settings.rounds {
        for index in 0..rivals.len() {
            // Every round begins with another peer, so that none always follows the same one.
            let index = (index + number) % rivals.len();
            let column = &mut columns[index];
            let round = match &rivals[index] {
                _ if column.cannot.is_some() => continue,
                Some(rival) => bench.round(rival),
                None => match bench.start(&peers[index])? {
                    Ok(rival) => bench.round(&rival),
                    Err(_) => continue,
                },
            };
            let round = round.with_context(|| column.peer.clone())?;
            progress(&column.peer, number, &round);
            column.rounds.push(round);
        }
    }
    Ok(columns)
}

/// What the peers of a case have in common.
struct Bench<'a> {
    case: &'a Case,
    traffic: Traffic,
    settings: &'a Settings,
    folder: PathBuf,
    files: tls::Files,
    backend: Backend,
}

impl<'a> Bench<'a> {
    fn new(case: &'a Case, settings: &'a Settings) -> anyhow::Result<Bench<'a>> {
        let traffic = match case.kind {
            Kind::Traffic(traffic) | Kind::Idle(traffic) => traffic,
            Kind::Services { .. } => SERVICES_TRAFFIC,
        };
        let folder = settings.folder.join(case.name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let files = tls::make(&folder)?;
        let backend = Backend::start(traffic.backend, traffic.expect, LOAD_CPU)?;
        Ok(Bench { case, traffic, settings, folder, files, backend })
    }

    /// Starts a peer's one or two processes, or says why it cannot do the job.
    fn start(&self, peer: &Peer) -> anyhow::Result<Result<Rival, &'static str>> {
        let (to_clients, to_backend) = self.traffic.sides();
        let hops: Vec<(Side, Side)> = match self.traffic.shape {
            Shape::Single => vec![(to_clients, to_backend)],
            Shape::Mesh(wire) => {
                let between = Side { wire, security: Security::Mutual };
                vec![(to_clients, between), (between, to_backend)]
            }
        };
        let mut processes = Vec::new();
        let mut upstream = self.backend.address;
        // From the backend to the load, so that each finds its upstream listening.
        for (number, (to_clients, to_upstream)) in hops.into_iter().enumerate().rev() {
            let job =
                self.job(self.folder.join(peer.name).join(number.to_string()), to_clients, to_upstream, upstream)?;
            match peer.start(&job, PROXY_CPU)? {
                Ok(process) => processes.push(process),
                Err(reason) => return Ok(Err(reason)),
            }
            upstream = job.listen;
        }
        Ok(Ok(Rival { processes, entry: upstream }))
    }

    fn job(&self, folder: PathBuf, to_clients: Side, to_upstream: Side, upstream: SocketAddr) -> anyhow::Result<Job> {
        let Traffic { log, routes, .. } = self.traffic;
        let services = if let Kind::Services { configured, .. } = self.case.kind { configured } else { 0 };
        let (listen, tls) = (free_address()?, self.files.clone());
        Ok(Job { folder, listen, upstream, to_clients, to_upstream, log, routes, services, tls })
    }

    fn round(&self, rival: &Rival) -> anyhow::Result<Round> {
        match self.case.kind {
            Kind::Traffic(_) => self.load(rival),
            Kind::Idle(_) => self.idle(rival),
            Kind::Services { .. } => {
                let mut round = self.load(rival)?;
                let ready: Duration = rival.processes.iter().map(|process| process.ready).sum();
                round.figures.insert(Metric::Ready, ready.as_secs_f64() * 1e3);
                Ok(round)
            }
        }
    }

    /// Measures under load.
    fn load(&self, rival: &Rival) -> anyhow::Result<Round> {
        let ids = rival.ids();
        let counters = Counters::open(&ids);
        let sample = || Sample::take(&ids, PROXY_CPU).map(|cpu| (cpu, counters.as_ref().map(Counters::read)));
        let outcome = load::run(self.plan(rival.entry)?, sample)?;
        let ((before, first), (after, last)) = (&outcome.before, &outcome.after);
        let requests = outcome.requests as f64;
        let microseconds = |share: f64| outcome.latency.quantile(share) as f64 / 1e3;
        let mut figures = BTreeMap::from([
            (Metric::CpuPerRequest, (after.cpu - before.cpu).as_secs_f64() * 1e6 / requests),
            (Metric::RequestsPerSecond, requests / (after.at - before.at).as_secs_f64()),
            (Metric::P50, microseconds(0.5)),
            (Metric::P99, microseconds(0.99)),
            (Metric::P999, microseconds(0.999)),
            (Metric::Memory, measure::resident(&ids) as f64 / 1e6),
        ]);
        if let (Some(first), Some(last)) = (first, last) {
            figures.insert(Metric::InstructionsPerRequest, (last - first) as f64 / requests);
        }
        Ok(Round { figures, foreign: before.foreign(after) })
    }

    /// Measures what idle connections keep.
    fn idle(&self, rival: &Rival) -> anyhow::Result<Round> {
        let ids = rival.ids();
        let look = || measure::resident(&ids) as f64;
        let all = self.plan(rival.entry)?;
        let count = all.connections;
        let base = load::hold(Plan { connections: 1, ..self.plan(rival.entry)? }, look)?;
        let full = load::hold(all, look)?;
        let figures = [(Metric::MemoryPerConnection, (full - base) / count as f64 / 1e3), (Metric::Memory, full / 1e6)];
        Ok(Round { figures: figures.into(), foreign: 0.0 })
    }

    fn plan(&self, target: SocketAddr) -> anyhow::Result<Plan> {
        let Traffic { protocol, connections, streams, send, expect, pace, .. } = self.traffic;
        let alpn = if self.traffic.sides().0.wire == Wire::Http2 { "h2" } else { "http/1.1" };
        let tls = match self.traffic.tls {
            ClientSide::Plain => None,
            side => Some(tls::client(&self.files, alpn, side == ClientSide::Resumed)?),
        };
        let hosts = match self.case.kind {
            // Spread over all, first and last included.
            Kind::Services { configured, used } => {
                (0..used).map(|number| service(number * (configured - 1) / (used - 1))).collect()
            }
            _ => vec![tls::SERVER_NAME.into()],
        };
        let (path, Settings { warm_up, duration, .. }) = (self.traffic.path(), self.settings);
        Ok(Plan {
            protocol,
            target,
            tls,
            connections,
            streams,
            path,
            hosts,
            send,
            expect,
            pace,
            warm_up: *warm_up,
            duration: *duration,
        })
    }
}

impl Rival {
    fn ids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::id).collect()
    }
}
