//! The TCP proxy filter (`tcp_proxy.v3.TcpProxy`).

use super::tunnel::{self, End, Ending};
use crate::io::{Io, SharedIo};
use crate::state::{TcpService, Worker};
use crate::upstream::{Bound, Cluster, Host, Want, connect, exchange};
use engine::Head;
use engine::format::Context;
use engine::info::{ConnectionFacts, StreamInfo};
use engine::resilience::outlier::Sign;
use engine::route::hash;
use model::Refusal;
use model::demand::Demand;
use model::listener::{TcpProxy, TcpTarget};
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
    let name = target(worker, &service.config.target);
    if let Some(wanted) = service.config.on_demand.as_ref().filter(|_| !worker.has_cluster(name)) {
        let waiting = worker.demands.ask(Demand::cluster(name), &wanted.source);
        let there = waiting.until(|| worker.has_cluster(name));
        // Too late is as good as never: the cluster is not there.
        let _ = tokio::time::timeout(wanted.timeout, there).await;
    }
    let Some(cluster) = worker.cluster(name) else {
        service.stats.downstream_cx_no_route.inc();
        return Err(Refusal::ClusterNotFound(503));
    };
    info.cluster = Some(cluster.name.clone());
    let ends = longest(worker, service);
    let (host, connected) = connect_somewhere(&cluster, &service.config, facts, info).await?;
    host.active.set(host.active.get() + 1);
    info.upstream_local = connected.local;
    let downstream = End { io: SharedIo::new(io), early: Vec::new() };
    let upstream = End { io: SharedIo::new(connected.io), early: Vec::new() };
    let (from, to) = (downstream.io.clone(), upstream.io.clone());
    let stop = async {
        tokio::select! {
            () = ends => true,
            // Its health check failed, and the cluster closes connections then.
            () = host.broken.notified() => false,
        }
    };
    let old = Cell::new(false);
    let stop = async { old.set(stop.await) };
    let moved = tunnel::run(downstream, upstream, service.config.idle_timeout, stop).await;
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
            to.reset_on_close();
            Ok(())
        }
        Ending::UpstreamBroke => {
            from.reset_on_close();
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

fn target<'t>(worker: &Worker, target: &'t TcpTarget) -> &'t str {
    match target {
        TcpTarget::Cluster(name) => name,
        TcpTarget::Weighted { clusters, total } => {
            let mut point = worker.random() % (*total).max(1);
            for (name, weight) in clusters {
                if point < u64::from(*weight) {
                    return name;
                }
                point -= u64::from(*weight);
            }
            clusters.last().map_or("", |(name, _)| name)
        }
    }
}

/// Tries hosts until one accepts, at most `max_connect_attempts`.
async fn connect_somewhere(
    cluster: &Rc<Cluster>,
    config: &TcpProxy,
    facts: &ConnectionFacts,
    info: &mut StreamInfo,
) -> Result<(Rc<Host>, connect::Connected), Refusal> {
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
        let (host, _) = cluster.choose(Want { hash, attempts: 2, ..Want::default() }, bound, unwanted)?;
        info.attempts += 1;
        info.upstream_host = Some(host.name.clone());
        exchange::limits(cluster, &host, 0).map_err(|error| error.refusal)?;
        match connect::connect(cluster, &host, &[], "", exchange::origin(cluster, facts)).await {
            Ok(connected) => {
                cluster.note(&host, Sign::ConnectOkFinal);
                return Ok((host, connected));
            }
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
