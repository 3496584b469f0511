//! What HTTP filters decide about a request.

pub mod admission;
pub mod concurrency;
pub mod cors;
pub mod fault;
pub mod grpc_web;
pub mod query;
