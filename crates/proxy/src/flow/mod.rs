//! The spine of the data plane: from an accepted connection to the last byte of the last response.
//!
//! `connection` admits and identifies, `http1` and `http2` read requests, `call` serves one of them,
//! `attempt` sends it upstream, `respond` answers.

pub mod attempt;
pub mod call;
pub mod connection;
pub mod http1;
pub mod http2;
pub mod respond;
pub mod watch;
