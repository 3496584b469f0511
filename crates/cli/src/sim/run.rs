//! One run: mesh, control plane, proxies, churn, figures.

use super::client::{self, Told};
use super::mesh::Mesh;
use super::{Figures, Size, meter};
use crate::up::plan::Ports;
use crate::up::supervise::{Process, Spec};
use anyhow::Context;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Reading many files takes its time.
const START: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(300);
/// After the last change.
const SETTLE: Duration = Duration::from_secs(10);
/// Connections that are opened at the same time.
const TOGETHER: usize = 50;

/// A folder that goes with the run.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Control {
    process: Process,
    id: u32,
    address: SocketAddr,
    start: Duration,
}

pub(super) async fn run(size: Size) -> anyhow::Result<Figures> {
    let unique = format!("ripstop-sim-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let scratch = Scratch(std::env::temp_dir().join(unique));
    eprintln!("writing {} services and {} proxies ...", size.services, size.proxies);
    let mut mesh = Mesh::write(&scratch.0.join("mesh"), size)?;
    eprintln!("starting the control plane ...");
    let mut control = start(&scratch.0).await?;
    let empty = meter::memory(control.id)?;
    let (told, mut hears) = mpsc::unbounded_channel();
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    let mut sent = 0;
    for proxy in 0..size.proxies {
        clients.spawn(client::run(proxy, mesh.uses(proxy).to_vec(), control.address, told.clone()));
        if (proxy + 1) % TOGETHER == 0 || proxy + 1 == size.proxies {
            let these = if (proxy + 1) % TOGETHER == 0 { TOGETHER } else { size.proxies % TOGETHER };
            sent += ready(&mut hears, these).await?;
        }
    }
    let connect = begun.elapsed();
    let full = meter::memory(control.id)?;
    eprintln!("{} proxies connected in {connect:.1?}; changing endpoints ...", size.proxies);
    let cpu = meter::cpu_ms(control.id)?;
    let churned = churn(&mut mesh, size, &mut hears).await?;
    let cpu = meter::cpu_ms(control.id)? - cpu;
    let memory = meter::memory(control.id)?;
    clients.shutdown().await;
    control.process.stop().await;
    sent += churned.received;
    let mut latencies = churned.latencies;
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies.get(((latencies.len() as f64 * q) as usize).min(latencies.len().max(1) - 1));
    Ok(Figures {
        proxies: size.proxies,
        services: size.services,
        endpoints: size.services * size.endpoints_per_service,
        start_ms: control.start.as_secs_f64() * 1e3,
        connect_ms: connect.as_secs_f64() * 1e3,
        changes: churned.changes,
        acknowledgements: latencies.len(),
        missing: churned.missing,
        change_to_ack_p50_ms: quantile(0.5).copied().unwrap_or(f64::NAN),
        change_to_ack_p99_ms: quantile(0.99).copied().unwrap_or(f64::NAN),
        change_to_ack_max_ms: latencies.last().copied().unwrap_or(f64::NAN),
        cpu_ms_per_change: cpu / churned.changes.max(1) as f64,
        memory_mb: memory / 1e6,
        memory_kb_per_proxy: (full - empty) / 1e3 / size.proxies as f64,
        sent_kb_per_proxy: sent as f64 / 1e3 / size.proxies as f64,
    })
}

async fn start(scratch: &Path) -> anyhow::Result<Control> {
    let mut free = Ports;
    let mut loopback = || anyhow::Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free.take()?)));
    let ports = [loopback()?, loopback()?, loopback()?];
    let path = |name: &str| scratch.join(name).display().to_string();
    let arguments = [
        "control",
        "--config",
        &path("mesh"),
        "--state",
        &path("state"),
        "--listen",
        &ports[0].to_string(),
        "--listen-plaintext",
        &ports[1].to_string(),
        "--admin",
        &ports[2].to_string(),
        "-l",
        "error",
    ]
    .map(str::to_owned);
    let program = std::env::current_exe().context("cannot find this program")?;
    let begun = Instant::now();
    let mut process = Process::spawn(Spec {
        name: "control",
        program: &program,
        arguments: arguments.to_vec(),
        environment: Vec::new(),
        directory: None,
        quiet: true,
    })?;
    let id = process.id().context("the control plane has ended")?;
    while tokio::net::TcpStream::connect(ports[2]).await.is_err() {
        anyhow::ensure!(process.ended_now().is_none(), "the control plane has ended; its messages are above");
        anyhow::ensure!(begun.elapsed() < START, "the control plane is not ready after {START:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(Control { process, id, address: ports[1], start: begun.elapsed() })
}

/// Waits until `count` more proxies have all they asked for; bytes that were received meanwhile.
async fn ready(hears: &mut mpsc::UnboundedReceiver<Told>, count: usize) -> anyhow::Result<usize> {
    let (mut left, mut received) = (count, 0);
    let all = async {
        while left > 0 {
            match hears.recv().await.context("no proxy is left")? {
                Told::Ready => left -= 1,
                Told::Received(bytes) => received += bytes,
                Told::Endpoints { .. } => {}
                Told::Failed(error) => return Err(error),
            }
        }
        Ok(received)
    };
    tokio::time::timeout(CONNECT, all).await.context("proxies wait for their configuration")?
}

#[derive(Default)]
struct Churned {
    changes: usize,
    latencies: Vec<f64>,
    missing: usize,
    received: usize,
}

/// Changes endpoints at a steady rate, and notes when each proxy that uses them has acknowledged.
async fn churn(mesh: &mut Mesh, size: Size, hears: &mut mpsc::UnboundedReceiver<Told>) -> anyhow::Result<Churned> {
    let used = mesh.used();
    let mut random = fastrand::Rng::with_seed(size.seed);
    let mut churned = Churned::default();
    // When a service changed, as long as a proxy has not acknowledged it.
    let mut open: HashMap<(usize, usize), Instant> = HashMap::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / size.churn));
    let end = tokio::time::Instant::now() + size.duration;
    loop {
        let settled = tokio::time::Instant::now() >= end;
        if settled && open.is_empty() {
            break;
        }
        tokio::select! {
            _ = ticks.tick(), if !settled => {
                let service = used[random.usize(..used.len())];
                // One change after the other, so that each acknowledgement is of one change.
                if mesh.users(service).iter().any(|&proxy| open.contains_key(&(proxy, service))) {
                    continue;
                }
                mesh.change(service)?;
                let now = Instant::now();
                open.extend(mesh.users(service).iter().map(|&proxy| ((proxy, service), now)));
                churned.changes += 1;
            }
            told = hears.recv() => match told.context("no proxy is left")? {
                Told::Endpoints { proxy, service, at } => {
                    if let Some(since) = open.remove(&(proxy, service)) {
                        churned.latencies.push((at - since).as_secs_f64() * 1e3);
                    }
                }
                Told::Received(bytes) => churned.received += bytes,
                Told::Ready => {}
                Told::Failed(error) => return Err(error),
            },
            () = tokio::time::sleep_until(end + SETTLE) => break,
        }
    }
    churned.missing = open.len();
    Ok(churned)
}
