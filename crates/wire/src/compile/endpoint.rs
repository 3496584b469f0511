//! Endpoints (`endpoint.v3.ClusterLoadAssignment`).

use super::{Result, address, data, known, uint};
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::config::endpoint::v3 as pb;
use crate::problem::{At, gather};
use model::Address;
use model::endpoint::{Assignment, Endpoint, EndpointTarget, Health, Locality, LocalityEndpoints};
use model::health::EndpointCheck;
use pb::lb_endpoint::HostIdentifier;
use std::collections::HashSet;
use std::sync::Arc;

/// Whether endpoints may be names that have to be resolved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Allowed,
    AddressesOnly,
}

pub fn assignment(at: &At<'_>, names: Names, pb: &pb::ClusterLoadAssignment) -> Result<Assignment> {
    let factor = pb.policy.as_ref().and_then(|policy| uint(&policy.overprovisioning_factor)).unwrap_or(140);
    if factor == 0 {
        return at.field("policy").field("overprovisioning_factor").wrong("must be greater than 0");
    }
    let localities = pb.endpoints.iter().enumerate();
    let localities = gather(localities.map(|(index, one)| locality(&at.item("endpoints", index), names, one)))?;
    let mut seen = HashSet::new();
    for (index, one) in localities.iter().enumerate() {
        if one.locality != Locality::default() && !seen.insert((&one.locality, one.priority)) {
            return at.item("endpoints", index).wrong("this locality is given twice in this priority");
        }
    }
    Ok(Assignment { localities, overprovisioning_factor: factor })
}

fn locality(at: &At<'_>, names: Names, pb: &pb::LocalityLbEndpoints) -> Result<LocalityEndpoints> {
    if pb.priority > 128 {
        return at.field("priority").wrong("must not be greater than 128");
    }
    let name = pb.locality.clone().unwrap_or_default();
    let endpoints = pb.lb_endpoints.iter().enumerate();
    let endpoints = endpoints.map(|(index, one)| endpoint(&at.item("lb_endpoints", index), names, one).map(Arc::new));
    Ok(LocalityEndpoints {
        locality: Locality { region: name.region.into(), zone: name.zone.into(), sub_zone: name.sub_zone.into() },
        priority: pb.priority,
        weight: uint(&pb.load_balancing_weight),
        endpoints: gather(endpoints)?,
    })
}

fn endpoint(at: &At<'_>, names: Names, pb: &pb::LbEndpoint) -> Result<Endpoint> {
    let inner = match at.required("host_identifier", &pb.host_identifier)? {
        HostIdentifier::Endpoint(endpoint) => endpoint,
        HostIdentifier::EndpointName(_) => return at.field("endpoint_name").wrong("is not implemented; give endpoint"),
    };
    let place = at.field("endpoint");
    let given = place.required("address", &inner.address)?;
    let target = match names {
        Names::Allowed => address::target(&place.field("address"), given)?,
        Names::AddressesOnly => EndpointTarget::Address(address::address(&place.field("address"), given)?),
    };
    let weight = uint(&pb.load_balancing_weight).unwrap_or(1);
    if weight == 0 {
        return at.field("load_balancing_weight").wrong("must be at least 1");
    }
    let metadata = |namespace: &str| {
        let found = pb.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get(namespace));
        found.map(data::pairs).unwrap_or_default().into_boxed_slice()
    };
    let more = inner.additional_addresses.iter().enumerate().map(|(index, one)| {
        let at = place.item("additional_addresses", index);
        let given = at.required("address", &one.address)?;
        match address::address(&at.field("address"), given)? {
            Address::Tcp(address) => Ok(address),
            Address::Unix(_) => at.field("address").wrong("must be an IP address and a port"),
        }
    });
    Ok(Endpoint {
        target,
        more_addresses: gather(more)?.into(),
        weight,
        health: match known(at, "health_status", pb.health_status)? {
            core::HealthStatus::Unknown => Health::Unknown,
            core::HealthStatus::Healthy => Health::Healthy,
            core::HealthStatus::Unhealthy => Health::Unhealthy,
            core::HealthStatus::Draining => Health::Draining,
            core::HealthStatus::Timeout => Health::Timeout,
            core::HealthStatus::Degraded => Health::Degraded,
        },
        hostname: inner.hostname.as_str().into(),
        check: check(&place, inner)?,
        lb_metadata: metadata("envoy.lb"),
        socket_match: metadata("envoy.transport_socket_match"),
    })
}

/// `health_check_config`.
fn check(at: &At<'_>, pb: &pb::Endpoint) -> Result<Option<Box<EndpointCheck>>> {
    let Some(config) = &pb.health_check_config else { return Ok(None) };
    let at = at.field("health_check_config");
    let own = config.address.as_ref().map(|given| address::address(&at.field("address"), given)).transpose()?;
    if own.is_some() && config.port_value > 0 {
        return at.field("port_value").wrong("cannot be set together with address");
    }
    let check = EndpointCheck {
        port: address::port16(&at, "port_value", config.port_value)?,
        address: own,
        hostname: config.hostname.as_str().into(),
        disabled: config.disable_active_health_check,
    };
    Ok(Some(check.into()))
}
