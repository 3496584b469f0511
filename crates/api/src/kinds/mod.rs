//! One file per kind, each with the fields that Ripstop reads, as plain serde structs, and a `check` of what types
//! cannot say.

pub mod common;
pub mod endpoint_slice;
pub mod http_route;
pub mod service;
pub mod service_entry;
pub mod sidecar;
pub mod workload_entry;

pub use common::{AppProtocol, Checker, Port, PortRef, TimeSpan};

/// Fields that their APIs have and Ripstop does not implement yet, by struct. They are refused as any unknown field
/// is, with a message that says so.
pub(crate) const NOT_IMPLEMENTED: &[(&str, &[&str])] = &[
    (
        "ServiceSpec",
        &[
            "allocateLoadBalancerNodePorts",
            "externalIPs",
            "externalName",
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "loadBalancerClass",
            "loadBalancerIP",
            "loadBalancerSourceRanges",
            "publishNotReadyAddresses",
            "sessionAffinityConfig",
            "trafficDistribution",
        ],
    ),
    ("ServiceEntrySpec", &["addresses", "exportTo", "subjectAltNames"]),
    ("WorkloadEntrySpec", &["network"]),
    ("SidecarSpec", &["inboundConnectionPool", "outboundTrafficPolicy"]),
    ("Ingress", &["connectionPool", "tls"]),
    ("HttpRouteSpec", &["hostnames", "useDefaultGateways"]),
    ("Rule", &["retry", "sessionPersistence"]),
    ("BackendRef", &["filters"]),
    ("Filter", &["cors", "externalAuth", "extensionRef", "requestMirror"]),
    ("Endpoint", &["deprecatedTopology"]),
];
