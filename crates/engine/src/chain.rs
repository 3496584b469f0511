//! Which filter chain serves a connection (`listener.v3.FilterChainMatch`).
//!
//! The order of criteria is Envoy's: destination port, destination address, server name, transport protocol,
//! application protocols, direct source, source type, source address, source port. At each step the most
//! specific chains stay and the rest are out, even if they would match a later criterion better.

use ipnet::IpNet;
use model::listener::{ChainMatch, ConnectionInfo, FilterChain, Listener, SourceType};
use std::net::IpAddr;
use std::sync::Arc;

/// Ranks a chain for one criterion: `None` does not match, higher is more specific.
type Criterion = fn(&ChainMatch, &ConnectionInfo<'_>) -> Option<u32>;

const CRITERIA: [Criterion; 8] = [
    |m, c| port(m.destination_port.as_slice(), c.destination_port),
    |m, c| prefixes(&m.prefix_ranges, c.destination_ip),
    |m, c| server_name(&m.server_names, c.server_name),
    |m, c| transport(&m.transport_protocol, c.transport_protocol),
    |m, c| application(&m.application_protocols, c.application_protocols),
    |m, c| prefixes(&m.direct_source_prefix_ranges, c.direct_source_ip),
    |m, c| source_type(m.source_type, c),
    |m, c| prefixes(&m.source_prefix_ranges, c.source_ip),
];

/// The chain that serves the connection, or `None`: the connection is closed.
pub fn choose<'l>(listener: &'l Listener, connection: &ConnectionInfo<'_>) -> Option<&'l Arc<FilterChain>> {
    let mut left: Vec<&Arc<FilterChain>> = listener.chains.iter().collect();
    for criterion in CRITERIA {
        keep_best(&mut left, |m| criterion(m, connection));
    }
    keep_best(&mut left, |m| port(&m.source_ports, connection.source_port));
    left.first().copied().or(listener.default_chain.as_ref())
}

fn keep_best(left: &mut Vec<&Arc<FilterChain>>, rank: impl Fn(&ChainMatch) -> Option<u32>) {
    if let Some(best) = left.iter().filter_map(|chain| rank(&chain.matches)).max() {
        left.retain(|chain| rank(&chain.matches) == Some(best));
    } else {
        left.clear();
    }
}

fn port(wanted: &[u16], port: u16) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    wanted.contains(&port).then_some(1)
}

fn prefixes(wanted: &[IpNet], ip: IpAddr) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    wanted.iter().filter(|net| net.contains(&ip)).map(|net| 1 + u32::from(net.prefix_len())).max()
}

fn server_name(wanted: &[Box<str>], name: &str) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    let specificity = |pattern: &str| match pattern.strip_prefix('*') {
        Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len() as u32 + 1),
        None => (pattern == name).then_some(u32::MAX),
    };
    wanted.iter().filter_map(|pattern| specificity(pattern)).max()
}

fn transport(wanted: &str, transport: &str) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    (wanted == transport).then_some(1)
}

fn application(wanted: &[Box<str>], offered: &[Vec<u8>]) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    offered.iter().any(|offer| wanted.iter().any(|want| want.as_bytes() == offer)).then_some(1)
}

fn source_type(wanted: SourceType, connection: &ConnectionInfo<'_>) -> Option<u32> {
    let local = connection.source_ip.is_loopback() || connection.source_ip == connection.destination_ip;
    match wanted {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => local.then_some(1),
        SourceType::External => (!local).then_some(1),
    }
}
