//! `cargo xtask bench`: measures, and writes the report.

use anyhow::Context;
use bench::cases::{CASES, Case, Metric};
use bench::measure;
use bench::peers::{NAMES, Peer};
use bench::report::{self, Results};
use bench::run::{self, Column, Round, Settings};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str =
    "`cargo xtask bench` builds everything first; with --release as its first argument it takes the release profile
instead of dist. Two CPUs are needed: 0 for the proxy, 1 for load and backend.

Examples:
  cargo xtask bench --list
  cargo xtask bench --quick
  cargo xtask bench --case h1-64 --case mesh-h2 --rounds 9
  cargo xtask bench --release --case h1-64 --peer haproxy -o json";

/// Measure Ripstop beside its peers: the same job, interleaved rounds, CPU time per request.
#[derive(Parser)]
#[command(name = "cargo xtask bench", args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
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

/// Measure Ripstop beside its peers.
#[derive(Args)]
struct Measure {
    /// Measure only this case; can be repeated
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Measure only Ripstop and this peer; can be repeated
    #[arg(long = "peer", value_name = "NAME", value_parser = NAMES)]
    peers: Vec<String>,
    /// Show the cases
    #[arg(long)]
    list: bool,
    /// Interleaved rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of each peer in each round; cases at a fixed rate take three times as long
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measure every HTTP case without and with a JSON access log; its results are kept as NAME+log
    #[arg(long)]
    access_log: bool,
    /// One short round, written to the target folder: shows that everything works, measures little
    #[arg(long)]
    quick: bool,
    /// Where results are written, and added to those of other cases
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What is printed to standard output; progress goes to standard error
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Ripstop's Cargo profile, for the report (`cargo xtask bench` fills it in)
    #[arg(long, hide = true, default_value = "unknown")]
    profile: String,
    /// Where a program is, as NAME=PATH (`cargo xtask bench` fills it in); can be repeated
    #[arg(long = "program", value_name = "NAME=PATH", value_parser = program, hide = true)]
    programs: Vec<(String, PathBuf)>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

fn program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("not NAME=PATH")?;
    Ok((name.into(), path.into()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Null { listen, backend }) => bench::null::run(listen, backend).map_err(Into::into),
        None if cli.measure.list => list(cli.measure.output),
        None => cli.measure.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(output: Output) -> anyhow::Result<()> {
    match output {
        Output::Text => CASES.iter().for_each(|case| println!("{:<14} {}", case.name, case.title)),
        Output::Json => {
            let cases = CASES.iter().map(|case| json!({ "name": case.name, "title": case.title }));
            println!("{}", json!({ "cases": cases.collect::<Vec<_>>() }));
        }
    }
    Ok(())
}

impl Measure {
    fn run(&self) -> anyhow::Result<()> {
        let cases = self.chosen()?;
        let peers = self.programs()?;
        measure::pin(run::LOAD_CPU)?;
        let folder = std::env::temp_dir().join(format!("ripstop-bench-{}", std::process::id()));
        let out = self.out.clone().unwrap_or_else(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            if self.quick { root.with_file_name("target").join("bench") } else { root.join("results") }
        });
        let mut all = Results::read(&out)?;
        let order: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        let mut names = Vec::new();
        for case in cases {
            let settings = self.settings(case, &folder);
            eprintln!("{}: {}", case.name, case.title);
            let columns = run::case(case, &peers, &settings, progress).with_context(|| {
                format!("{}: configurations and logs are in {}", case.name, folder.join(case.name).display())
            })?;
            let result = self.result(case, &settings, columns);
            names.push(result.name.clone());
            all.add(result, &order);
            all.write(&out)?;
        }
        std::fs::remove_dir_all(&folder)?;
        all.cases.retain(|result| names.contains(&result.name));
        match self.output {
            Output::Text => print!("{}", all.tables()),
            Output::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        }
        Ok(())
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static Case>> {
        let known = |name: &&String| CASES.iter().all(|case| case.name != **name);
        if let Some(name) = self.cases.iter().find(known) {
            anyhow::bail!("no case is called {name}; --list shows all");
        }
        let chosen = |case: &&Case| self.cases.is_empty() || self.cases.iter().any(|name| name == case.name);
        Ok(CASES.iter().filter(chosen).collect())
    }

    /// The peers that are there and asked for.
    fn programs(&self) -> anyhow::Result<Vec<Peer>> {
        let mut peers = Vec::new();
        for name in NAMES {
            let own = (name == "null").then(std::env::current_exe).transpose()?;
            let given = self.programs.iter().find(|(given, _)| given == name).map(|(_, path)| path.clone());
            let asked = name == "ripstop" || self.peers.is_empty() || self.peers.iter().any(|peer| peer == name);
            match given.or(own) {
                Some(path) if asked => peers.push(Peer::new(name, path)?),
                None if asked => eprintln!("{name} is missing and left out"),
                _ => {}
            }
        }
        Ok(peers)
    }

    fn settings(&self, case: &Case, folder: &Path) -> Settings {
        let longer = if case.metrics().contains(&Metric::P999) { 3.0 } else { 1.0 };
        Settings {
            rounds: if self.quick { 1 } else { self.rounds },
            warm_up: Duration::from_secs_f64(if self.quick { 0.2 } else { 0.5 }),
            duration: Duration::from_secs_f64(if self.quick { 0.5 } else { self.seconds * longer }),
            folder: folder.to_path_buf(),
            log: case.logs() || (self.access_log && case.can_log()),
        }
    }

    fn result(&self, case: &Case, settings: &Settings, columns: Vec<Column>) -> report::Result {
        report::Result {
            name: if settings.log && !case.logs() {
                format!("{}{}", case.name, run::WITH_LOG)
            } else {
                case.name.into()
            },
            title: case.title.into(),
            date: report::now(),
            profile: self.profile.clone(),
            seconds: settings.duration.as_secs_f64(),
            metrics: case.metrics().to_vec(),
            columns,
        }
    }
}

fn progress(peer: &str, number: usize, round: &Round) {
    let figures = round.figures.iter().map(|(metric, value)| format!("{} {value:.1}", metric.title()));
    let figures = figures.collect::<Vec<_>>().join("; ");
    eprintln!("  round {} {peer:<8} {figures}; others used {:.0} % of its CPU", number + 1, round.foreign * 100.0);
}
