//! What HTTP filters decide about a request.

pub mod cors;
pub mod fault;
