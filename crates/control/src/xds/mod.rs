//! ADS over gRPC: [`server`] accepts and dispatches, [`stream`] is one client's conversation, [`peer`] says who it is.

pub mod hub;
pub mod peer;
pub mod server;
pub mod stream;
