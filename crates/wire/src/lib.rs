//! Envoy protobuf types, YAML/JSON mapping, protobuf to model, and the xDS protocol's state machines.

pub mod json;
pub mod problem;
pub mod schema;
pub mod xds;

pub use envoy_types::pb;
pub use problem::{At, FileError, Position, Problem, Problems};
