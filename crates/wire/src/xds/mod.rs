//! The xDS transport protocol as state machines without I/O.

pub mod server;
