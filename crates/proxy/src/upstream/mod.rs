//! Upstream connections: which host, over which connection, and what its failures mean.

pub mod cluster;
pub mod connect;
pub mod dial;
pub mod exchange;
pub mod host;
pub mod passing;
mod preconnect;

pub use cluster::Cluster;
pub use exchange::{Acquired, Exchange};
pub use host::Host;
pub use passing::Bound;
pub use preconnect::preconnect;
