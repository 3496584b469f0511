//! The data plane's I/O shell; `flow` is the spine, read it first.
//!
//! Modules stand in reading order: each may import only those below it.

pub mod accept;
pub mod admin;
pub mod agent;
pub mod core;
pub mod dns;
pub mod flow;
pub mod grpc;
pub mod http;
pub mod io;
pub mod process;
pub mod publish;
pub mod state;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod worker;
pub mod xds;
