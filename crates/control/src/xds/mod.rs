//! ADS over gRPC: [`server`] accepts and dispatches, [`stream`] is one client's conversation, [`hub`] what all share.

pub mod hub;
mod messages;
pub mod server;
pub mod stream;
