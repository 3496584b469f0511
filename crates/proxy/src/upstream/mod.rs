//! Upstream connections: which host, over which connection, and what its failures mean.

pub mod cluster;
pub mod connect;
pub mod dial;
mod ejection;
pub mod exchange;
pub mod host;
mod hosts;
pub mod opening;
mod passing;
mod preconnect;
mod report;

pub use cluster::{Cluster, Want};
pub use exchange::{Acquired, Exchange};
pub use host::{Host, Passage};
pub use hosts::resting;
pub use passing::Bound;
pub use preconnect::preconnect;
