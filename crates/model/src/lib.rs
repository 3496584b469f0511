//! The data plane's immutable, compiled snapshot: listeners, routes, clusters, endpoints.
//!
//! `wire::compile` builds these values from Envoy's protobuf messages; `engine` decides on them; `proxy`
//! acts. Nothing here knows protobuf, sockets or clocks. Every name that a user wrote is kept, so that
//! stats, logs and explanations speak the user's words.

pub mod access_log;
pub mod address;
pub mod balance;
pub mod cluster;
pub mod demand;
pub mod endpoint;
pub mod filter;
pub mod format;
pub mod header;
pub mod health;
pub mod http;
pub mod line;
pub mod listener;
pub mod local_reply;
pub mod matcher;
pub mod overload;
pub mod path_index;
pub mod refusal;
pub mod retry;
pub mod route;
pub mod scope;
pub mod snapshot;
pub mod tls;

pub use address::Address;
pub use refusal::Refusal;
pub use snapshot::Snapshot;
