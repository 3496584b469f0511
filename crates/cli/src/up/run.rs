//! A running mesh: control plane, sidecars and workloads as child processes.

use super::admin;
use super::files::{MeshFiles, Workload};
use super::plan::{self, Placement, Ports};
use super::supervise::{Process, Spec};
use anyhow::Context;
use identity::SpiffeId;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
const READY: Duration = Duration::from_secs(30);
const TOKEN_TTL: Duration = Duration::from_secs(3600);

pub(crate) struct Mesh {
    root: PathBuf,
    temporary: bool,
    log_level: String,
    program: PathBuf,
    control_listen: SocketAddr,
    control_admin: SocketAddr,
    control: Option<Process>,
    sidecars: BTreeMap<String, Process>,
    workloads: BTreeMap<String, Process>,
    placements: BTreeMap<String, Placement>,
    files: Option<MeshFiles>,
}

impl Mesh {
    /// Chooses places; starts nothing yet.
    pub(crate) fn prepare(state: Option<&Path>, log_level: &str) -> anyhow::Result<Mesh> {
        let root = match state {
            Some(state) => std::path::absolute(state)?,
            None => {
                let name = format!("ripstop-{}-{:08x}", std::process::id(), fastrand::u32(..));
                std::env::temp_dir().join(name)
            }
        };
        create_private(&root)?;
        let mut ports = Ports;
        let mut loopback = || anyhow::Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.take()?)));
        Ok(Mesh {
            temporary: state.is_none(),
            root,
            log_level: log_level.to_string(),
            program: std::env::current_exe()?,
            control_listen: loopback()?,
            control_admin: loopback()?,
            control: None,
            sidecars: BTreeMap::new(),
            workloads: BTreeMap::new(),
            placements: BTreeMap::new(),
            files: None,
        })
    }

    pub(crate) fn control_admin(&self) -> SocketAddr {
        self.control_admin
    }

    pub(crate) fn placements(&self) -> &BTreeMap<String, Placement> {
        &self.placements
    }

    pub(crate) fn files(&self) -> Option<&MeshFiles> {
        self.files.as_ref()
    }

    /// Starts everything; returns when every sidecar is ready.
    pub(crate) async fn start(&mut self, files: &MeshFiles) -> anyhow::Result<()> {
        self.write_config(files)?;
        self.start_control().await?;
        for workload in &files.workloads {
            self.start_sidecar(workload)?;
        }
        for workload in &files.workloads {
            self.sidecar_ready(&workload.name).await?;
        }
        for workload in &files.workloads {
            self.start_workload(workload)?;
        }
        Ok(())
    }

    /// Takes over changed files: the configuration, and workloads that came or went.
    pub(crate) async fn update(&mut self, files: &MeshFiles) -> anyhow::Result<()> {
        let before = self.files.as_ref().map(|old| old.workloads.clone()).unwrap_or_default();
        self.write_config(files)?;
        for old in &before {
            if !files.workloads.contains(old) {
                if let Some(mut process) = self.workloads.remove(&old.name) {
                    process.stop().await;
                }
                if let Some(mut process) = self.sidecars.remove(&old.name) {
                    process.stop().await;
                }
            }
        }
        for workload in files.workloads.iter().filter(|new| !before.contains(new)) {
            self.start_sidecar(workload)?;
            self.sidecar_ready(&workload.name).await?;
            self.start_workload(workload)?;
        }
        Ok(())
    }

    fn write_config(&mut self, files: &MeshFiles) -> anyhow::Result<()> {
        self.placements = plan::place(files, &self.placements)?;
        let dir = self.root.join("mesh");
        create_private(&dir)?;
        let inbound = |workload: &str, port: &str| self.placements.get(workload)?.inbound.get(port).copied();
        let mut texts = files.rewritten(inbound);
        texts.insert("ripstop-sidecars.json".into(), plan::sidecars(files, &self.placements));
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if !texts.contains_key(&*entry.file_name().to_string_lossy()) {
                std::fs::remove_file(entry.path())?;
            }
        }
        for (name, text) in texts {
            let path = dir.join(&name);
            if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
                continue;
            }
            let new = self.root.join(".new");
            std::fs::write(&new, text)?;
            std::fs::rename(&new, &path)?;
        }
        self.files = Some(files.clone());
        Ok(())
    }

    pub(crate) async fn start_control(&mut self) -> anyhow::Result<()> {
        let state = self.root.join("control");
        create_private(&state)?;
        let bundle = control::trust_bundle(&state, TRUST_DOMAIN)?;
        std::fs::write(self.root.join("ca.pem"), bundle)?;
        let arguments = [
            "control".to_string(),
            "--config".into(),
            self.root.join("mesh").display().to_string(),
            "--state".into(),
            state.display().to_string(),
            "--listen".into(),
            self.control_listen.to_string(),
            "--admin".into(),
            self.control_admin.to_string(),
            "-l".into(),
            self.log_level.clone(),
        ];
        self.control = Some(Process::spawn(Spec {
            name: "control",
            program: &self.program,
            arguments: arguments.into(),
            environment: Vec::new(),
            directory: None,
            quiet: true,
        })?);
        admin::ready(self.control_admin.port(), "the control plane", READY).await
    }

    /// SIGKILL.
    pub(crate) async fn kill_control(&mut self) {
        if let Some(mut control) = self.control.take() {
            control.kill().await;
        }
    }

    fn start_sidecar(&mut self, workload: &Workload) -> anyhow::Result<()> {
        let placement = self.placements.get(&workload.name).context("a workload without a place")?;
        let dir = self.root.join("sidecars").join(&workload.name);
        create_private(&dir)?;
        let id = SpiffeId::workload(TRUST_DOMAIN, &workload.namespace, &workload.service_account)?;
        let token = control::token(&self.root.join("control"), &id, TOKEN_TTL)?;
        ::proxy::agent::write_private(&dir.join("token"), token.as_bytes())?;
        let bootstrap = dir.join("bootstrap.yaml");
        std::fs::write(&bootstrap, plan::bootstrap(workload, placement, self.control_listen, TRUST_DOMAIN))?;
        let path = |path: PathBuf| path.display().to_string();
        let arguments = [
            "proxy".to_string(),
            "-c".into(),
            path(bootstrap),
            "--concurrency".into(),
            "1".into(),
            "-l".into(),
            self.log_level.clone(),
            "--state".into(),
            path(dir.join("state")),
            "--identity".into(),
            id.to_string(),
            "--identity-server".into(),
            self.control_listen.to_string(),
            "--identity-ca".into(),
            path(self.root.join("ca.pem")),
            "--identity-token".into(),
            path(dir.join("token")),
        ];
        let process = Process::spawn(Spec {
            name: &format!("{}/sidecar", workload.name),
            program: &self.program,
            arguments: arguments.into(),
            environment: Vec::new(),
            directory: None,
            quiet: true,
        })?;
        self.sidecars.insert(workload.name.clone(), process);
        Ok(())
    }

    async fn sidecar_ready(&self, workload: &str) -> anyhow::Result<()> {
        let placement = self.placements.get(workload).context("a workload without a place")?;
        admin::ready(placement.admin, &format!("the sidecar of {workload}"), READY).await
    }

    fn start_workload(&mut self, workload: &Workload) -> anyhow::Result<()> {
        let Some(command) = &workload.command else { return Ok(()) };
        let placement = self.placements.get(&workload.name).context("a workload without a place")?;
        let files = self.files.as_ref().context("no files")?;
        let mut environment = plan::environment(files, placement);
        environment.push(("RIPSTOP".to_string(), self.program.display().to_string()));
        for (name, port) in &workload.ports {
            environment.push((format!("PORT_{}", name.to_uppercase().replace('-', "_")), port.to_string()));
        }
        if let Some(port) = workload.ports.values().next() {
            environment.push(("PORT".to_string(), port.to_string()));
        }
        let process = Process::spawn(Spec {
            name: &workload.name,
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), format!("exec {command}")],
            environment,
            directory: Some(&workload.directory),
            quiet: false,
        })?;
        self.workloads.insert(workload.name.clone(), process);
        Ok(())
    }

    /// Kills a workload and its sidecar at once, as a crashing machine would.
    pub(crate) async fn kill_workload(&mut self, name: &str) {
        if let Some(mut process) = self.workloads.remove(name) {
            process.kill().await;
        }
        if let Some(mut process) = self.sidecars.remove(name) {
            process.kill().await;
        }
    }

    /// Reports workloads that ended and starts sidecars that died anew; true when a workload failed.
    pub(crate) fn reap(&mut self) -> bool {
        let mut failed = false;
        for process in self.workloads.values_mut() {
            failed |= process.ended_now() == Some(false);
        }
        let dead: Vec<String> =
            self.sidecars.iter_mut().filter_map(|(name, process)| process.ended_now().map(|_| name.clone())).collect();
        let workloads = self.files.as_ref().map(|files| files.workloads.clone()).unwrap_or_default();
        for workload in workloads.iter().filter(|workload| dead.contains(&workload.name)) {
            if let Err(error) = self.start_sidecar(workload) {
                eprintln!("ripstop up: {error:#}");
            }
        }
        failed
    }

    /// There were workloads with commands and none of them runs any more.
    pub(crate) fn all_workloads_ended(&self) -> bool {
        !self.workloads.is_empty() && self.workloads.values().all(Process::has_ended)
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let workloads = self.placements.iter().map(|(name, placement)| {
            let value = serde_json::json!({
                "http_proxy": format!("127.0.0.1:{}", placement.proxy),
                "services": placement.outbound,
                "inbound": placement.inbound,
                "admin": format!("127.0.0.1:{}", placement.admin),
                "sidecar_pid": self.sidecars.get(name).and_then(Process::id),
                "workload_pid": self.workloads.get(name).and_then(Process::id),
            });
            (name.clone(), value)
        });
        serde_json::json!({
            "control": {"listen": self.control_listen, "admin": self.control_admin},
            "workloads": workloads.collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Ends workloads, then sidecars (which finish what is under way), then the control plane.
    pub(crate) async fn stop(&mut self) {
        stop_all(std::mem::take(&mut self.workloads)).await;
        stop_all(std::mem::take(&mut self.sidecars)).await;
        if let Some(mut control) = self.control.take() {
            control.stop().await;
        }
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}

async fn stop_all(processes: BTreeMap<String, Process>) {
    let mut tasks = tokio::task::JoinSet::new();
    for (_, mut process) in processes {
        tasks.spawn(async move { process.stop().await });
    }
    tasks.join_all().await;
}

fn create_private(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("{} cannot be created", dir.display()))
}
