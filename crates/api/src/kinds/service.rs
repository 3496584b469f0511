//! core/v1 `Service`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::common::{AppProtocol, Checker, Port, PortRef};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Labels of the workloads behind it; empty when `EndpointSlice`s say so instead.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    pub ports: Vec<ServicePort>,
    #[serde(default, rename = "type")]
    _type: ServiceType,
    #[serde(default, rename = "sessionAffinity")]
    _session_affinity: SessionAffinity,
    // The cluster's own addressing, which a mesh that routes by name does not need.
    #[serde(default, rename = "clusterIP")]
    _cluster_ip: Option<IgnoredAny>,
    #[serde(default, rename = "clusterIPs")]
    _cluster_ips: Option<IgnoredAny>,
    #[serde(default, rename = "ipFamilies")]
    _ip_families: Option<IgnoredAny>,
    #[serde(default, rename = "ipFamilyPolicy")]
    _ip_family_policy: Option<IgnoredAny>,
    #[serde(default, rename = "internalTrafficPolicy")]
    _internal_traffic_policy: InternalTrafficPolicy,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    pub name: Option<String>,
    pub port: Port,
    #[serde(default, rename = "protocol")]
    _protocol: Transport,
    pub target_port: Option<PortRef>,
    pub app_protocol: Option<String>,
    #[serde(default, rename = "nodePort")]
    _node_port: Option<IgnoredAny>,
}

/// How a Service is reached from outside does not matter within the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum ServiceType {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
enum SessionAffinity {
    #[default]
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
enum InternalTrafficPolicy {
    #[default]
    Cluster,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub(crate) enum Transport {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

impl ServicePort {
    pub fn protocol(&self) -> AppProtocol {
        AppProtocol::of_port(self.name.as_deref(), self.app_protocol.as_deref())
    }

    /// Where the workload listens, unless it says otherwise.
    pub fn target(&self) -> PortRef {
        self.target_port.clone().unwrap_or(PortRef::Number(self.port))
    }
}

impl ServiceSpec {
    pub(crate) fn check(&self, check: &mut Checker) {
        check.require(!self.ports.is_empty(), "spec.ports", "a Service needs at least one port");
        let path = |index: usize, field: &str| format!("spec.ports[{index}].{field}");
        let several = self.ports.len() > 1;
        let mut numbers = Vec::new();
        let mut names = Vec::new();
        for (index, port) in self.ports.iter().enumerate() {
            numbers.push((path(index, "port"), port.port));
            match &port.name {
                Some(name) => names.push((path(index, "name"), name)),
                None if several => check.wrong(path(index, "name"), "is required when there are several ports"),
                None => {}
            }
        }
        check.unique(&numbers, "port");
        check.unique(&names, "name");
    }
}
