//! The xDS protocol without I/O: state machines that turn what arrived into what to send.

pub mod client;
pub mod server;
