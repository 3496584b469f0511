//! The server's side of xDS, without I/O: one [`Session`] per stream is told what arrives and what a node is to have,
//! and answers what to send. State of the world and delta differ only at the edges.
//!
//! The rules are those of the public xDS protocol specification. On a push, resources go out in the order in which
//! they depend on each other and each step waits for the client's word on the one before (make before break):
//!
//! clusters added or changed, endpoints, listeners, routes, clusters no longer used, the rest that is gone.
//!
//! Secrets depend on nothing and never wait.

mod message;
mod session;
mod snapshot;
mod subscription;
#[cfg(test)]
mod tests;

pub use message::{DeltaResponse, Response};
pub use session::{Push, Session};
pub use snapshot::{Kind, Resource, Snapshot};
pub use subscription::{Nack, Status};
