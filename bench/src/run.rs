//! Runs a case: all peers at once in idle, measured one after the other, round after round.

use crate::backend::Backend;
use crate::cases::{Case, ClientSide, Kind, Metric, SERVICES_TRAFFIC, Shape, Traffic};
use crate::discovery::Discovery;
use crate::generators::{Generator, OTHERS};
use crate::instructions::Counters;
use crate::load::{self, Pace, Plan};
use crate::measure::{self, Sample};
use crate::peers::{Job, Peer, Process, Security, Side, Wire, free_address, service};
use crate::tls;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long connections have been idle when their memory is measured: all peers give some back after a while.
const IDLE: Duration = Duration::from_secs(8);

/// The proxy has this CPU; load and backend have the other.
pub const PROXY_CPU: usize = 0;
pub const LOAD_CPU: usize = 1;

pub struct Settings {
    pub rounds: usize,
    pub warm_up: Duration,
    pub duration: Duration,
    /// For configurations and logs of the proxies.
    pub folder: PathBuf,
    /// Each peer runs with an access log, too.
    pub log: bool,
}

/// How a peer with an access log is called.
pub const WITH_LOG: &str = "+log";

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
    if matches!(case.kind, Kind::Generators(_)) {
        return bench.generators(&peers[0], progress);
    }
    let mut rivals = Vec::new();
    let mut columns = Vec::new();
    // A proxy with a log beside itself without one: what else changes from minute to minute does not count.
    let mut contestants = Vec::new();
    for peer in peers {
        contestants.push((peer, false));
        if settings.log && peer.name != "null" {
            contestants.push((peer, true));
        }
    }
    for (peer, log) in &contestants {
        let rival = bench.start(peer, *log)?;
        let cannot = rival.as_ref().err().map(ToString::to_string);
        // Where memory counts, each round begins with a new process.
        rivals.push(rival.ok().filter(|_| matches!(case.kind, Kind::Traffic(_) | Kind::Half(_) | Kind::Told { .. })));
        let (peer, version) = (label(peer, *log), peer.version.clone());
        columns.push(Column { peer, version, rounds: Vec::new(), cannot });
    }
    let saturated = bench.saturate(&rivals)?;
    for number in 0..settings.rounds {
        for index in 0..rivals.len() {
            // Every round begins with another peer, so that none always follows the same one.
            let index = (index + number) % rivals.len();
            let column = &mut columns[index];
            let round = match &rivals[index] {
                _ if column.cannot.is_some() => continue,
                Some(rival) => bench.round(rival, &saturated),
                None => match bench.start(contestants[index].0, contestants[index].1)? {
                    Ok(rival) => bench.round(&rival, &saturated),
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

fn label(peer: &Peer, log: bool) -> String {
    format!("{}{}", peer.name, if log { WITH_LOG } else { "" })
}

/// What the peers of a case have in common.
struct Bench<'a> {
    case: &'a Case,
    traffic: Traffic,
    settings: &'a Settings,
    folder: PathBuf,
    files: tls::Files,
    backend: Backend,
    discovery: Option<Discovery>,
}

impl<'a> Bench<'a> {
    fn new(case: &'a Case, settings: &'a Settings) -> anyhow::Result<Bench<'a>> {
        let traffic = match case.kind {
            Kind::Traffic(traffic) | Kind::Half(traffic) | Kind::Generators(traffic) | Kind::Idle(traffic) => traffic,
            Kind::Told { traffic, .. } => traffic,
            Kind::Services { .. } | Kind::Discovered { .. } => SERVICES_TRAFFIC,
        };
        let folder = settings.folder.join(case.name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let files = tls::make(&folder)?;
        let mesh = case.kind.mesh();
        let hosts = mesh.map_or(1, |mesh| mesh.hosts());
        let backend = Backend::start(traffic.backend, traffic.expect, hosts, LOAD_CPU)?;
        let discovery = mesh.map(|mesh| Discovery::start(mesh, backend.address.port(), LOAD_CPU)).transpose()?;
        Ok(Bench { case, traffic, settings, folder, files, backend, discovery })
    }

    /// Starts a peer's one or two processes, or says why it cannot do the job.
    fn start(&self, peer: &Peer, log: bool) -> anyhow::Result<Result<Rival, &'static str>> {
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
            let folder = self.folder.join(label(peer, log)).join(number.to_string());
            let job = self.job(folder, log, (to_clients, to_upstream), upstream)?;
            match peer.start(&job, PROXY_CPU)? {
                Ok(process) => processes.push(process),
                Err(reason) => return Ok(Err(reason)),
            }
            upstream = job.listen;
        }
        Ok(Ok(Rival { processes, entry: upstream }))
    }

    fn job(
        &self,
        folder: PathBuf,
        log: bool,
        (to_clients, to_upstream): (Side, Side),
        upstream: SocketAddr,
    ) -> anyhow::Result<Job> {
        let routes = self.traffic.routes;
        let services = self.case.kind.services().map_or(0, |(configured, _)| configured);
        let discovery = self.discovery.as_ref().map(|discovery| discovery.address);
        let (listen, tls) = (free_address()?, self.files.clone());
        Ok(Job { folder, listen, upstream, to_clients, to_upstream, log, routes, services, discovery, tls })
    }

    /// What each can do, where half of the least is to be offered to all; by address.
    fn saturate(&self, rivals: &[Option<Rival>]) -> anyhow::Result<BTreeMap<SocketAddr, f64>> {
        let mut saturated = BTreeMap::new();
        if matches!(self.case.kind, Kind::Half(_)) {
            for rival in rivals.iter().flatten() {
                let round = self.load(rival, Pace::Saturate)?;
                saturated.insert(rival.entry, round.figures[&Metric::RequestsPerSecond]);
            }
        }
        Ok(saturated)
    }

    fn round(&self, rival: &Rival, saturated: &BTreeMap<SocketAddr, f64>) -> anyhow::Result<Round> {
        match self.case.kind {
            Kind::Traffic(traffic) | Kind::Generators(traffic) | Kind::Told { traffic, .. } => {
                self.load(rival, traffic.pace)
            }
            Kind::Half(_) => {
                let offered = saturated.values().copied().fold(f64::INFINITY, f64::min) / 2.0;
                let mut round = self.load(rival, Pace::Rate(offered))?;
                round.figures.insert(Metric::Offered, offered);
                round.figures.insert(Metric::Saturation, saturated[&rival.entry]);
                Ok(round)
            }
            Kind::Idle(_) => self.idle(rival),
            Kind::Services { .. } | Kind::Discovered { .. } => {
                let mut round = self.load(rival, self.traffic.pace)?;
                let ready: Duration = rival.processes.iter().map(|process| process.ready).sum();
                round.figures.insert(Metric::Ready, ready.as_secs_f64() * 1e3);
                Ok(round)
            }
        }
    }

    /// Measures under load.
    fn load(&self, rival: &Rival, pace: Pace) -> anyhow::Result<Round> {
        let ids = rival.ids();
        let counters = Counters::open(&ids);
        let sample = || Sample::take(&ids, PROXY_CPU).map(|cpu| (cpu, counters.as_ref().map(Counters::read)));
        let outcome = load::run(Plan { pace, ..self.plan(rival.entry)? }, sample)?;
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

    /// Measures Ripstop as it is seen by each load generator.
    fn generators(&self, ripstop: &Peer, mut progress: impl FnMut(&str, usize, &Round)) -> anyhow::Result<Vec<Column>> {
        let rival = self.start(ripstop, false)?.map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let mut columns = Vec::new();
        let own = Column { peer: "ours".into(), version: String::new(), rounds: Vec::new(), cannot: None };
        columns.push(own);
        columns.extend(OTHERS.iter().map(|other| {
            let (version, cannot) = other.can(&self.traffic);
            Column { peer: other.name().into(), version, rounds: Vec::new(), cannot }
        }));
        for number in 0..self.settings.rounds {
            for (index, column) in columns.iter_mut().enumerate().filter(|(_, column)| column.cannot.is_none()) {
                let round = match index.checked_sub(1) {
                    None => self.load(&rival, self.traffic.pace)?,
                    Some(other) => self.load_by(OTHERS[other], &rival)?,
                };
                progress(&column.peer, number, &round);
                column.rounds.push(round);
            }
        }
        Ok(columns)
    }

    /// Measures under another generator's load.
    fn load_by(&self, generator: Generator, rival: &Rival) -> anyhow::Result<Round> {
        let ids = rival.ids();
        let before = Sample::take(&ids, PROXY_CPU)?;
        let seen = generator.run(&self.traffic, rival.entry, self.settings.duration)?;
        let after = Sample::take(&ids, PROXY_CPU)?;
        let mut figures = seen.figures;
        figures.insert(Metric::CpuPerRequest, (after.cpu - before.cpu).as_secs_f64() * 1e6 / seen.requests);
        Ok(Round { figures, foreign: before.foreign(&after) })
    }

    /// Measures what idle connections keep.
    fn idle(&self, rival: &Rival) -> anyhow::Result<Round> {
        let ids = rival.ids();
        let look = || measure::resident(&ids) as f64;
        let all = Plan { duration: IDLE, ..self.plan(rival.entry)? };
        let count = all.connections;
        let base = load::hold(Plan { connections: 1, duration: IDLE, ..self.plan(rival.entry)? }, look)?;
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
        let hosts = match self.case.kind.services() {
            // Spread over all, first and last included.
            Some((configured, used)) => {
                (0..used).map(|number| service(number * (configured - 1) / (used - 1))).collect()
            }
            None => vec![tls::SERVER_NAME.into()],
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
