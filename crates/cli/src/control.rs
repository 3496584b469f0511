//! `ripstop control`: the control plane. `ripstop token`: lets a workload join.

use crate::output::Output;
use anyhow::Context;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Run the control plane: registry, certificate authority, xDS.
///
/// It reads Kubernetes, Gateway API and Istio objects from a directory and follows changes.
#[derive(Args)]
#[command(
    after_help = "Example:\n  ripstop control --config mesh/ --state /var/lib/ripstop --listen 127.0.0.1:15010 --admin 127.0.0.1:15011"
)]
pub(crate) struct Control {
    /// Directory with the mesh's objects (YAML or JSON)
    #[arg(long, value_name = "DIR")]
    config: PathBuf,
    /// Directory for the CA, revisions and the last good configuration
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// xDS and certificates over mTLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15010")]
    listen: SocketAddr,
    /// xDS without TLS, for Envoys and tools on this machine: a loopback address or unix:PATH
    #[arg(long, value_name = "ADDR")]
    listen_plaintext: Option<String>,
    /// Readiness, status and metrics over HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15011")]
    admin: SocketAddr,
    /// The mesh's SPIFFE trust domain
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// trace, debug, info, warning, error, critical or off
    #[arg(short = 'l', long, default_value = "info")]
    log_level: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: Control) -> anyhow::Result<ExitCode> {
    runtime::log::start(runtime::log::level(&command.log_level)?, Default::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut stop = runtime::signals::Stop::listen()?;
        let handle = control::Control::start(control::Options {
            config: command.config,
            state: command.state,
            listen: Some(command.listen),
            listen_plaintext: command.listen_plaintext.as_deref().map(str::parse).transpose()?,
            admin: Some(command.admin),
            trust_domain: command.trust_domain,
        })
        .await?;
        let address =
            |address: Option<SocketAddr>| address.map_or_else(|| "-".to_string(), |address| address.to_string());
        let (listen, admin) = (address(handle.listen()), address(handle.admin()));
        match command.output {
            Output::Text => println!("control plane: xDS on {listen}, admin on http://{admin}"),
            Output::Json => println!("{}", serde_json::json!({"listen": listen, "admin": admin})),
        }
        stop.requested().await;
        handle.shutdown().await;
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

/// Make a join token with which one workload gets its first certificate.
#[derive(Args)]
#[command(
    after_help = "Example:\n  ripstop token --state /var/lib/ripstop --namespace default --service-account web > web.token"
)]
pub(crate) struct Token {
    /// The control plane's state directory
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    #[arg(long, default_value = "default")]
    namespace: String,
    #[arg(long)]
    service_account: String,
    /// How long the token can be used, e.g. 10m or 24h
    #[arg(long, default_value = "1h")]
    ttl: String,
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn token(command: Token) -> anyhow::Result<ExitCode> {
    let ttl: Duration = kit::duration::parse(&command.ttl).map_err(anyhow::Error::msg)?;
    let id = identity::SpiffeId::workload(&command.trust_domain, &command.namespace, &command.service_account)?;
    let token = control::token(&command.state, &id, ttl)
        .with_context(|| format!("no token from {}; is it the control plane's --state?", command.state.display()))?;
    match command.output {
        Output::Text => println!("{token}"),
        Output::Json => println!("{}", serde_json::json!({"token": token, "identity": id.to_string()})),
    }
    Ok(ExitCode::SUCCESS)
}
