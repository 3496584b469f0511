//! networking.istio.io `ServiceEntry`: a service by host name, in or outside of the mesh.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{AppProtocol, Checker, Port};
use super::workload_entry::WorkloadEntrySpec;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntrySpec {
    pub hosts: Vec<String>,
    pub ports: Vec<EntryPort>,
    #[serde(default)]
    pub location: Location,
    #[serde(default)]
    pub resolution: Resolution,
    #[serde(default)]
    pub endpoints: Vec<WorkloadEntrySpec>,
    pub workload_selector: Option<WorkloadSelector>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPort {
    pub number: Port,
    pub name: String,
    #[serde(default)]
    pub protocol: Option<AppProtocol>,
    pub target_port: Option<Port>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    #[default]
    MeshExternal,
    MeshInternal,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    #[default]
    None,
    Static,
    Dns,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct WorkloadSelector {
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl EntryPort {
    pub fn protocol(&self) -> AppProtocol {
        self.protocol.unwrap_or_else(|| AppProtocol::of_port(Some(&self.name), None))
    }
}

impl ServiceEntrySpec {
    pub(crate) fn check(&self, check: &mut Checker) {
        check.require(!self.hosts.is_empty(), "spec.hosts", "a ServiceEntry needs at least one host");
        for (index, host) in self.hosts.iter().enumerate() {
            let path = format!("spec.hosts[{index}]");
            check.require(!host.contains('*'), &path, "wildcard hosts are not implemented; name the host");
            check.require(!host.is_empty(), path, "is empty");
        }
        check.require(!self.ports.is_empty(), "spec.ports", "a ServiceEntry needs at least one port");
        let numbers = self.ports.iter().enumerate();
        let numbers: Vec<_> = numbers.map(|(i, port)| (format!("spec.ports[{i}].number"), port.number)).collect();
        check.unique(&numbers, "port");
        let names = self.ports.iter().enumerate();
        let names: Vec<_> = names.map(|(i, port)| (format!("spec.ports[{i}].name"), &port.name)).collect();
        check.unique(&names, "name");
        self.check_endpoints(check);
    }

    fn check_endpoints(&self, check: &mut Checker) {
        let selects = self.workload_selector.is_some();
        if self.resolution == Resolution::None {
            let wanted = "NONE needs intercepted traffic, which is not implemented; write STATIC or DNS";
            check.wrong("spec.resolution", wanted);
        }
        if selects && !self.endpoints.is_empty() {
            check.wrong("spec.workloadSelector", "cannot stand beside endpoints; keep one of the two");
        }
        if selects && self.resolution == Resolution::Dns {
            check.wrong("spec.workloadSelector", "needs resolution STATIC");
        }
        if self.resolution == Resolution::Static && !selects && self.endpoints.is_empty() {
            check.wrong("spec.resolution", "STATIC needs endpoints or a workloadSelector");
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.check(&format!("spec.endpoints[{index}]"), self.resolution == Resolution::Dns, check);
        }
    }
}
