//! Compares load balancing policies in virtual time: the same seed gives the same figures.
//!
//! Servers are queues with a capacity (`server`); clients are proxies that see what a proxy sees: their own requests
//! in flight, how requests ended and after how long, and, if a scenario says so, the load that a server reports with
//! its answer (`client`). `world` moves requests between them; `scenario` holds the published situations; `report`
//! makes the table.
//!
//! Every policy meets the same arrivals and the same work: both come from random numbers of their own.

pub mod client;
pub mod compare;
pub mod report;
pub mod scenario;
pub mod server;
pub mod world;

/// Virtual nanoseconds since the start.
pub type Nanos = u64;

pub const MILLI: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MILLI;
