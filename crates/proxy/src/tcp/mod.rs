//! Bytes without a protocol: the TCP proxy filter, and tunnels after an upgrade.

pub mod proxy;
pub mod tunnel;
