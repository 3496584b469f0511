//! What one worker knows: its view of the configuration, its clusters, its counters. Nothing here is shared
//! between threads but counters, which have one writer.

pub mod adopt;
pub mod clusters;
pub mod demand;
pub mod drain;
pub mod filters;
pub mod groups;
pub mod guard;
pub mod scopes;
pub mod service;
pub mod shed;
pub mod worker;

pub use drain::{Drain, Membership};
pub use scopes::{Scopes, Tables};
pub use service::{ChainService, HttpService, ListenerService, Routes, ServiceKind, TcpService};
pub use worker::Worker;
