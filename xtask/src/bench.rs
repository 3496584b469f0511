//! `cargo xtask bench`: builds Ripstop and the bench program, and runs it with the peers that are there.

use crate::{peers, root, target};
use anyhow::Context;
use std::process::Command;

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    let (profile, arguments) = match arguments {
        ["--release", rest @ ..] => ("release", rest),
        all => ("dist", all),
    };
    build("release", "bench")?;
    let mut bench = Command::new(target().join("release/bench"));
    bench.args(arguments);
    let asks = |what: &[&str]| arguments.iter().any(|argument| what.contains(argument));
    if !asks(&["--help", "-h", "--list"]) {
        build(profile, "cli")?;
        bench.args(["--profile", profile, "--program"]);
        bench.arg(format!("ripstop={}", target().join(profile).join("ripstop").display()));
        for peer in peers::list() {
            if let ("envoy" | "haproxy" | "nginx", Some(path)) = (peer.name, peer.path) {
                bench.arg("--program").arg(format!("{}={}", peer.name, path.display()));
            }
        }
    }
    Ok(bench.status().context("the bench program cannot be run")?.success())
}

fn build(profile: &str, package: &str) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root()).args(["build", "--quiet", "--profile", profile, "-p", package]);
    anyhow::ensure!(build.status()?.success(), "{package} does not build with profile {profile}");
    Ok(())
}
