//! The oracle: the same bootstrap in the real Envoy and in Ripstop, the same requests to both, no difference but the
//! listed ones. `ORACLE_CASE=substring` runs some of the cases; `RIPSTOP_ORACLE_SELF=1` compares Envoy with itself.

mod bootstrap;
mod cases;
mod filters;
mod generate;
mod known;
mod property;
mod resilience;

use bootstrap::Ports;
use cases::{Case, Over};
use known::Known;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::Answer;
use tests::compare::{Outcome, describe, differences};
use tests::process::{Process, Unused, scratch};
use tests::{ask, client, peers};

/// A proxy with the ports of its listeners, and backends of its own.
struct Side {
    _process: Process,
    _gone: Unused,
    ports: Ports,
    log: Log,
    backends: BTreeMap<&'static str, u16>,
}

/// `http2`: its upstreams speak HTTP/2.
fn start(name: &str, folder: &Path, envoy: bool, http2: bool) -> Side {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    let backend = |name| if http2 { Backend::start_h2(name, &log) } else { Backend::start(name, &log) };
    let mut backends: BTreeMap<&'static str, u16> =
        ["a", "b", "c"].into_iter().map(|name| (name, backend(name).port)).collect();
    let gone = Unused::reserve();
    backends.insert("gone", gone.port);
    let ports = Ports::choose();
    let config = folder.join(format!("{name}.yaml"));
    std::fs::write(&config, bootstrap::text(&ports, &backends, http2)).expect("a bootstrap");
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

fn send(case: &Case, side: &Side) -> Vec<Answer> {
    side.log.lock().expect("no panic").clear();
    let port = side.ports.listener(case.listener);
    match &case.over {
        Over::Http2(asked) => {
            let authority = asked.authority.replace("{PORT}", &port.to_string());
            vec![ask::exchange(port, &ask::Ask { authority, ..asked.clone() })]
        }
        Over::Http1 | Over::Http2Upstream => {
            let raw = String::from_utf8_lossy(&case.raw).replace("{PORT}", &port.to_string());
            let bytes = if case.raw.is_ascii() { raw.into_bytes() } else { case.raw.clone() };
            client::exchange(port, &bytes, case.requests)
        }
    }
}

/// What came back, and what the backends saw.
fn collect(case: &Case, side: &Side, answers: Vec<Answer>) -> Vec<String> {
    let seen = std::mem::take(&mut *side.log.lock().expect("no panic"));
    let mut labels: Vec<(String, &str)> = vec![(side.ports.listener(case.listener).to_string(), "PORT")];
    labels.extend(side.backends.iter().map(|(name, port)| (port.to_string(), *name)));
    describe(&Outcome { answers, seen }, &labels)
}

/// Both outcomes. An answer may come before the backends have seen all that they will see.
fn run(case: &Case, envoy: &Side, ours: &Side) -> [Vec<String>; 2] {
    let (theirs, mine) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| send(case, envoy));
        let mine = send(case, ours);
        (theirs.join().expect("no panic"), mine)
    });
    let start = Instant::now();
    let count = |side: &Side| side.log.lock().expect("no panic").len();
    let least = if case.settle { Duration::from_millis(60) } else { Duration::ZERO };
    while start.elapsed() < least || (count(envoy) != count(ours) && start.elapsed() < Duration::from_millis(500)) {
        std::thread::sleep(Duration::from_millis(5));
    }
    [collect(case, envoy, theirs), collect(case, ours, mine)]
}

/// Cases and how they went.
#[derive(Default)]
struct Tally {
    cases: usize,
    equal: usize,
    listed: usize,
    unexpected: Vec<(String, Vec<String>)>,
    stale: Vec<String>,
}

impl Tally {
    fn run(cases: &[Case], (envoy, ours): &(Side, Side), known: &Known) -> Tally {
        let mut tally = Tally { cases: cases.len(), ..Tally::default() };
        for case in cases {
            let [theirs, mine] = run(case, envoy, ours);
            let lines = differences(&theirs, &mine);
            match (lines.is_empty(), known.reason(&case.name)) {
                (true, Some(_)) if known.must_differ(&case.name) => tally.stale.push(case.name.clone()),
                (true, _) => tally.equal += 1,
                (false, Some(_)) => tally.listed += 1,
                (false, None) => tally.unexpected.push((case.name.clone(), lines)),
            }
        }
        tally
    }

    fn add(&mut self, other: Tally) {
        self.cases += other.cases;
        self.equal += other.equal;
        self.listed += other.listed;
        self.unexpected.extend(other.unexpected);
        self.stale.extend(other.stale);
    }

    fn print(&self) {
        for (name, lines) in &self.unexpected {
            println!("{name}");
            lines.iter().for_each(|line| println!("    {line}"));
        }
        for name in &self.stale {
            println!("{name}: listed as a known difference, but there is none any more: remove the entry");
        }
        let Tally { cases, equal, listed, unexpected, stale } = self;
        let (unexpected, stale) = (unexpected.len(), stale.len());
        println!(
            "oracle: {cases} cases, {equal} equal, {listed} known differences, {unexpected} unexpected, {stale} stale \
             entries"
        );
    }
}

#[test]
fn oracle() {
    let folder = scratch("oracle");
    let with_itself = std::env::var_os("RIPSTOP_ORACLE_SELF").is_some();
    let pair = |suffix: &str, http2| {
        let envoy = start(&format!("envoy{suffix}"), &folder, true, http2);
        (envoy, start(&format!("ripstop{suffix}"), &folder, with_itself, http2))
    };
    let (http1, http2) = (pair("", false), pair("-h2", true));
    let only = std::env::var("ORACLE_CASE").unwrap_or_default();
    let known = Known::read();
    let chosen = cases::all().into_iter().filter(|case| case.name.contains(&only));
    let (to_http2, to_http1): (Vec<Case>, Vec<Case>) = chosen.partition(|case| case.over == Over::Http2Upstream);
    let tally = std::thread::scope(|scope| {
        let other = scope.spawn(|| Tally::run(&to_http2, &http2, &known));
        let mut tally = Tally::run(&to_http1, &http1, &known);
        tally.add(other.join().expect("no panic"));
        tally
    });
    tally.print();
    assert!(tally.cases >= 1200 || !only.is_empty(), "the oracle has at least 1,200 cases");
    assert!(tally.unexpected.is_empty() && tally.stale.is_empty(), "logs are in {}", folder.display());
    drop((http1, http2));
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn cases_have_names_of_their_own() {
    let cases = cases::all();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for name in Known::read().names() {
        assert!(names.contains(&name), "oracle-differences.toml: there is no case `{name}`");
    }
}
