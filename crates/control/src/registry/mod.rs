//! What the mesh is: services with their endpoints, workloads with their identities, sidecars, and routes.
//!
//! A registry is built from all accepted objects at once ([`Registry::build`]), or from the one before it where only
//! endpoints changed ([`Registry::follow`]); it never changes afterwards. Both share what stays the same.

mod build;
mod follow;
mod select;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use api::kinds::http_route::HttpRouteSpec;
use api::kinds::sidecar::SidecarSpec;
use api::kinds::{AppProtocol, Port};
use api::{Key, Object};
use identity::SpiffeId;

pub use follow::Changed;
pub use select::Lookup;

/// By host name.
pub type Services = BTreeMap<String, Arc<Service>>;

#[derive(Debug, Clone, Default)]
pub struct Registry {
    pub trust_domain: String,
    pub services: Arc<Services>,
    /// By namespace and name.
    pub workloads: Arc<BTreeMap<(String, String), Arc<Workload>>>,
    /// Namespaces in which there is a workload of a name.
    namespaces: Arc<BTreeMap<String, Vec<String>>>,
    sidecars: Vec<Arc<Sidecar>>,
    /// Routes by the host name of the Service that they are attached to; in order of precedence between objects.
    routes: Arc<BTreeMap<String, Vec<AttachedRoute>>>,
    /// What is accepted but does not do what it seems to.
    pub warnings: Vec<Warning>,
    /// The Service or ServiceEntry behind each host.
    definitions: Arc<BTreeMap<String, Arc<Object>>>,
    /// EndpointSlices by the host of their Service.
    slices: Arc<BTreeMap<String, Vec<Arc<Object>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub object: Key,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// `orders.shop.svc.cluster.local`, or a ServiceEntry's host.
    pub host: String,
    /// The Service's name; a ServiceEntry's host.
    pub name: String,
    pub namespace: String,
    pub ports: Vec<ServicePort>,
    pub resolution: Resolution,
    /// Found by a cluster-local name of several lengths.
    pub in_cluster: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Endpoints are addresses, told through EDS.
    Endpoints,
    /// Endpoints are names, to be resolved by the proxy.
    Dns,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServicePort {
    pub number: u16,
    pub name: String,
    pub protocol: AppProtocol,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// An IP address; a host name where the service is resolved by DNS.
    pub address: String,
    pub port: u16,
    pub weight: u32,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Who answers there over mesh mTLS; `None` is plaintext.
    pub identity: Option<String>,
    pub workload: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    pub address: String,
    pub ports: BTreeMap<String, Port>,
    pub labels: BTreeMap<String, String>,
    pub identity: SpiffeId,
    /// Its endpoints speak mesh mTLS.
    pub mtls: bool,
    pub weight: u32,
    pub locality: String,
}

#[derive(Debug, Clone)]
struct Sidecar {
    name: String,
    namespace: String,
    spec: SidecarSpec,
}

#[derive(Debug, Clone)]
pub struct AttachedRoute {
    /// Only this port of the Service.
    pub port: Option<u16>,
    pub object: Arc<Object>,
}

impl AttachedRoute {
    pub fn spec(&self) -> Option<&HttpRouteSpec> {
        match &self.object.spec {
            api::Spec::HttpRoute(spec) => Some(spec),
            _ => None,
        }
    }
}

impl Registry {
    /// The cluster-local host name of a Service.
    pub fn host(name: &str, namespace: &str) -> String {
        format!("{name}.{namespace}.svc.cluster.local")
    }

    /// Routes that apply to a port of a service.
    pub fn routes<'a>(&'a self, host: &str, port: u16) -> impl Iterator<Item = &'a AttachedRoute> {
        let attached = self.routes.get(host).map(Vec::as_slice).unwrap_or_default();
        attached.iter().filter(move |route| route.port.is_none_or(|only| only == port))
    }
}

impl Registry {
    fn add_workload(&mut self, workload: Arc<Workload>) {
        let namespaces = Arc::make_mut(&mut self.namespaces).entry(workload.name.clone()).or_default();
        if !namespaces.contains(&workload.namespace) {
            namespaces.push(workload.namespace.clone());
        }
        Arc::make_mut(&mut self.workloads).insert(workload.key(), workload);
    }

    fn remove_workload(&mut self, workload: &Workload) {
        if let Some(namespaces) = Arc::make_mut(&mut self.namespaces).get_mut(&workload.name) {
            namespaces.retain(|namespace| *namespace != workload.namespace);
        }
        Arc::make_mut(&mut self.workloads).remove(&workload.key());
    }
}

impl Workload {
    /// Namespace and name.
    pub fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

impl Service {
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}

impl ServicePort {
    pub fn cluster_name(&self, service: &Service) -> String {
        cluster_name(&service.host, self.number)
    }

    /// The identities behind this port, each once.
    pub fn identities(&self) -> Vec<String> {
        let mut list: Vec<String> = self.endpoints.iter().filter_map(|endpoint| endpoint.identity.clone()).collect();
        list.sort();
        list.dedup();
        list
    }
}

impl Endpoint {
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.address.parse().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// Istio's name for the cluster of a service's port.
pub fn cluster_name(host: &str, port: u16) -> String {
    format!("outbound|{port}||{host}")
}
