//! `ripstop up DIR`: runs the mesh that the files in DIR describe, on this machine.

pub(crate) mod admin;
pub(crate) mod files;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod supervise;

use crate::output::Output;
use clap::Args;
use files::MeshFiles;
use run::Mesh;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often DIR is looked at for changes.
const LOOK: Duration = Duration::from_millis(500);

/// Run a whole mesh on this machine: control plane, a sidecar per workload, and the workloads themselves.
///
/// DIR holds Kubernetes Services, Istio WorkloadEntries and ServiceEntries, and Gateway API HTTPRoutes. A
/// WorkloadEntry with the annotation `ripstop.dev/command` names a program to run; it finds other services through
/// NAME_SERVICE_HOST and NAME_SERVICE_PORT, or through HTTP_PROXY. No root is needed. Changes in DIR take effect at
/// once.
#[derive(Args)]
#[command(after_help = "Example:\n  ripstop up examples/hello")]
pub(crate) struct Up {
    /// The mesh's files (YAML or JSON)
    dir: PathBuf,
    /// Keep certificates and the last good configuration here (default: a temporary directory)
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print the addresses as one JSON object when everything is up
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Log level of control plane and sidecars
    #[arg(short = 'l', long, default_value = "warning")]
    log_level: String,
}

pub(crate) fn run(command: Up) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(up(command))
}

async fn up(command: Up) -> anyhow::Result<ExitCode> {
    let mut stop = runtime::signals::Stop::listen()?;
    let mut files = MeshFiles::read(&command.dir)?;
    let mut mesh = Mesh::prepare(command.state.as_deref(), &command.log_level)?;
    let start = mesh.start(&files);
    tokio::select! {
        started = start => started?,
        () = stop.requested() => {
            mesh.stop().await;
            return Ok(ExitCode::FAILURE);
        }
    }
    match command.output {
        Output::Text => print!("{}", describe(&mesh)),
        Output::Json => println!("{}", mesh.to_json()),
    }
    let mut failed = false;
    loop {
        tokio::select! {
            () = stop.requested() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        failed |= mesh.reap();
        if mesh.all_workloads_ended() {
            println!("every workload has ended");
            break;
        }
        match files.changed() {
            Ok(true) => match mesh.update(&files).await {
                Ok(()) => println!("configuration taken over from {}", command.dir.display()),
                Err(error) => eprintln!("ripstop up: {error:#}; the last good configuration stays in force"),
            },
            Ok(false) => {}
            Err(error) => eprintln!("ripstop up: {error:#}; the last good configuration stays in force"),
        }
    }
    mesh.stop().await;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The addresses a person needs.
fn describe(mesh: &Mesh) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "The mesh is up. Control plane status: http://{}/api/v1/proxies", mesh.control_admin());
    for (name, placement) in mesh.placements() {
        let _ = writeln!(out, "\n{name}");
        let _ = writeln!(out, "  HTTP_PROXY=http://127.0.0.1:{}   (any service by name)", placement.proxy);
        for (service, port) in &placement.outbound {
            let _ = writeln!(out, "  {service:<20} http://127.0.0.1:{port}");
        }
        let _ = writeln!(out, "  sidecar's admin      http://127.0.0.1:{}/clusters", placement.admin);
    }
    let _ = writeln!(out, "\nCtrl-C ends everything.");
    out
}
