//! The TCP proxy filter (`tcp_proxy.v3.TcpProxy`).

use super::tunnel::{self, End};
use crate::io::{Io, SharedIo};
use crate::state::{TcpService, Worker};
use crate::upstream::{Cluster, Host, connect};
use engine::Head;
use engine::format::Context;
use engine::info::{ConnectionFacts, StreamInfo};
use engine::resilience::outlier::Sign;
use model::Refusal;
use model::listener::TcpTarget;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

pub async fn serve(worker: &Rc<Worker>, service: &TcpService, facts: &ConnectionFacts, io: Io) {
    let _membership = service.drain.join();
    let stats = &service.stats;
    stats.downstream_cx_total.inc();
    stats.downstream_cx_active.inc();
    let started = Instant::now();
    let start_unix_micros = crate::telemetry::unix_micros();
    let mut info = StreamInfo { remote: facts.direct_remote, start_unix_micros, ..StreamInfo::default() };
    if let Err(refusal) = relay(worker, service, io, &mut info).await {
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

async fn relay(worker: &Rc<Worker>, service: &TcpService, io: Io, info: &mut StreamInfo) -> Result<(), Refusal> {
    let name = target(worker, &service.config.target);
    let Some(cluster) = worker.cluster(&name) else {
        service.stats.downstream_cx_no_route.inc();
        return Err(Refusal::ClusterNotFound(503));
    };
    info.cluster = Some(name);
    let (host, connected) = connect_somewhere(&cluster, service.config.max_connect_attempts, info).await?;
    host.active.set(host.active.get() + 1);
    info.upstream_local = connected.local;
    let downstream = End { io: SharedIo::new(io), early: Vec::new() };
    let upstream = End { io: SharedIo::new(connected.io), early: Vec::new() };
    let moved = tunnel::run(downstream, upstream, service.config.idle_timeout).await;
    host.active.set(host.active.get().saturating_sub(1));
    info.bytes_received = moved.up;
    info.bytes_sent = moved.down;
    cluster.stats.upstream_cx_tx_bytes_total.add(moved.up);
    cluster.stats.upstream_cx_rx_bytes_total.add(moved.down);
    if moved.idle {
        service.stats.idle_timeout.inc();
        return Err(Refusal::StreamIdleTimeout);
    }
    Ok(())
}

fn target(worker: &Worker, target: &TcpTarget) -> Arc<str> {
    match target {
        TcpTarget::Cluster(name) => name.clone(),
        TcpTarget::Weighted { clusters, total } => {
            let mut point = worker.random() % (*total).max(1);
            for (name, weight) in clusters {
                if point < u64::from(*weight) {
                    return name.clone();
                }
                point -= u64::from(*weight);
            }
            clusters.last().map_or_else(|| "".into(), |(name, _)| name.clone())
        }
    }
}

/// Tries hosts until one accepts, at most `attempts`.
async fn connect_somewhere(
    cluster: &Rc<Cluster>,
    attempts: u32,
    info: &mut StreamInfo,
) -> Result<(Rc<Host>, connect::Connected), Refusal> {
    let mut tried: Vec<Rc<Host>> = Vec::new();
    let mut last = Refusal::NoHealthyUpstream;
    for _ in 0..attempts.max(1) {
        let host = cluster.pick(&tried, 3)?;
        info.attempts += 1;
        info.upstream_host = Some(host.name.clone());
        match connect::connect(cluster, &host, &[], "").await {
            Ok(connected) => {
                cluster.note(&host, Sign::ConnectOk);
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
    Err(last)
}
