//! Clock, backoff, ids, units: small pure helpers every crate may use.

pub mod backoff;
pub mod bucket;
pub mod duration;

pub use backoff::Backoff;
pub use bucket::TokenBucket;
