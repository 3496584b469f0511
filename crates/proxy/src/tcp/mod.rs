//! Bytes without a protocol: the TCP proxy filter, and tunnels after an upgrade.

pub mod proxy;
mod splice;
pub mod through;
pub mod tunnel;
