//! `ripstop demo`: a small shop as a whole mesh on this machine.

mod check;
mod load;
mod mesh;
pub(crate) mod shop;
mod table;

use crate::output::Output;
use crate::up::files::MeshFiles;
use crate::up::run::Mesh;
use clap::Args;
use load::Load;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Requests per second that the demo sends to the shop's front door.
const RATE: u32 = 40;
const REFRESH: Duration = Duration::from_secs(1);

/// Show a whole mesh at work on this machine: control plane, five services with a sidecar each, steady load.
///
/// The live table shows every edge of the mesh. Ctrl-C ends everything and leaves nothing behind.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ripstop demo\n  ripstop demo --check    plays a scripted scenario and reports what passed"
)]
pub(crate) struct Demo {
    /// Play the scripted scenario and exit; the exit code says whether all passed
    #[arg(long)]
    check: bool,
    /// End after this time, e.g. 30s (default: at Ctrl-C)
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Log level of control plane and sidecars
    #[arg(short = 'l', long, default_value = "error")]
    log_level: String,
}

pub(crate) fn run(command: Demo) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let duration = command.duration.as_deref().map(kit::duration::parse).transpose().map_err(anyhow::Error::msg)?;
        let mut stop = runtime::signals::Stop::listen()?;
        let config = mesh::ShopConfig::create()?;
        let mut mesh = Mesh::prepare(None, &command.log_level)?;
        let outcome = tokio::select! {
            outcome = play(&command, &config, &mut mesh, duration) => outcome,
            () = stop.requested() => Ok(if command.check { ExitCode::FAILURE } else { ExitCode::SUCCESS }),
        };
        mesh.stop().await;
        config.remove();
        outcome
    })
}

async fn play(
    command: &Demo,
    config: &mesh::ShopConfig,
    mesh: &mut Mesh,
    duration: Option<Duration>,
) -> anyhow::Result<ExitCode> {
    if command.output == Output::Text {
        println!("starting the control plane, {} workloads and their sidecars ...", mesh::WORKLOADS.len());
    }
    mesh.start(&MeshFiles::read(config.dir())?).await?;
    let door = mesh::front_door(mesh)?;
    let load = Load::start(door, RATE);
    if command.check {
        return check::run(mesh, config, &load, command.output).await;
    }
    show(mesh, config, &load, command.output, duration).await?;
    Ok(ExitCode::SUCCESS)
}

/// The live table, redrawn in place on a terminal.
async fn show(
    mesh: &Mesh,
    config: &mesh::ShopConfig,
    load: &Load,
    output: Output,
    duration: Option<Duration>,
) -> anyhow::Result<()> {
    let end = duration.map(|duration| tokio::time::Instant::now() + duration);
    let terminal = std::io::stdout().is_terminal();
    if output == Output::Text {
        print!("{}", mesh::hints(mesh, config));
    }
    let mut before = table::Reading::take(mesh).await;
    let mut drawn = 0;
    loop {
        tokio::time::sleep(REFRESH).await;
        let now = table::Reading::take(mesh).await;
        let rows = table::rows(&before, &now);
        let mut out = std::io::stdout().lock();
        match output {
            Output::Json => writeln!(out, "{}", table::json(&rows, load.totals()))?,
            Output::Text => {
                let text = table::text(&rows, load.totals());
                if terminal && drawn > 0 {
                    write!(out, "\x1b[{drawn}A\x1b[J")?;
                }
                drawn = text.lines().count();
                out.write_all(text.as_bytes())?;
            }
        }
        out.flush()?;
        before = now;
        if end.is_some_and(|end| tokio::time::Instant::now() >= end) {
            return Ok(());
        }
    }
}
