//! Upstream connections: which host, over which connection, and what its failures mean.

pub mod cluster;
pub mod connect;
mod ejection;
pub mod exchange;
pub mod host;
mod hosts;
mod report;

pub use cluster::{Cluster, Want};
pub use exchange::{Acquired, Exchange};
pub use host::Host;
