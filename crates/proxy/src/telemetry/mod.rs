//! Counters, histograms and access logs: written by one worker each, read by anyone.

pub mod access_log;
pub mod metrics;
pub mod stats;

pub use access_log::AccessLogger;
pub use metrics::{Counter, Gauge, Histogram};
pub use stats::{ClusterStats, HttpStats, ListenerStats, Registry};
