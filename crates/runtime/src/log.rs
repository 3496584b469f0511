//! Process logs on standard error, in the levels Envoy's `-l` knows.

use tracing_subscriber::filter::LevelFilter;

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

/// Starts logging; later calls in the same process change nothing. Libraries are held to warnings.
pub fn start(level: LevelFilter, form: Form) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::prelude::*;
    let quiet = level.min(LevelFilter::WARN);
    let targets = Targets::new()
        .with_default(quiet)
        .with_targets(["proxy", "control", "wire", "identity", "runtime", "ripstop", "api"].map(|name| (name, level)));
    let registry = tracing_subscriber::registry();
    // A second start is harmless: the first one stays.
    let _ = match form {
        Form::Text => {
            let layer =
                tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
            registry.with(layer.with_filter(targets)).try_init()
        }
        Form::Json => {
            let layer = tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_filter(targets)).try_init()
        }
    };
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
}
