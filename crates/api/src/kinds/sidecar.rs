//! networking.istio.io `Sidecar`: what a workload's proxy listens on and what it may call.
//!
//! Without interception both directions are spelled out: an `ingress` entry is a port where the mesh reaches the
//! application, an `egress` entry with a port is an address where the application reaches the mesh.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::common::{AppProtocol, Checker, Port};
use super::service_entry::WorkloadSelector;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarSpec {
    pub workload_selector: Option<WorkloadSelector>,
    #[serde(default)]
    pub ingress: Vec<Ingress>,
    #[serde(default)]
    pub egress: Vec<Egress>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    pub port: SidecarPort,
    pub bind: Option<IpAddr>,
    #[serde(default)]
    pub capture_mode: CaptureMode,
    /// `127.0.0.1:8080`: where the application listens.
    pub default_endpoint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    pub port: Option<SidecarPort>,
    pub bind: Option<IpAddr>,
    #[serde(default)]
    pub capture_mode: CaptureMode,
    /// `namespace/host`; `*` and `.` stand for any and for the own namespace.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SidecarPort {
    pub number: Port,
    pub protocol: Option<AppProtocol>,
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaptureMode {
    #[default]
    Default,
    None,
}

/// An egress host, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRef<'a> {
    pub namespace: Namespace<'a>,
    /// `None` is `*`.
    pub host: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace<'a> {
    Any,
    Own,
    Named(&'a str),
}

impl<'a> HostRef<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (namespace, host) = text.split_once('/')?;
        let namespace = match namespace {
            "*" => Namespace::Any,
            "." => Namespace::Own,
            "" | "~" => return None,
            name => Namespace::Named(name),
        };
        match host {
            "*" => Some(Self { namespace, host: None }),
            name if name.is_empty() || name.contains(['*', '/']) => None,
            name => Some(Self { namespace, host: Some(name) }),
        }
    }
}

impl SidecarPort {
    pub fn protocol(&self) -> AppProtocol {
        self.protocol.unwrap_or_else(|| AppProtocol::of_port(Some(&self.name), None))
    }
}

impl Ingress {
    /// The application's address.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.default_endpoint.as_ref()?.parse().ok().filter(|endpoint: &SocketAddr| endpoint.port() > 0)
    }
}

impl Egress {
    pub fn hosts(&self) -> impl Iterator<Item = HostRef<'_>> {
        self.hosts.iter().filter_map(|host| HostRef::parse(host))
    }
}

impl SidecarSpec {
    pub(crate) fn check(&self, check: &mut Checker) {
        let mut binds = Vec::new();
        for (index, ingress) in self.ingress.iter().enumerate() {
            let path = format!("spec.ingress[{index}]");
            binds.push((format!("{path}.port.number"), address(ingress.bind, &ingress.port)));
            check.require(
                ingress.endpoint().is_some(),
                format!("{path}.defaultEndpoint"),
                "must say where the application listens, for instance 127.0.0.1:8080",
            );
        }
        for (index, egress) in self.egress.iter().enumerate() {
            let path = format!("spec.egress[{index}]");
            check.require(!egress.hosts.is_empty(), format!("{path}.hosts"), "needs at least one host");
            for (number, host) in egress.hosts.iter().enumerate() {
                let fits = HostRef::parse(host).is_some();
                let wanted = "write namespace/host, for instance */*, ./* or shop/orders.shop.svc.cluster.local";
                check.require(fits, format!("{path}.hosts[{number}]"), format!("{host:?} is not understood; {wanted}"));
            }
            match &egress.port {
                Some(port) => binds.push((format!("{path}.port.number"), address(egress.bind, port))),
                None => check.require(egress.bind.is_none(), format!("{path}.bind"), "needs a port beside it"),
            }
        }
        check.unique(&binds, "address");
    }
}

fn address(bind: Option<IpAddr>, port: &SidecarPort) -> SocketAddr {
    SocketAddr::new(bind.unwrap_or(IpAddr::from([127, 0, 0, 1])), port.number.0)
}
