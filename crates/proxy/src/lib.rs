//! The data plane's I/O shell; `flow` is the spine, read it first.
//!
//! Modules stand in reading order: each may import only those below it.

pub mod process;
pub mod xds;
pub mod admin;
pub mod overload;
pub mod core;
pub mod agent;
pub mod grpc;
pub mod publish;
pub mod worker;
pub mod health;
pub mod dns;
pub mod flow;
pub mod tcp;
pub mod state;
pub mod upstream;
pub mod http;
pub mod accept;
pub mod io;
pub mod tls;
pub mod telemetry;
pub mod socket;
pub mod clock;
