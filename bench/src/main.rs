//! `cargo xtask bench`: measures, and writes the report.

use bench::cases::CASES;
use bench::peers::{NAMES, Peer};
use bench::{measure, run};
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure Ripstop beside its peers: the same job, interleaved rounds, CPU time per request.
#[derive(Parser)]
#[command(name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(Subcommand)]
enum Command {
    /// The null proxy
    #[command(hide = true)]
    Null {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        backend: SocketAddr,
    },
}

#[derive(Args)]
struct Measure {
    /// Measure only this case; can be repeated
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Measure only this peer (and Ripstop); can be repeated
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each peer in each round
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// One short round: shows that everything works, measures little
    #[arg(long)]
    quick: bool,
    /// Where programs are, as NAME=PATH; can be repeated
    #[arg(long = "program", value_name = "NAME=PATH", value_parser = program)]
    programs: Vec<(String, PathBuf)>,
}

fn program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("not NAME=PATH")?;
    Ok((name.into(), path.into()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Null { listen, backend }) => bench::null::run(listen, backend).map_err(Into::into),
        None => measure(&cli.measure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Measure) -> anyhow::Result<()> {
    measure::pin(run::LOAD_CPU)?;
    let mut peers = Vec::new();
    for name in NAMES {
        let own = (name == "null").then(std::env::current_exe).transpose()?;
        let given = options.programs.iter().find(|(given, _)| given == name).map(|(_, path)| path.clone());
        let Some(path) = given.or(own) else { continue };
        if name == "ripstop" || options.peers.is_empty() || options.peers.iter().any(|peer| peer == name) {
            peers.push(Peer::new(name, path)?);
        }
    }
    let settings = run::Settings {
        rounds: if options.quick { 1 } else { options.rounds },
        warm_up: Duration::from_secs_f64(if options.quick { 0.2 } else { 0.5 }),
        duration: Duration::from_secs_f64(if options.quick { 0.5 } else { options.seconds }),
        folder: std::env::temp_dir().join(format!("ripstop-bench-{}", std::process::id())),
    };
    for case in CASES.iter().filter(|case| options.cases.is_empty() || options.cases.iter().any(|n| n == case.name)) {
        eprintln!("{}: {}", case.name, case.title);
        run::case(case, &peers, &settings, |peer, round, it| {
            eprintln!(
                "  {round} {peer:<8} {:8.2} us  {:8.0}/s  p50 {:7.0} p99 {:7.0} p99.9 {:7.0}  {:5.1} MB  others {:.2}",
                it.cpu_us,
                it.requests_per_second,
                it.p50,
                it.p99,
                it.p999,
                it.resident as f64 / 1e6,
                it.foreign
            );
        })?;
    }
    Ok(())
}
