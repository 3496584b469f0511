//! Process logs on standard error, in the levels Envoy's `-l` knows.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    Json,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no log level; use trace, debug, info, warning, error, critical or off")]
pub struct UnknownLevel(String);

/// Envoy's names and Rust's.
pub fn level(name: &str) -> Result<LevelFilter, UnknownLevel> {
    Ok(match name {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warning" | "warn" => LevelFilter::WARN,
        "error" | "err" | "critical" => LevelFilter::ERROR,
        "off" => LevelFilter::OFF,
        _ => return Err(UnknownLevel(name.to_string())),
    })
}

/// The parts of the process whose level can be set; everything else is held to warnings.
pub const PARTS: [&str; 7] = ["api", "control", "identity", "proxy", "ripstop", "runtime", "wire"];

/// What was started, so that levels can change while the process runs.
static STARTED: OnceLock<Mutex<Started>> = OnceLock::new();

struct Started {
    levels: [LevelFilter; PARTS.len()],
    filter: reload::Handle<Targets, Registry>,
}

/// Starts logging; later calls in the same process change nothing.
pub fn start(level: LevelFilter, form: Form) {
    let levels = [level; PARTS.len()];
    let (filter, handle) = reload::Layer::new(targets(&levels));
    let registry = tracing_subscriber::registry();
    let started = match form {
        Form::Text => {
            let layer =
                tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
            registry.with(layer.with_filter(filter)).try_init()
        }
        Form::Json => {
            let layer = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_filter(filter)).try_init()
        }
    };
    if started.is_ok() {
        let _ = STARTED.set(Mutex::new(Started { levels, filter: handle }));
    }
}

/// Sets the level of one part, or of all; false when there is no such part or logging has not started.
pub fn set(part: Option<&str>, level: LevelFilter) -> bool {
    let Some(mut started) = started() else { return false };
    let mut found = false;
    for (name, place) in PARTS.iter().zip(&mut started.levels) {
        if part.is_none_or(|part| part == *name) {
            *place = level;
            found = true;
        }
    }
    found && started.filter.reload(targets(&started.levels)).is_ok()
}

/// Each part with its level; empty when logging has not started.
pub fn levels() -> Vec<(&'static str, LevelFilter)> {
    started().map(|started| PARTS.into_iter().zip(started.levels).collect()).unwrap_or_default()
}

fn started() -> Option<MutexGuard<'static, Started>> {
    STARTED.get().map(|started| started.lock().unwrap_or_else(PoisonError::into_inner))
}

fn targets(levels: &[LevelFilter; PARTS.len()]) -> Targets {
    let loudest = levels.iter().max().copied().unwrap_or(LevelFilter::OFF);
    let libraries = loudest.min(LevelFilter::WARN);
    Targets::new().with_default(libraries).with_targets(PARTS.into_iter().zip(*levels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        assert_eq!(level("warning").unwrap(), LevelFilter::WARN);
        assert_eq!(level("critical").unwrap(), LevelFilter::ERROR);
        assert!(level("loud").unwrap_err().to_string().contains("critical"));
    }

    #[test]
    fn levels_change_while_the_process_runs() {
        start(LevelFilter::ERROR, Form::Text);
        assert!(!tracing::enabled!(target: "proxy", tracing::Level::DEBUG));
        assert!(set(Some("proxy"), LevelFilter::DEBUG));
        assert!(tracing::enabled!(target: "proxy", tracing::Level::DEBUG));
        assert!(!tracing::enabled!(target: "wire", tracing::Level::DEBUG));
        assert!(set(None, LevelFilter::OFF));
        assert!(!tracing::enabled!(target: "proxy", tracing::Level::ERROR));
        assert!(!set(Some("nobody"), LevelFilter::INFO));
        assert!(super::levels().contains(&("wire", LevelFilter::OFF)));
    }
}
