//! `cargo xtask bench`: CPU per request of Ripstop beside Envoy and HAProxy, interleaved, on two cores.
//!
//! The proxy runs alone on CPU 0; load (wrk) and backend (nginx) share CPU 1, so requests per second say little and
//! CPU per request says what we want: user plus system time of the proxy's process over the requests it served.

use crate::{peers, target};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const SECONDS: u32 = 3;
const BACKEND: u16 = 19080;

struct Rival {
    name: &'static str,
    port: u16,
    process: Child,
}

/// Ends what it started.
impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    let profile = if arguments.contains(&"--dist") { "dist" } else { "release" };
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let _backend = backend(&folder)?;
    let mut rivals = vec![ripstop(&folder, profile)?];
    rivals.extend(envoy(&folder)?);
    rivals.extend(haproxy(&folder)?);
    for rival in &rivals {
        wait_for(rival.port)?;
    }
    wait_for(BACKEND)?;
    println!("HTTP/1.1 keep-alive, 1 KB answers; CPU microseconds per request (user + system), {ROUNDS} rounds\n");
    println!("| connections | {} |", rivals.iter().map(|rival| rival.name).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---|".repeat(rivals.len()));
    for connections in [1, 64, 256] {
        let mut results: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for _ in 0..ROUNDS {
            for rival in &rivals {
                results.entry(rival.name).or_default().push(measure(rival, connections)?);
            }
        }
        let cells: Vec<String> = rivals.iter().map(|rival| cell(&results[rival.name])).collect();
        println!("| {connections} | {} |", cells.join(" | "));
    }
    println!("\nresident memory after the run:");
    for rival in &rivals {
        println!("  {:<8} {:.1} MB", rival.name, resident_mb(rival.process.id()));
    }
    Ok(true)
}

/// Median, and the spread in parentheses.
fn cell(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    format!("{:.1} ({:.1}–{:.1})", sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

fn measure(rival: &Rival, connections: u32) -> anyhow::Result<f64> {
    let before = cpu_seconds(rival.process.id())?;
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t", "1", "-c"])
        .arg(connections.to_string())
        .arg("-d")
        .arg(format!("{SECONDS}s"))
        .arg(format!("http://127.0.0.1:{}/", rival.port))
        .output()
        .context("wrk cannot be run")?;
    let spent = cpu_seconds(rival.process.id())? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")).map(|(count, _)| count);
    let requests: f64 = requests.and_then(|count| count.parse().ok()).with_context(|| format!("wrk said: {text}"))?;
    anyhow::ensure!(!text.contains("Non-2xx"), "{}: not every answer was 200: {text}", rival.name);
    Ok(spent * 1e6 / requests)
}

/// User and system time of a process and all its threads.
fn cpu_seconds(id: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // Fields 14 and 15 of proc(5), counted from the state; a tick is 1/100 s.
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn resident_mb(id: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
    let pages: f64 = text.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1e6
}

fn wait_for(port: u16) -> anyhow::Result<()> {
    let start = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        anyhow::ensure!(start.elapsed() < Duration::from_secs(15), "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn spawn(name: &'static str, port: u16, cpu: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<Rival> {
    let process = Command::new("taskset")
        .args(["-c", cpu])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{name} cannot be run"))?;
    Ok(Rival { name, port, process })
}

fn backend(folder: &Path) -> anyhow::Result<Rival> {
    let body = "x".repeat(1024);
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {0}/nginx.pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s;\n\
         server {{ listen 127.0.0.1:{BACKEND} reuseport; location / {{ return 200 \"{body}\"; }} }} }}\n",
        folder.display()
    );
    std::fs::write(&config, text)?;
    spawn("nginx", BACKEND, "1", &program("nginx")?, &["-c", &config.display().to_string()])
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    let found = peers::list().into_iter().find(|peer| peer.name == name).and_then(|peer| peer.path);
    found.with_context(|| format!("{name} is missing; run `cargo xtask peers`"))
}

/// The same job for Envoy and Ripstop.
fn bootstrap(folder: &Path, name: &str, port: u16) -> anyhow::Result<String> {
    let text = format!(
        r#"static_resources:
  listeners:
  - name: in
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          generate_request_id: false
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: backend }} }}] }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: backend
    circuit_breakers: {{ thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}] }}
    load_assignment:
      cluster_name: backend
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {BACKEND} }} }} }} }}] }}]
"#
    );
    let path = folder.join(format!("{name}.yaml"));
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn ripstop(folder: &Path, profile: &str) -> anyhow::Result<Rival> {
    let program = target().join(profile).join("ripstop");
    anyhow::ensure!(
        program.exists(),
        "{} is missing; build it with `cargo build --profile {profile} -p cli`",
        program.display()
    );
    let config = bootstrap(folder, "ripstop", 19001)?;
    spawn("Ripstop", 19001, "0", &program, &["proxy", "-c", &config, "--concurrency", "1", "-l", "error"])
}

fn envoy(folder: &Path) -> anyhow::Result<Option<Rival>> {
    let Ok(program) = program("envoy") else { return Ok(None) };
    let config = bootstrap(folder, "envoy", 19002)?;
    let arguments = ["-c", &config, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];
    spawn("Envoy", 19002, "0", &program, &arguments).map(Some)
}

fn haproxy(folder: &Path) -> anyhow::Result<Option<Rival>> {
    let Ok(program) = program("haproxy") else { return Ok(None) };
    let config = folder.join("haproxy.cfg");
    std::fs::write(
        &config,
        format!(
            "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  \
             timeout connect 5s\n  http-reuse always\nfrontend in\n  bind 127.0.0.1:19003\n  default_backend b\nbackend b\n  \
             server s 127.0.0.1:{BACKEND}\n"
        ),
    )?;
    spawn("HAProxy", 19003, "0", &program, &["-f", &config.display().to_string(), "-db"]).map(Some)
}
