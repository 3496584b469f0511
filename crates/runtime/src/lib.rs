//! What every process needs: logging, signals, and a small HTTP server for administration.

pub mod http;
pub mod log;
pub mod signals;
