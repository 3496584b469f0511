//! The TCP proxy filter (`tcp_proxy.v3.TcpProxy`).

use super::through::{self, Upstream};
use super::tunnel::{self, End, Ending, Patience};
use crate::io::{Io, SharedIo};
use crate::state::{TcpService, Worker};
use crate::upstream::connect::{self, ConnectError};
use crate::upstream::{Bound, Cluster, Host, Want, exchange};
use engine::Head;
use engine::format::Context;
use engine::info::{ConnectionFacts, StreamInfo};
use engine::resilience::outlier::Sign;
use engine::route::hash;
use model::Refusal;
use model::demand::Demand;
use model::listener::{TcpCluster, TcpProxy, TcpTarget};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

pub async fn serve(worker: &Rc<Worker>, service: &TcpService, facts: &ConnectionFacts, io: Io) {
    let _membership = service.drain.join();
    let stats = &service.stats;
    stats.downstream_cx_total.inc();
    stats.downstream_cx_active.inc();
    let started = Instant::now();
    let start_unix_micros = crate::clock::unix_micros();
    let mut info = StreamInfo { remote: facts.direct_remote, start_unix_micros, raw: true, ..StreamInfo::default() };
    if let Err(refusal) = relay(worker, service, facts, io, &mut info).await {
        info.refusal = Some(refusal);
    }
    stats.downstream_cx_rx_bytes_total.add(info.bytes_received);
    stats.downstream_cx_tx_bytes_total.add(info.bytes_sent);
    stats.downstream_cx_active.dec();
    info.duration = Some(started.elapsed());
    let none = Head::default();
    let context = Context::new(&none, &info, facts);
    for log in &service.logs {
        log.log(&context, worker.random());
    }
}

async fn relay(
    worker: &Rc<Worker>,
    service: &TcpService,
    facts: &ConnectionFacts,
    io: Io,
    info: &mut StreamInfo,
) -> Result<(), Refusal> {
    let target = target(worker, &service.config.target);
    let there = || worker.has_cluster(&target.name);
    if let Some(wanted) = service.config.on_demand.as_ref().filter(|_| !there()) {
        let waiting = worker.demands.ask(Demand::cluster(target.name.clone()), &wanted.source);
        // Too late is as good as never: the cluster is not there.
        let _ = tokio::time::timeout(wanted.timeout, waiting.until(there)).await;
    }
    let Some(cluster) = worker.cluster(&target.name) else {
        service.stats.downstream_cx_no_route.inc();
        return Err(Refusal::ClusterNotFound(503));
    };
    info.cluster = Some(cluster.name.clone());
    let ends = longest(worker, service);
    let (host, mut upstream) = connect_somewhere(&cluster, target, &service.config, facts, info).await?;
    host.active.set(host.active.get() + 1);
    let mut downstream = End { io: SharedIo::new(io), early: Vec::new() };
    let stop = async {
        tokio::select! {
            () = ends => true,
            // Its health check failed, and the cluster closes connections then.
            () = host.broken.notified() => false,
        }
    };
    let old = Cell::new(false);
    let stop = async { old.set(stop.await) };
    let idle = service.config.idle_timeout;
    let moved = tunnel::run(&mut downstream, &mut upstream, Patience { idle, half: idle }, stop).await;
    host.active.set(host.active.get().saturating_sub(1));
    info.bytes_received = moved.up;
    info.bytes_sent = moved.down;
    cluster.stats.upstream_cx_tx_bytes_total.add(moved.up);
    cluster.stats.upstream_cx_rx_bytes_total.add(moved.down);
    match moved.end {
        Ending::Complete => Ok(()),
        Ending::Idle => {
            service.stats.idle_timeout.inc();
            Ok(())
        }
        Ending::Stopped if old.get() => {
            service.stats.max_downstream_connection_duration.inc();
            Err(Refusal::StreamDuration)
        }
        Ending::Stopped => Ok(()),
        // A reset travels on as one.
        Ending::DownstreamBroke => {
            upstream.io.reset_on_close();
            Ok(())
        }
        Ending::UpstreamBroke => {
            downstream.io.reset_on_close();
            Err(Refusal::UpstreamStreamReset)
        }
    }
}

/// Ready when the downstream connection has reached its longest duration.
fn longest(worker: &Worker, service: &TcpService) -> impl Future<Output = ()> {
    let longest = service.config.max_duration;
    let jitter = longest.mul_f64(service.config.duration_jitter / 100.0 * worker.random_unit());
    async move {
        match longest.is_zero() {
            true => std::future::pending().await,
            false => tokio::time::sleep(longest + jitter).await,
        }
    }
}

fn target<'t>(worker: &Worker, target: &'t TcpTarget) -> &'t TcpCluster {
    match target {
        TcpTarget::Cluster(cluster) => cluster,
        TcpTarget::Weighted { clusters, total } => {
            let mut point = worker.random() % (*total).max(1);
            let chosen = clusters.iter().find(|(_, weight)| {
                let chosen = point < u64::from(*weight);
                point = point.saturating_sub(u64::from(*weight));
                chosen
            });
            // The point lies below the sum of the weights, so one is found.
            &chosen.unwrap_or(&clusters[0]).0
        }
    }
}

/// Tries hosts until one accepts, at most `max_connect_attempts`.
async fn connect_somewhere(
    cluster: &Rc<Cluster>,
    target: &TcpCluster,
    config: &TcpProxy,
    facts: &ConnectionFacts,
    info: &mut StreamInfo,
) -> Result<(Rc<Host>, End<Upstream>), Refusal> {
    let mut tried: Vec<Rc<Host>> = Vec::new();
    let mut last = Refusal::NoHealthyUpstream;
    let hash = info.remote.filter(|_| config.hash_source_ip).map(|remote| hash::source_ip(remote.ip()));
    let mut back_off = config.connect_back_off.map(|(base, longest)| kit::Backoff::new(base, longest));
    for attempt in 0..config.max_connect_attempts.max(1) {
        if let Some(back_off) = back_off.as_mut().filter(|_| attempt > 0) {
            tokio::time::sleep(back_off.next(fastrand::f64())).await;
        }
        let bound = Bound { original: facts.original, request: None };
        let unwanted = |host: &Rc<Host>| tried.iter().any(|other| Rc::ptr_eq(other, host));
        let (host, _) = cluster.choose(
            Want { hash, subset: &target.subset, attempts: 2, tried_priorities: None },
            bound,
            unwanted,
        )?;
        info.attempts += 1;
        info.upstream_host = Some(host.name.clone());
        match connect(cluster, &host, config, facts, info).await {
            Ok(upstream) => {
                cluster.note(&host, Sign::ConnectOkFinal);
                return Ok((host, upstream));
            }
            Err(error) if error.refusal == Refusal::UpstreamOverflow => return Err(error.refusal),
            Err(error) => {
                cluster.note(&host, Sign::LocalOrigin);
                info.transport_failure = Some(error.reason);
                last = error.refusal;
                tried.push(host);
            }
        }
    }
    info.attempts_exhausted = true;
    Err(last)
}

/// Straight to `host`, or by way of it.
async fn connect(
    cluster: &Rc<Cluster>,
    host: &Rc<Host>,
    config: &TcpProxy,
    facts: &ConnectionFacts,
    info: &mut StreamInfo,
) -> Result<End<Upstream>, ConnectError> {
    if let Some(tunneling) = &config.tunneling {
        return through::open(cluster, host, tunneling, (facts, info), config.idle_timeout).await;
    }
    exchange::limits(cluster, host, 0)?;
    let connected = connect::connect(cluster, host, &[], "", exchange::origin(cluster, facts)).await?;
    info.upstream_local = connected.local;
    Ok(Upstream::plain(connected))
}
