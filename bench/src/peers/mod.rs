//! The proxies that are measured, and how each is told to do a job.

mod envoy;
mod haproxy;
mod nginx;

use crate::tls::Files;
use anyhow::Context;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a proxy may take until it accepts connections.
const START: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Tcp,
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    /// TLS 1.3, only the server shows a certificate.
    Tls,
    /// TLS 1.3, both sides show certificates of one CA.
    Mutual,
}

/// What a proxy speaks to one side.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub wire: Wire,
    pub security: Security,
}

/// What one process of a peer has to do.
pub struct Job {
    /// For its configuration, logs and process files.
    pub folder: PathBuf,
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    pub to_clients: Side,
    pub to_upstream: Side,
    /// Write a JSON access log to `access.log` in the folder.
    pub log: bool,
    /// Path prefixes `/route-0/` ... that all lead to the upstream; 0: everything does.
    pub routes: usize,
    /// Services with these `service` names as hosts, each with its own cluster; all lead to the upstream. 0: one for all.
    pub services: usize,
    /// The control plane that tells of the services; else they are configured.
    pub discovery: Option<SocketAddr>,
    pub tls: Files,
}

/// A peer's command for a job, or why it cannot do it.
pub enum Start {
    Run(Command),
    Cannot(&'static str),
}

/// Writes a program's configuration for a job.
type Prepare = fn(&Path, &Job) -> anyhow::Result<Start>;

/// A proxy that can be measured.
pub struct Peer {
    pub name: &'static str,
    pub version: String,
    program: PathBuf,
    command: Prepare,
}

/// Names of all peers, as `--peer` takes them, Ripstop first: ratios compare it with the others.
pub const NAMES: [&str; 5] = ["ripstop", "null", "haproxy", "nginx", "envoy"];

const SPEAK_XDS: [&str; 2] = ["ripstop", "envoy"];

impl Peer {
    pub fn new(name: &'static str, program: PathBuf) -> anyhow::Result<Peer> {
        let (command, version): (Prepare, &str) = match name {
            "ripstop" => (envoy::ripstop, "--version"),
            "envoy" => (envoy::envoy, "--version"),
            "haproxy" => (haproxy::command, "-v"),
            "nginx" => (nginx::command, "-v"),
            "null" => (null, "--version"),
            _ => anyhow::bail!("no peer is called {name}; there are {}", NAMES.join(", ")),
        };
        let version = version_of(&program, version).with_context(|| format!("{} cannot run", program.display()))?;
        Ok(Peer { name, version, program, command })
    }

    /// Starts a process for the job on CPU `on` and waits until it listens.
    pub fn start(&self, job: &Job, on: usize) -> anyhow::Result<Result<Process, &'static str>> {
        std::fs::create_dir_all(&job.folder).with_context(|| job.folder.display().to_string())?;
        if job.discovery.is_some() && !SPEAK_XDS.contains(&self.name) {
            return Ok(Err("has no xDS"));
        }
        let mut command = match (self.command)(&self.program, job)? {
            Start::Run(command) => command,
            Start::Cannot(reason) => return Ok(Err(reason)),
        };
        let output = std::fs::File::create(job.folder.join("output.log"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // SAFETY: only a system call between fork and exec.
        unsafe { command.pre_exec(move || crate::measure::pin(on)) };
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("{} cannot be run", self.name))?;
        let mut process = Process { child, ready: Duration::ZERO };
        while TcpStream::connect(job.listen).is_err() {
            let log = job.folder.join("output.log");
            anyhow::ensure!(
                begun.elapsed() < START && process.child.try_wait()?.is_none(),
                "{} does not listen; see {}",
                self.name,
                log.display()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        process.ready = begun.elapsed();
        Ok(Ok(process))
    }
}

/// A peer's running process; it ends when dropped.
pub struct Process {
    child: Child,
    /// From start to the first accepted connection.
    pub ready: Duration,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The host name of a service by its number.
pub fn service(number: usize) -> String {
    format!("service-{number}.test")
}

/// An address on loopback that nobody listens on now.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn null(program: &Path, job: &Job) -> anyhow::Result<Start> {
    if job.to_clients.wire != job.to_upstream.wire && job.to_upstream.wire != Wire::Tcp {
        return Ok(Start::Cannot("parses nothing"));
    }
    if job.to_clients.security == Security::Tls {
        return Ok(Start::Cannot("has no TLS"));
    }
    if job.log {
        return Ok(Start::Cannot("writes no log"));
    }
    if job.services > 0 {
        return Ok(Start::Cannot("knows no services"));
    }
    let mut command = Command::new(program);
    command.args(["null", "--listen", &job.listen.to_string(), "--backend", &job.upstream.to_string()]);
    Ok(Start::Run(command))
}

/// The first version number that a program prints.
fn version_of(program: &Path, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(version_in(&String::from_utf8_lossy(&said)).unwrap_or_else(|| "unknown".into()))
}

pub(crate) fn version_in(text: &str) -> Option<String> {
    let numbers = text.split(|symbol: char| !symbol.is_ascii_digit() && symbol != '.');
    numbers.map(|number| number.trim_matches('.')).find(|number| number.contains('.')).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let cases = [
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", Some("2.6.12")),
            ("nginx version: nginx/1.22.1", Some("1.22.1")),
            ("envoy  version: 64b2f1f0a9b1/1.40.0/Clean/RELEASE/BoringSSL", Some("1.40.0")),
            ("ripstop 0.1.0", Some("0.1.0")),
            ("no version", None),
        ];
        for (text, expected) in cases {
            assert_eq!(version_in(text).as_deref(), expected, "{text}");
        }
    }
}
