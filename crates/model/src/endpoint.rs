//! Endpoints (`endpoint.v3.ClusterLoadAssignment`).

use crate::address::{Address, HostPort};
use crate::health::EndpointCheck;
use std::sync::Arc;

/// All endpoints of a cluster, by locality and priority.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    pub localities: Vec<LocalityEndpoints>,
    /// Percent; 140 unless configured.
    pub overprovisioning_factor: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalityEndpoints {
    pub locality: Locality,
    pub priority: u32,
    /// `None`: not weighted.
    pub weight: Option<u32>,
    pub endpoints: Vec<Arc<Endpoint>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    pub region: Box<str>,
    pub zone: Box<str>,
    pub sub_zone: Box<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub target: EndpointTarget,
    /// Tried when the first address does not answer soon (`additional_addresses`).
    pub more_addresses: Box<[std::net::SocketAddr]>,
    /// At least 1.
    pub weight: u32,
    pub health: Health,
    pub hostname: Box<str>,
    /// What of health checks differs for this one.
    pub check: Option<Box<EndpointCheck>>,
    /// `filter_metadata["envoy.lb"]`, for subsets: key and JSON value.
    pub lb_metadata: Box<[(Box<str>, Box<str>)]>,
    /// `filter_metadata["envoy.transport_socket_match"]`: key and JSON value.
    pub socket_match: Box<[(Box<str>, Box<str>)]>,
}

impl Endpoint {
    /// Active health checks look at it, where the cluster has any.
    pub fn is_checked(&self) -> bool {
        self.check.as_ref().is_none_or(|check| !check.disabled)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointTarget {
    Address(Address),
    /// To be resolved (STRICT_DNS, LOGICAL_DNS).
    Name(HostPort),
}

/// `core.v3.HealthStatus` as given by the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
    Draining,
    Timeout,
    Degraded,
}

impl Health {
    pub fn usable(self) -> bool {
        matches!(self, Health::Unknown | Health::Healthy | Health::Degraded)
    }
}

impl Assignment {
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.localities.iter().flat_map(|locality| locality.endpoints.iter())
    }
}
