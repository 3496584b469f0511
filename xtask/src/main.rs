//! Project chores: `cargo xtask test`, `peers`, `tidy`, `bench`.

mod bench;
mod peers;
mod suite;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "cargo xtask COMMAND

  test    build and pass everything: formatting, lints, tidy, unit tests, suites with real peers, the demo
            --list         show the steps
            --only STEP    run one step (repeatable)
  peers   install the programs the suites test against into target/peers (RIPSTOP_PEERS overrides)
            -o json        print what is there as JSON
  tidy    check the house rules: module order, dependency direction, file and function length, orphans
  bench   measure Ripstop beside its peers; `cargo xtask bench --help` says how

Example:
  cargo xtask test --only unit
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let outcome = match arguments.first().map(String::as_str) {
        Some("test") => test::run(&rest),
        Some("peers") => peers::run(&rest),
        Some("bench") => bench::run(&rest),
        Some("tidy") => tidy::run(),
        Some("--help" | "-h" | "help") => {
            print!("{HELP}");
            Ok(true)
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Cargo's target folder.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// On a CI machine nothing may be left out.
fn ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}
