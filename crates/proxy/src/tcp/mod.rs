//! Bytes without a protocol: the TCP proxy filter, and tunnels after an upgrade.

pub mod proxy;
mod splice;
mod through;
pub mod tunnel;
