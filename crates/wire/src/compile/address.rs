//! Addresses and address ranges (`core.v3.Address`, `core.v3.CidrRange`).

use super::{Result, known, not_empty};
use crate::pb::envoy::config::core::v3 as core;
use crate::problem::At;
use core::address::Address as Specifier;
use core::socket_address::{PortSpecifier, Protocol};
use ipnet::IpNet;
use model::address::{Address, HostPort};
use model::endpoint::EndpointTarget;
use std::net::{IpAddr, SocketAddr};

/// An address to bind or connect to: an IP address and port, or a Unix socket.
pub fn address(at: &At<'_>, pb: &core::Address) -> Result<Address> {
    match target(at, pb)? {
        EndpointTarget::Address(address) => Ok(address),
        EndpointTarget::Name(name) => {
            let text = format!("`{}` is not an IP address; names need a cluster of type STRICT_DNS", name.host);
            at.field("socket_address").field("address").wrong(text)
        }
    }
}

/// An address, or a name to be resolved.
pub fn target(at: &At<'_>, pb: &core::Address) -> Result<EndpointTarget> {
    match at.required("address", &pb.address)? {
        Specifier::Pipe(pipe) => {
            let path = not_empty(&at.field("pipe"), "path", &pipe.path)?;
            Ok(EndpointTarget::Address(Address::Unix(path.into())))
        }
        Specifier::EnvoyInternalAddress(_) => at.field("envoy_internal_address").wrong("is not implemented"),
        Specifier::SocketAddress(socket) => socket_target(&at.field("socket_address"), socket),
    }
}

pub(super) fn socket_target(at: &At<'_>, socket: &core::SocketAddress) -> Result<EndpointTarget> {
    if known::<Protocol>(at, "protocol", socket.protocol)? == Protocol::Udp {
        return at.field("protocol").wrong("UDP is not implemented");
    }
    let host = not_empty(at, "address", &socket.address)?;
    let port = match at.required("port_specifier", &socket.port_specifier)? {
        PortSpecifier::PortValue(port) => port16(at, "port_value", *port)?,
        PortSpecifier::NamedPort(_) => return at.field("named_port").wrong("is not implemented; use port_value"),
    };
    Ok(match host.parse::<IpAddr>() {
        Ok(ip) => EndpointTarget::Address(Address::Tcp(SocketAddr::new(ip, port))),
        Err(_) => EndpointTarget::Name(HostPort { host: host.to_string(), port }),
    })
}

pub(super) fn port16(at: &At<'_>, name: &str, port: u32) -> Result<u16> {
    let wrong = |_| at.field(name).problem(format!("{port} is not a port; ports end at 65535")).into();
    u16::try_from(port).map_err(wrong)
}

/// A port that connections can have.
pub(super) fn real_port(at: &At<'_>, name: &str, port: u32) -> Result<u16> {
    match port16(at, name, port)? {
        0 => at.field(name).wrong("0 is not a port that a connection can have"),
        port => Ok(port),
    }
}

/// Host bits beyond the prefix are dropped and longer prefixes than the address has bits are cut, as in Envoy.
pub(super) fn range(at: &At<'_>, pb: &core::CidrRange) -> Result<IpNet> {
    let Ok(ip) = pb.address_prefix.parse::<IpAddr>() else {
        return at.field("address_prefix").wrong(format!("`{}` is not an IP address", pb.address_prefix));
    };
    let length = super::uint(&pb.prefix_len).unwrap_or(0);
    if length > 128 {
        return at.field("prefix_len").wrong(format!("{length} is greater than 128"));
    }
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let net = IpNet::new(ip, length.min(longest) as u8);
    net.map(|net| net.trunc()).map_err(|error| at.field("prefix_len").problem(error.to_string()).into())
}
