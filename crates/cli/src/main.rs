//! The `ripstop` binary: one file per command.

mod control;
mod demo;
mod memory;
mod output;
mod proxy;
mod sim;
mod up;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A service mesh in one binary: data plane, control plane, tools.
#[derive(Parser)]
#[command(name = "ripstop", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Demo),
    Up(up::Up),
    Proxy(Box<proxy::Proxy>),
    Control(control::Control),
    Token(control::Token),
    Sim(sim::Sim),
    #[command(hide = true)]
    Shop(demo::shop::Shop),
}

/// Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(command) => demo::run(command),
        Command::Up(command) => up::run(command),
        Command::Proxy(command) => proxy::run(*command),
        Command::Control(command) => control::run(command),
        Command::Token(command) => control::token(command),
        Command::Sim(command) => sim::run(command),
        Command::Shop(command) => demo::shop::run(command),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ripstop: {error:#}");
            ExitCode::FAILURE
        }
    }
}
