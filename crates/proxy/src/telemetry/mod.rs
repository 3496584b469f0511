//! Counters, histograms and access logs: written by one worker each, read by anyone.

pub mod access_log;
pub mod metrics;
pub mod stats;

pub use access_log::AccessLogger;
pub use metrics::{Counter, Gauge, Histogram};
pub use stats::{ClusterStats, HttpStats, ListenerStats, Registry};

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Since this process began to measure; never goes back.
pub fn uptime() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Microseconds since the Unix epoch.
pub fn unix_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_micros() as u64
}
