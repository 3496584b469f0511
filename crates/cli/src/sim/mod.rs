//! `ripstop sim`: how a control plane does with many proxies, services and endpoints.

mod client;
mod mesh;
mod meter;
mod run;

use crate::output::Output;
use clap::Args;
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// Measure a control plane with simulated proxies.
///
/// Starts a control plane of its own in a temporary directory, connects proxies that speak delta xDS as sidecars do,
/// changes endpoints and measures the time until every proxy that uses them has acknowledged. Lists of sizes give a
/// line for each combination, so that growth can be seen.
#[derive(Args)]
#[command(after_help = "Examples:\n  ripstop sim --proxies 100 --services 1000\n  \
    ripstop sim --proxies 200,2000 --services 1000,10000 --endpoints-per-service 10 -o json")]
pub(crate) struct Sim {
    /// How many proxies connect
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "100")]
    proxies: Vec<usize>,
    /// How many services there are
    #[arg(long, value_name = "S,...", value_delimiter = ',', default_value = "1000")]
    services: Vec<usize>,
    #[arg(long, value_name = "E", default_value_t = 10)]
    endpoints_per_service: usize,
    /// How many services each proxy calls
    #[arg(long, value_name = "K", default_value_t = 20)]
    uses: usize,
    /// Endpoints that change per second
    #[arg(long, value_name = "C", default_value_t = 2.0)]
    churn: f64,
    /// Seconds of churn
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// So that a run can be repeated
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One combination of sizes.
#[derive(Clone, Copy, Debug)]
struct Size {
    proxies: usize,
    services: usize,
    endpoints_per_service: usize,
    uses: usize,
    churn: f64,
    duration: Duration,
    seed: u64,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    proxies: usize,
    services: usize,
    endpoints: usize,
    /// From the control plane's start until it serves.
    start_ms: f64,
    /// From the first connection until every proxy has all it asked for.
    connect_ms: f64,
    changes: usize,
    /// Changes times the proxies that use what changed.
    acknowledgements: usize,
    missing: usize,
    /// From the moment the changed file was in place until the proxy's acknowledgement went out.
    change_to_ack_p50_ms: f64,
    change_to_ack_p99_ms: f64,
    change_to_ack_max_ms: f64,
    /// Of the control plane's process.
    cpu_ms_per_change: f64,
    memory_mb: f64,
    /// What the proxies added to its resident memory.
    memory_kb_per_proxy: f64,
    sent_kb_per_proxy: f64,
}

pub(crate) fn run(command: Sim) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        command.uses > 0 && command.endpoints_per_service > 0,
        "--uses and --endpoints-per-service count from 1"
    );
    anyhow::ensure!(command.churn > 0.0, "--churn must be greater than 0");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut all = Vec::new();
    if command.output == Output::Text {
        println!("{}", heading());
    }
    for &services in &command.services {
        for &proxies in &command.proxies {
            anyhow::ensure!(services > 0 && proxies > 0, "--services and --proxies count from 1");
            let size = Size {
                proxies,
                services,
                endpoints_per_service: command.endpoints_per_service,
                uses: command.uses.min(services),
                churn: command.churn,
                duration: Duration::from_secs(command.seconds),
                seed: command.seed,
            };
            let figures = runtime.block_on(run::run(size))?;
            if command.output == Output::Text {
                println!("{}", line(&figures));
            }
            all.push(figures);
        }
    }
    if command.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&serde_json::json!({ "runs": all }))?);
    }
    let missing = all.iter().any(|figures| figures.missing > 0);
    if missing {
        eprintln!("ripstop sim: some proxies never heard of a change");
    }
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn heading() -> &'static str {
    "| proxies | services | endpoints | start | all connected | change to ACK p50 | p99 | max | CPU per change | memory | \
     per proxy | sent per proxy |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
}

fn line(f: &Figures) -> String {
    format!(
        "| {} | {} | {} | {:.0} ms | {:.0} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} ms | {:.0} MB | {:.0} KB | {:.0} KB |",
        f.proxies,
        f.services,
        f.endpoints,
        f.start_ms,
        f.connect_ms,
        f.change_to_ack_p50_ms,
        f.change_to_ack_p99_ms,
        f.change_to_ack_max_ms,
        f.cpu_ms_per_change,
        f.memory_mb,
        f.memory_kb_per_proxy,
        f.sent_kb_per_proxy
    )
}
