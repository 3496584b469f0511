//! What the suites against real peers share: finding and running programs, a backend that tells what it saw, a
//! client that sends exact bytes.

pub mod ask;
pub mod backend;
mod backend_h2;
pub mod client;
pub mod compare;
pub mod peers;
pub mod process;
pub mod xds;
