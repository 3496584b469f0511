//! The spine of the data plane: from an accepted connection to the last byte of the last response.
//!
//! `connection` admits and identifies, `rest` waits for what comes, `http1` and `http2` read requests (`tasks` has streams
//! served), `call` serves one of them, `filters` come before the router, `forward` plans the way upstream, `attempt` sends it
//! there, `relay` brings the response back, `switch` makes a tunnel of both sides, `respond` answers in the upstream's stead.

pub mod attempt;
pub mod call;
mod checked;
pub mod connection;
pub mod filters;
pub mod forward;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod load;
mod mirror;
mod on_demand;
pub mod relay;
pub mod respond;
mod rest;
mod switch;
pub mod tasks;
pub mod watch;
