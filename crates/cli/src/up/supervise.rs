//! Child processes that cannot outlive us: their output is prefixed, their end is reported.

use anyhow::Context;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Time to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(8);

pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    ended: bool,
}

/// What to run.
pub(crate) struct Spec<'a> {
    /// Prefix of its output lines.
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: Option<&'a Path>,
    /// Drop its standard output (its standard error is always shown).
    pub(crate) quiet: bool,
}

impl Process {
    pub(crate) fn spawn(spec: Spec<'_>) -> anyhow::Result<Process> {
        let mut command = Command::new(spec.program);
        command.args(&spec.arguments).envs(spec.environment).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(if spec.quiet { Stdio::null() } else { Stdio::piped() }).stderr(Stdio::piped());
        // Ctrl-C in the terminal is for us; we end the children in order.
        command.process_group(0);
        if let Some(directory) = spec.directory {
            command.current_dir(directory);
        }
        // SAFETY: prctl is async-signal-safe and touches only the new process.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child =
            command.spawn().with_context(|| format!("{}: cannot run {}", spec.name, spec.program.display()))?;
        if let Some(out) = child.stdout.take() {
            tokio::spawn(forward(spec.name.to_string(), out, false));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(forward(spec.name.to_string(), err, true));
        }
        Ok(Process { name: spec.name.to_string(), child, ended: false })
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its exit, once: `Some(success)`.
    pub(crate) fn ended_now(&mut self) -> Option<bool> {
        if self.ended {
            return None;
        }
        let status = self.child.try_wait().ok().flatten()?;
        self.ended = true;
        eprintln!("{}: ended, {status}", self.name);
        Some(status.success())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// SIGKILL, with everything it started.
    pub(crate) async fn kill(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait().await;
        self.ended = true;
    }

    /// SIGTERM, and SIGKILL when that does not help.
    pub(crate) async fn stop(&mut self) {
        if self.ended {
            return;
        }
        self.signal(nix::sys::signal::Signal::SIGTERM);
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
        self.ended = true;
    }

    /// To its process group, so that shells take their children along.
    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended just now.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), signal);
        }
    }
}

async fn forward(name: String, stream: impl AsyncRead + Unpin, error: bool) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if error {
            eprintln!("{name} | {line}");
        } else {
            println!("{name} | {line}");
        }
    }
}
