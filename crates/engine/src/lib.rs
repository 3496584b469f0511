//! Decisions without I/O: routing, balancing, retries. Time and randomness are arguments.
//!
//! The proxy acts on these functions; the command line and the control plane explain with the same ones.

pub mod balance;
pub mod bucket;
pub mod chain;
pub mod date;
pub mod edits;
pub mod eyeballs;
pub mod filter;
pub mod format;
pub mod grpc;
pub mod head;
pub mod info;
pub mod inspect;
pub mod line;
pub mod log_filter;
pub mod overload;
pub mod path;
pub mod proxy_protocol;
pub mod request;
pub mod resilience;
pub mod route;

pub use head::{Head, Known};
pub use info::StreamInfo;
