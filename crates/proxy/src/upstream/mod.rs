//! Upstream connections: which host, over which connection, and what its failures mean.

pub mod cluster;
pub mod connect;
pub mod exchange;
pub mod host;

pub use cluster::Cluster;
pub use exchange::{Acquired, Exchange};
pub use host::Host;
