//! HTTP/2 (RFC 9113): `frame` and `hpack` are its forms, `message` what heads mean, `core` with `receive` and `send` the
//! state of a connection, `connection` and `stream` its two faces. Everything of a connection belongs to one worker.

mod connection;
mod core;
#[cfg(test)]
mod core_tests;
pub mod frame;
pub mod hpack;
pub mod message;
mod receive;
mod send;
mod stream;
pub mod streams;

pub use connection::{Accepted, Connection, Link, NotSent, unanswered};
pub use core::{Options, Role, digest};
pub use frame::Reason;
pub use message::Limits;
pub use send::Closed;
pub use stream::{H2Sink, H2Source, Handle};
pub use streams::Broken;
