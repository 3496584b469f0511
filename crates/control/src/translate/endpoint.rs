//! The endpoints of a service's port, by locality.

use std::collections::{BTreeMap, HashMap};

use wire::pb::envoy::config::core::v3::{Locality, Metadata};
use wire::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use wire::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as Target, LbEndpoint, LocalityLbEndpoints,
};
use wire::pb::google::protobuf::Struct;

use super::message::{host_socket, number, text};
use crate::registry::{Endpoint, Service, ServicePort};

/// Describes an endpoint to people and tools; nothing is decided by it.
const DESCRIPTION: &str = "ripstop.dev";
/// What `transport_socket_matches` look at.
const SOCKET_MATCH: &str = "envoy.transport_socket_match";
pub(super) const TLS_MODE: &str = "tlsMode";

pub(super) fn assignment(service: &Service, port: &ServicePort) -> ClusterLoadAssignment {
    let mixed = is_mixed(port);
    let mut localities: BTreeMap<&str, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &port.endpoints {
        localities.entry(&endpoint.locality).or_default().push(endpoint);
    }
    let groups = localities.into_iter().map(|(name, endpoints)| LocalityLbEndpoints {
        locality: Some(locality(name)),
        // gRPC leaves out localities without a weight.
        load_balancing_weight: number(endpoints.iter().map(|endpoint| endpoint.weight).fold(0, u32::saturating_add)),
        lb_endpoints: endpoints.into_iter().filter(|endpoint| endpoint.weight > 0).map(|e| one(e, mixed)).collect(),
        ..LocalityLbEndpoints::default()
    });
    ClusterLoadAssignment {
        cluster_name: port.cluster_name(service),
        endpoints: groups.filter(|group| !group.lb_endpoints.is_empty()).collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// Some endpoints speak mTLS and some do not, so that each must say.
pub(super) fn is_mixed(port: &ServicePort) -> bool {
    let secured = port.endpoints.iter().filter(|endpoint| endpoint.identity.is_some()).count();
    secured > 0 && secured < port.endpoints.len()
}

fn one(endpoint: &Endpoint, mixed: bool) -> LbEndpoint {
    let target = Target { address: host_socket(&endpoint.address, endpoint.port), ..Target::default() };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(target)),
        load_balancing_weight: number(endpoint.weight),
        metadata: metadata(endpoint, mixed),
        ..LbEndpoint::default()
    }
}

fn metadata(endpoint: &Endpoint, mixed: bool) -> Option<Metadata> {
    let mut filter_metadata = HashMap::new();
    let description = [("workload", &endpoint.workload), ("version", &endpoint.version)];
    let fields: HashMap<_, _> = description
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), text(value)))
        .collect();
    if !fields.is_empty() {
        filter_metadata.insert(DESCRIPTION.to_owned(), Struct { fields });
    }
    if mixed && endpoint.identity.is_some() {
        let fields = HashMap::from([(TLS_MODE.to_owned(), text("istio"))]);
        filter_metadata.insert(SOCKET_MATCH.to_owned(), Struct { fields });
    }
    (!filter_metadata.is_empty()).then(|| Metadata { filter_metadata, ..Metadata::default() })
}

fn locality(name: &str) -> Locality {
    let mut parts = name.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), sub_zone: next() }
}
