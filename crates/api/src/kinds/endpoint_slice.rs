//! discovery.k8s.io/v1 `EndpointSlice`: endpoints that something other than a selector knows.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::common::{Checker, Port};
use super::service::Transport;

/// The label that says which Service a slice belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceSpec {
    pub address_type: AddressType,
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub ports: Vec<SlicePort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub conditions: Conditions,
    pub hostname: Option<String>,
    pub zone: Option<String>,
    #[serde(default, rename = "nodeName")]
    _node_name: Option<IgnoredAny>,
    #[serde(default, rename = "targetRef")]
    _target_ref: Option<IgnoredAny>,
    #[serde(default, rename = "hints")]
    _hints: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlicePort {
    #[serde(default)]
    pub name: String,
    pub port: Port,
    #[serde(default, rename = "protocol")]
    _protocol: Transport,
    #[serde(default, rename = "appProtocol")]
    _app_protocol: Option<IgnoredAny>,
}

impl Endpoint {
    /// Unknown readiness counts as ready, as Kubernetes defines it.
    pub fn ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }
}

impl EndpointSliceSpec {
    pub(crate) fn check(&self, check: &mut Checker) {
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let path = format!("endpoints[{index}].addresses");
            check.require(!endpoint.addresses.is_empty(), &path, "an endpoint needs an address");
            for address in &endpoint.addresses {
                let fits = address.is_ipv4() == (self.address_type == AddressType::V4);
                check.require(fits, &path, format!("{address} does not fit the addressType"));
            }
        }
    }
}
