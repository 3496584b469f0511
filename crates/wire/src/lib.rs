//! Envoy protobuf types, YAML/JSON mapping, protobuf to model, and the xDS protocol's state machines.
//!
//! The way of a configuration: `json` reads text into messages, `support` refuses what is not implemented,
//! `compile` makes the model of the rest. What arrives over xDS enters at `support`.

pub mod compile;
pub mod json;
pub mod kind;
pub mod problem;
pub mod resources;
pub mod schema;
pub mod support;
pub mod xds;

pub use compile::bootstrap::Bootstrap;
pub use envoy_types::pb;
pub use kind::ResourceKind;
pub use problem::{At, FileError, Position, Problem, Problems};
pub use resources::Resources;
