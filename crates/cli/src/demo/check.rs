//! `ripstop demo --check`: a scripted scenario, each step judged by what callers saw.

use super::load::{Load, Totals};
use super::mesh::{CANARY, ShopConfig};
use crate::output::Output;
use crate::up::admin;
use crate::up::files::MeshFiles;
use crate::up::run::Mesh;
use serde_json::{Value, json};
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

/// Four standard deviations: a right split fails once in 16,000 runs.
const SIGMAS: f64 = 4.0;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the steps work on.
struct Scene<'s> {
    mesh: &'s mut Mesh,
    config: &'s ShopConfig,
    load: &'s Load,
    files: MeshFiles,
}

impl Scene<'_> {
    /// Lets the mesh follow changed files, as `ripstop up` does.
    async fn take_over(&mut self) -> anyhow::Result<()> {
        self.files.changed()?;
        self.mesh.update(&self.files).await
    }
}

struct Report {
    output: Output,
    results: Vec<(String, Result<String, String>)>,
}

impl Report {
    fn add(&mut self, name: &str, result: anyhow::Result<String>) {
        let result = result.map_err(|error| format!("{error:#}"));
        if self.output == Output::Text {
            match &result {
                Ok(seen) => println!("passed  {name}: {seen}"),
                Err(reason) => println!("FAILED  {name}: {reason}"),
            }
        }
        self.results.push((name.to_string(), result));
    }
}

pub(super) async fn run(mesh: &mut Mesh, config: &ShopConfig, load: &Load, output: Output) -> anyhow::Result<ExitCode> {
    let mut report = Report { output, results: Vec::new() };
    let files = MeshFiles::read(config.dir())?;
    let mut scene = Scene { mesh, config, load, files };
    let answer = warm_up(scene.mesh, load).await;
    report.add("the shop answers through the mesh", answer);
    report.add("weighted split", split(load, CANARY, 400).await);
    let moved = move_canary(&mut scene).await;
    report.add("canary moved live, no failed request", moved);
    report.add("an instance killed under load, no failed request", kill_instance(scene.mesh, load).await);
    report.add("a client without a certificate is refused", refuse_stranger(scene.mesh).await);
    report.add("control plane killed and restarted under load", restart_control(scene.mesh, load).await);
    report.add("a broken file is rejected, the last good one serves", break_file(&mut scene).await);
    let failed = report.results.iter().filter(|(_, result)| result.is_err()).count();
    let passed = report.results.len() - failed;
    match output {
        Output::Text => println!("demo: {passed} passed, {failed} failed"),
        Output::Json => {
            let steps: Vec<Value> = report
                .results
                .iter()
                .map(|(name, result)| match result {
                    Ok(seen) => json!({"step": name, "passed": true, "seen": seen}),
                    Err(reason) => json!({"step": name, "passed": false, "reason": reason}),
                })
                .collect();
            println!("{}", json!({"steps": steps, "passed": passed, "failed": failed}));
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Sidecars are ready; the programs behind them may take a moment more.
async fn warm_up(mesh: &mut Mesh, load: &Load) -> anyhow::Result<String> {
    until("20 visitors in a row served", || async {
        let before = load.totals();
        sleep(Duration::from_millis(700)).await;
        let seen = load.totals().since(&before);
        anyhow::ensure!(seen.failed == 0 && seen.succeeded >= 20, "{}", describe(&seen));
        Ok(())
    })
    .await?;
    // Visitors would be served all the same, by the other instance.
    anyhow::ensure!(!mesh.reap(), "a workload has ended; its words are above");
    Ok(format!("{} visitors served", load.totals().succeeded))
}

/// Repeats `probe` until it holds.
async fn until<F, T>(what: &str, mut probe: F) -> anyhow::Result<()>
where
    F: FnMut() -> T,
    T: Future<Output = anyhow::Result<()>>,
{
    let start = tokio::time::Instant::now();
    loop {
        match probe().await {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(error.context(format!("not reached: {what}"))),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

fn describe(seen: &Totals) -> String {
    let mut text = format!("{} served, {} failed", seen.succeeded, seen.failed);
    if seen.failed > 0 {
        text.push_str(&format!(" ({})", seen.last_failure));
    }
    text
}

/// Counts the versions over at least `wanted` visits from now.
async fn split(load: &Load, percent: u32, wanted: u64) -> anyhow::Result<String> {
    let before = load.totals();
    let seen = loop {
        sleep(Duration::from_millis(200)).await;
        let seen = load.totals().since(&before);
        if seen.catalog_v1 + seen.catalog_v2 >= wanted || seen.failed > 0 {
            break seen;
        }
    };
    anyhow::ensure!(seen.failed == 0, "{}", describe(&seen));
    let total = (seen.catalog_v1 + seen.catalog_v2) as f64;
    let p = f64::from(percent) / 100.0;
    let bound = SIGMAS * (p * (1.0 - p) / total).sqrt();
    let share = seen.catalog_v2 as f64 / total;
    anyhow::ensure!(
        (share - p).abs() <= bound,
        "v2 got {:.1} % of {total} calls; {percent} % were asked for, ±{:.1} allowed",
        share * 100.0,
        bound * 100.0
    );
    Ok(format!("v2 got {:.1} % of {total} calls, {percent} % asked for", share * 100.0))
}

async fn move_canary(scene: &mut Scene<'_>) -> anyhow::Result<String> {
    let load = scene.load;
    let before = load.totals();
    scene.config.set_canary(70)?;
    scene.take_over().await?;
    until("most calls go to v2", || async {
        let start = load.totals();
        sleep(Duration::from_millis(1000)).await;
        let seen = load.totals().since(&start);
        anyhow::ensure!(seen.catalog_v2 > seen.catalog_v1, "v1 {} v2 {}", seen.catalog_v1, seen.catalog_v2);
        Ok(())
    })
    .await?;
    let text = split(load, 70, 400).await?;
    let seen = load.totals().since(&before);
    anyhow::ensure!(seen.failed == 0, "{}", describe(&seen));
    Ok(format!("{text}; {}", describe(&seen)))
}

async fn kill_instance(mesh: &mut Mesh, load: &Load) -> anyhow::Result<String> {
    let before = load.totals();
    mesh.kill_workload("orders-2").await;
    sleep(Duration::from_secs(4)).await;
    mesh.kill_workload("ratings-1").await;
    sleep(Duration::from_secs(4)).await;
    let seen = load.totals().since(&before);
    anyhow::ensure!(seen.failed == 0 && seen.succeeded > 100, "{}", describe(&seen));
    Ok(format!("orders-2 and ratings-1 died; {}", describe(&seen)))
}

/// Speaks to a workload's mTLS address without a certificate, in plain text and over TLS.
async fn refuse_stranger(mesh: &Mesh) -> anyhow::Result<String> {
    let placement = mesh.placements().get("catalog-v1-1").ok_or_else(|| anyhow::anyhow!("no catalog-v1-1"))?;
    let port = placement.inbound.get("http").copied().ok_or_else(|| anyhow::anyhow!("no inbound port"))?;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n").await?;
    let mut plain = Vec::new();
    // A reset is a refusal as good as any.
    let _ = stream.read_to_end(&mut plain).await;
    anyhow::ensure!(!plain.starts_with(b"HTTP/"), "plain text was answered: {}", String::from_utf8_lossy(&plain));
    let config = identity::tls::client_config(&identity::tls::ClientTls::default())?;
    let answer = over_tls(config, port).await;
    anyhow::ensure!(answer.is_err(), "TLS without a certificate was answered: {}", answer.unwrap_or_default());
    Ok("plain text and TLS without a certificate got no answer".into())
}

async fn over_tls(config: std::sync::Arc<rustls::ClientConfig>, port: u16) -> anyhow::Result<String> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let name = rustls_pki_types::ServerName::try_from("catalog")?;
    let mut tls = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await?;
    anyhow::ensure!(answer.starts_with(b"HTTP/"), "closed without an answer");
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn restart_control(mesh: &mut Mesh, load: &Load) -> anyhow::Result<String> {
    let before = load.totals();
    mesh.kill_control().await;
    sleep(Duration::from_secs(3)).await;
    let alone = load.totals().since(&before);
    anyhow::ensure!(alone.failed == 0 && alone.succeeded > 50, "while it was away: {}", describe(&alone));
    mesh.start_control().await?;
    sleep(Duration::from_secs(3)).await;
    let seen = load.totals().since(&before);
    anyhow::ensure!(seen.failed == 0, "{}", describe(&seen));
    Ok(describe(&seen))
}

/// The rejection must say file, line, column and reason; the split must stay what it was.
async fn break_file(scene: &mut Scene<'_>) -> anyhow::Result<String> {
    let before = scene.load.totals();
    let good = std::fs::read_to_string(scene.config.route_file())?;
    scene.config.write_route(&good.replace("backendRefs", "backendReffs"))?;
    scene.take_over().await?;
    let port = scene.mesh.control_admin().port();
    until("the control plane reports the broken file", || async {
        let (_, body) = admin::get(port, "/api/v1/files").await?;
        anyhow::ensure!(body.contains("backendReffs"), "{body}");
        Ok(())
    })
    .await?;
    let (_, said) = admin::get(port, "/api/v1/files").await?;
    let place = rejection(&said);
    anyhow::ensure!(place.contains(":7:"), "line and column are missing in {said}");
    let text = split(scene.load, 70, 200).await?;
    scene.config.write_route(&good)?;
    scene.take_over().await?;
    let seen = scene.load.totals().since(&before);
    anyhow::ensure!(seen.failed == 0, "{}", describe(&seen));
    Ok(format!("{place}; {text}"))
}

/// The message about the broken file in the control plane's answer.
fn rejection(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let mut found = String::new();
    find(&parsed, &mut found);
    found
}

fn find(value: &Value, found: &mut String) {
    match value {
        Value::String(text) if text.contains("backendReffs") => found.clone_from(text),
        Value::Array(items) => items.iter().for_each(|item| find(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| find(field, found)),
        _ => {}
    }
}
