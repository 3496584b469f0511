//! The oracle: the same bootstrap in the real Envoy and in Ripstop, the same requests to both, no difference but the
//! listed ones. `ORACLE_CASE=substring` runs some of the cases; `RIPSTOP_ORACLE_SELF=1` compares Envoy with itself.

mod bootstrap;
mod cases;
mod filters;
mod known;
mod resilience;

use bootstrap::Ports;
use cases::Case;
use known::Known;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tests::backend::{Backend, Log};
use tests::compare::{Outcome, describe, differences};
use tests::process::{Process, Unused, scratch};
use tests::{client, peers};

/// A proxy with the ports of its listeners, and backends of its own.
struct Side {
    _process: Process,
    _gone: Unused,
    ports: Ports,
    log: Log,
    backends: BTreeMap<&'static str, u16>,
}

fn start(name: &str, folder: &Path, envoy: bool) -> Side {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let mut backends: BTreeMap<&'static str, u16> =
        ["a", "b", "c"].into_iter().map(|name| (name, Backend::start(name, &log).port)).collect();
    let gone = Unused::reserve();
    backends.insert("gone", gone.port);
    let ports = Ports::choose();
    let config = folder.join(format!("{name}.yaml"));
    std::fs::write(&config, bootstrap::text(&ports, &backends)).expect("a bootstrap");
    let config = config.display().to_string();
    let mut process = if envoy {
        let arguments = ["-c", &config, "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"];
        Process::start(name, folder, &peers::envoy(), &arguments)
    } else {
        let arguments = ["proxy", "-c", &config, "--concurrency", "1", "-l", "error"];
        Process::start(name, folder, &peers::ripstop(), &arguments)
    };
    process.ready(ports.admin);
    Side { _process: process, _gone: gone, ports, log, backends }
}

fn run(case: &Case, side: &Side) -> Vec<String> {
    side.log.lock().expect("no panic").clear();
    let port = side.ports.listener(case.listener);
    let raw = String::from_utf8_lossy(&case.raw).replace("{PORT}", &port.to_string());
    let bytes = if case.raw.is_ascii() { raw.into_bytes() } else { case.raw.clone() };
    let answers = client::exchange(port, &bytes, case.requests);
    if case.settle {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let seen = std::mem::take(&mut *side.log.lock().expect("no panic"));
    let mut labels: Vec<(String, &str)> = vec![(port.to_string(), "PORT")];
    labels.extend(side.backends.iter().map(|(name, port)| (port.to_string(), *name)));
    describe(&Outcome { answers, seen }, &labels)
}

#[test]
fn oracle() {
    let folder = scratch("oracle");
    let with_itself = std::env::var_os("RIPSTOP_ORACLE_SELF").is_some();
    let envoy = start("envoy", &folder, true);
    let ours = start("ripstop", &folder, with_itself);
    let only = std::env::var("ORACLE_CASE").unwrap_or_default();
    let known = Known::read();
    let cases = cases::all();
    let (mut equal, mut listed, mut unexpected, mut stale) = (0, 0, Vec::new(), Vec::new());
    let chosen: Vec<&Case> = cases.iter().filter(|case| case.name.contains(&only)).collect();
    for case in &chosen {
        let (theirs, mine) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| run(case, &envoy));
            let mine = run(case, &ours);
            (theirs.join().expect("no panic"), mine)
        });
        let lines = differences(&theirs, &mine);
        match (lines.is_empty(), known.reason(&case.name)) {
            (true, None) => equal += 1,
            (true, Some(_)) => stale.push(case.name.clone()),
            (false, Some(_)) => listed += 1,
            (false, None) => unexpected.push((case.name.clone(), lines)),
        }
    }
    for (name, lines) in &unexpected {
        println!("{name}");
        lines.iter().for_each(|line| println!("    {line}"));
    }
    for name in &stale {
        println!("{name}: listed as a known difference, but there is none any more: remove the entry");
    }
    println!(
        "oracle: {} cases, {equal} equal, {listed} known differences, {} unexpected, {} stale entries",
        chosen.len(),
        unexpected.len(),
        stale.len()
    );
    assert!(chosen.len() >= 300 || !only.is_empty(), "the oracle has at least 300 cases");
    assert!(unexpected.is_empty() && stale.is_empty(), "logs are in {}", folder.display());
    drop((envoy, ours));
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn cases_have_names_of_their_own() {
    let cases = cases::all();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in Known::read().names() {
        assert!(names.contains(&name), "oracle-differences.toml: there is no case `{name}`");
    }
}
