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
/// Physical memory of this process, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    pages * 4096
}
