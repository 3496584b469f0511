//! `ripstop proxy`: the data plane, with Envoy's configuration and Envoy's flags.

use crate::output::Output;
use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use wire::compile::bootstrap::{Bootstrap, Overrides, load_and_check};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Mode {
    #[default]
    Serve,
    /// Check the configuration and exit
    Validate,
    /// The same as validate
    InitOnly,
}

/// Run the proxy. Configuration, flags and admin endpoints are Envoy's.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ripstop proxy -c examples/bootstrap/static.yaml\n  ripstop proxy -c envoy.yaml --mode validate\n  ripstop proxy -c envoy.yaml --mode validate -o json"
)]
pub(crate) struct Proxy {
    /// Envoy v3 bootstrap, YAML or JSON
    #[arg(short, long, value_name = "FILE", required_unless_present = "config_yaml")]
    config_path: Option<PathBuf>,
    /// Bootstrap YAML on the command line; merged over the file
    #[arg(long, value_name = "YAML")]
    config_yaml: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// How the result of `--mode validate` and configuration errors are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Worker threads (default: one per CPU)
    #[arg(long, value_name = "N")]
    concurrency: Option<usize>,
    /// Node id, over the bootstrap's
    #[arg(long, value_name = "ID")]
    service_node: Option<String>,
    /// Node cluster, over the bootstrap's
    #[arg(long, value_name = "NAME")]
    service_cluster: Option<String>,
    /// Accepted for Envoy's sake, without effect
    #[arg(long, value_name = "NAME", hide = true)]
    service_zone: Option<String>,
    /// trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, default_value = "info")]
    log_level: String,
    /// Seconds that connections get to finish after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    drain_time_s: u64,
    /// Accepted for Envoy's sake: Ripstop has no hot restart by shared memory
    #[arg(long, value_name = "N", default_value_t = 0)]
    base_id: u32,
    /// Accepted for Envoy's sake, without effect
    #[arg(long, hide = true)]
    disable_hot_restart: bool,
    /// Keep certificate and last good configuration here, for a start while the control plane is away
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// SPIFFE ID to ask a certificate for; its key never leaves this process
    #[arg(long, value_name = "SPIFFE_ID", requires_all = ["identity_server", "identity_ca"])]
    identity: Option<String>,
    /// The control plane's TLS address
    #[arg(long, value_name = "ADDR")]
    identity_server: Option<SocketAddr>,
    /// The mesh's trust bundle, PEM
    #[arg(long, value_name = "FILE")]
    identity_ca: Option<PathBuf>,
    /// Join token for the first certificate (see `ripstop token`)
    #[arg(long, value_name = "FILE")]
    identity_token: Option<PathBuf>,
}

pub(crate) fn run(command: Proxy) -> anyhow::Result<ExitCode> {
    runtime::log::start(runtime::log::level(&command.log_level)?, Default::default());
    let bootstrap = match read(&command)? {
        Ok(bootstrap) => bootstrap,
        Err(error) => {
            refuse(&error, command.output);
            return Ok(ExitCode::from(2));
        }
    };
    if command.mode != Mode::Serve {
        accept(&bootstrap, command.output);
        return Ok(ExitCode::SUCCESS);
    }
    let options = ::proxy::process::Options {
        concurrency: command.concurrency.unwrap_or_else(|| ::proxy::worker::usable_cpus().len()).max(1),
        drain: Duration::from_secs(command.drain_time_s),
        agent: agent(&command)?,
        state: command.state.clone(),
        command_line: command_line(&command),
        shrink: crate::memory::shrink,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = runtime::signals::Stop::listen()?;
        ::proxy::process::run(bootstrap, options, async move { stop.requested().await }).await?;
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

/// A list of problems is the result when a program asked, and an error message when a person did.
fn refuse(error: &wire::FileError, output: Output) {
    if output == Output::Text {
        eprintln!("{error}");
        return;
    }
    let problems = error.problems.iter().map(|problem| {
        let (line, column) = problem.position.map(|at| (at.line, at.column)).unzip();
        json!({"file": error.file, "line": line, "column": column, "path": problem.path, "message": problem.message})
    });
    println!("{}", json!({"valid": false, "problems": problems.collect::<Vec<_>>()}));
}

fn accept(bootstrap: &Bootstrap, output: Output) {
    let without_effect: Vec<String> = bootstrap.without_effect.iter().map(ToString::to_string).collect();
    if output == Output::Json {
        println!("{}", json!({"valid": true, "without_effect": without_effect}));
        return;
    }
    for note in without_effect {
        println!("note: accepted without effect: {note}");
    }
    println!("configuration OK");
}

/// The checked bootstrap, or what is wrong with it.
fn read(command: &Proxy) -> anyhow::Result<Result<Bootstrap, wire::FileError>> {
    let overrides = Overrides {
        yaml: command.config_yaml.clone(),
        node_id: command.service_node.clone(),
        node_cluster: command.service_cluster.clone(),
    };
    let check = ::proxy::tls::check::check;
    let Some(path) = &command.config_path else { return Ok(load_and_check(None, &overrides, check)) };
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(load_and_check(Some((&path.display().to_string(), &text)), &overrides, check))
}

fn agent(command: &Proxy) -> anyhow::Result<Option<::proxy::agent::Settings>> {
    let (Some(id), Some(control), Some(ca_file)) =
        (&command.identity, command.identity_server, command.identity_ca.clone())
    else {
        return Ok(None);
    };
    Ok(Some(::proxy::agent::Settings {
        control,
        identity: identity::SpiffeId::parse(id).with_context(|| format!("--identity {id}"))?,
        ca_file,
        token_file: command.identity_token.clone(),
        state: command.state.clone(),
    }))
}

/// For `/server_info`.
fn command_line(command: &Proxy) -> Vec<(String, String)> {
    let text = |value: Option<String>| value.unwrap_or_default();
    vec![
        ("config_path".into(), text(command.config_path.as_ref().map(|path| path.display().to_string()))),
        ("service_node".into(), text(command.service_node.clone())),
        ("service_cluster".into(), text(command.service_cluster.clone())),
        ("log_level".into(), command.log_level.clone()),
        ("drain_time".into(), format!("{}s", command.drain_time_s)),
        ("base_id".into(), command.base_id.to_string()),
    ]
}
