//! `cargo xtask test`: every check there is, in the order from quick to slow.

use crate::suite::{self, Counts};
use crate::{ci, peers, root, target, tidy};
use std::process::Command;
use std::time::Instant;

/// A step and what it is for.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> anyhow::Result<Outcome>,
}

enum Outcome {
    Ran(bool, Counts),
    /// Why, and how to get what is missing.
    LeftOut(String),
}

/// A suite of the `tests` crate and the peers it needs.
const SUITES: [(&str, &[&str]); 4] = [
    ("oracle", &["envoy"]),
    ("control", &["envoy", "python with grpcio"]),
    ("protocols", &["envoy", "python with grpcio", "nginx", "haproxy", "iptables", "ip"]),
    ("http2", &["h2spec"]),
];

const STEPS: [Step; 8] = [
    Step { name: "format", about: "cargo fmt --check", run: || cargo(&["fmt", "--all", "--check"]) },
    Step { name: "lint", about: "clippy without warnings", run: lint },
    Step { name: "tidy", about: "the house rules", run: || Ok(Outcome::Ran(tidy::run()?, Counts::default())) },
    Step { name: "unit", about: "hermetic tests of every crate", run: unit },
    Step { name: "peers", about: "install the programs to test against", run: get_peers },
    Step { name: "build", about: "the release binary", run: || cargo(&["build", "--release", "-p", "cli"]) },
    Step { name: "suites", about: "against real proxies, servers and clients", run: suites },
    Step { name: "demo", about: "the scripted demo of a whole mesh", run: demo },
];

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    if arguments.contains(&"--list") {
        for step in &STEPS {
            println!("{:<8} {}", step.name, step.about);
        }
        return Ok(true);
    }
    let only: Vec<&str> = arguments.windows(2).filter(|pair| pair[0] == "--only").map(|pair| pair[1]).collect();
    for name in &only {
        let known = STEPS.iter().any(|step| step.name == *name);
        anyhow::ensure!(known, "there is no step `{name}`; `cargo xtask test --list` shows them");
    }
    let mut summary = Vec::new();
    let mut total = Counts::default();
    for step in STEPS.iter().filter(|step| only.is_empty() || only.contains(&step.name)) {
        println!("\n==> {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.run)().unwrap_or_else(|error| {
            println!("{error:#}");
            Outcome::Ran(false, Counts::default())
        });
        let seconds = start.elapsed().as_secs();
        summary.push(judge(step.name, &outcome, seconds, &mut total));
    }
    println!("\nsummary");
    for line in &summary {
        println!("  {line}");
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(total.failed == 0)
}

/// Adds a step to the totals; the step itself counts as one check.
fn judge(name: &str, outcome: &Outcome, seconds: u64, total: &mut Counts) -> String {
    match outcome {
        Outcome::Ran(ok, counts) => {
            total.add(*counts);
            if *ok {
                total.passed += 1;
                format!("{name:<8} ok, {seconds} s, {} tests", counts.passed)
            } else {
                total.failed += 1;
                format!("{name:<8} FAILED, {seconds} s, {} tests failed", counts.failed)
            }
        }
        Outcome::LeftOut(reason) if ci() => {
            total.failed += 1;
            format!("{name:<8} FAILED: not run: {reason}; on CI everything must run")
        }
        Outcome::LeftOut(reason) => {
            total.skipped += 1;
            format!("{name:<8} LEFT OUT: {reason}")
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

fn cargo(arguments: &[&str]) -> anyhow::Result<Outcome> {
    let (ok, counts) = suite::run(&mut command(arguments))?;
    Ok(Outcome::Ran(ok, counts))
}

fn lint() -> anyhow::Result<Outcome> {
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])
}

fn unit() -> anyhow::Result<Outcome> {
    cargo(&["test", "--workspace", "--exclude", "tests", "--quiet", "--no-fail-fast"])
}

/// What cannot be had shows as a suite that was left out.
fn get_peers() -> anyhow::Result<Outcome> {
    peers::install()?;
    Ok(Outcome::Ran(true, Counts::default()))
}

fn suites() -> anyhow::Result<Outcome> {
    let (mut all, mut counts, mut left_out) = (true, Counts::default(), Vec::new());
    for (name, needed) in SUITES {
        let missing = peers::missing(needed);
        if !missing.is_empty() {
            left_out.push(format!("suite `{name}` needs {}", missing.join(", ")));
            continue;
        }
        let mut command = command(&["test", "-p", "tests", "--quiet", "--test", name]);
        command.env("RIPSTOP_BIN", target().join("release/ripstop")).env("RIPSTOP_PEERS", peers::folder());
        let (ok, more) = suite::run(&mut command)?;
        all &= ok;
        counts.add(more);
    }
    // A failure weighs more than what was left out; on CI both fail.
    for reason in &left_out {
        println!("left out: {reason}");
    }
    counts.skipped += left_out.len() as u64;
    if all && !left_out.is_empty() && ci() {
        return Ok(Outcome::LeftOut(left_out.join("; ")));
    }
    Ok(Outcome::Ran(all, counts))
}

fn demo() -> anyhow::Result<Outcome> {
    let (ok, counts) = suite::run(Command::new(target().join("release/ripstop")).args(["demo", "--check"]))?;
    Ok(Outcome::Ran(ok, counts))
}
