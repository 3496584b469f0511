//! The order in which an endpoint's addresses are tried (RFC 8305 section 4): families take turns.

use model::cluster::Eyeballs;
use std::net::SocketAddr;

/// Sorts `addresses`: `count` of the preferred family, then one of the other, and so on in turns.
pub fn order(addresses: &[SocketAddr], eyeballs: &Eyeballs) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let v6_first = eyeballs.v6_first.unwrap_or(first.is_ipv6());
    let (mut preferred, mut others): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().rev().copied().partition(|address| address.is_ipv6() == v6_first);
    let mut ordered = Vec::with_capacity(addresses.len());
    while !preferred.is_empty() || !others.is_empty() {
        for _ in 0..eyeballs.first_count.max(1) {
            ordered.extend(preferred.pop());
        }
        ordered.extend(others.pop());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(addresses: &[&str], v6_first: Option<bool>, first_count: usize) -> Vec<String> {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        order(&addresses, &Eyeballs { v6_first, first_count }).iter().map(|address| address.ip().to_string()).collect()
    }

    #[test]
    fn families_take_turns() {
        let all = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"];
        assert_eq!(ordered(&all, None, 1), ["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]);
        assert_eq!(ordered(&all, Some(false), 1), ["10.0.0.1", "::1", "10.0.0.2", "::2", "::3"]);
        assert_eq!(ordered(&all, None, 2), ["::1", "::2", "10.0.0.1", "::3", "10.0.0.2"]);
        assert_eq!(ordered(&["10.0.0.1:1"], Some(true), 1), ["10.0.0.1"]);
    }
}
