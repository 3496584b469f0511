//! Registry to xDS, purely: what one node is to have ([`World::snapshot`]).
//!
//! What does not depend on the node is translated and serialised once, and shared by all nodes and by all worlds in
//! which it is the same.

mod cache;
mod cluster;
mod endpoint;
mod grpc;
mod listener;
mod message;
mod route;
mod route_match;
mod secret;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::pb::envoy::config::core::v3 as core;
use wire::pb::google::protobuf::value::Kind as ValueKind;
use wire::xds::server::{Kind, Resource, Snapshot};

use crate::registry::{Changed, Lookup, Registry, Resolution, Service, ServicePort, Workload};

use cache::Cache;
pub use secret::{CERTIFICATE, ROOT, Secrets};

/// Another translator may say the same in another way.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who is to understand what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Agent {
    Ripstop,
    Envoy,
    /// A gRPC library without a proxy.
    Grpc,
}

/// A client, as it introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    pub service: String,
    pub namespace: Option<String>,
    pub agent: Agent,
}

impl Node {
    pub fn read(node: &core::Node) -> Self {
        let namespace =
            node.metadata.as_ref().and_then(|metadata| match metadata.fields.get("NAMESPACE")?.kind.as_ref()? {
                ValueKind::StringValue(text) => Some(text.clone()),
                _ => None,
            });
        let name = node.user_agent_name.as_str();
        let agent = match name {
            _ if name.starts_with("gRPC") => Agent::Grpc,
            "envoy" => Agent::Envoy,
            // Envoy always says its name; the mesh's own proxies are at home here.
            _ => Agent::Ripstop,
        };
        Self { id: node.id.clone(), service: node.cluster.clone(), namespace, agent }
    }
}

/// One state of the mesh.
#[derive(Debug, Default)]
pub struct World {
    pub registry: Registry,
    /// Grows with every accepted change.
    pub revision: u64,
    /// What is not as it was one revision before, if nothing else is different.
    changed: Option<Changed>,
    /// What was translated, shared with the worlds before and after.
    cache: Arc<Cache>,
    /// Tells worlds apart that differ in more than endpoints.
    epoch: u64,
}

impl World {
    pub fn new(registry: Registry, revision: u64) -> Self {
        Self { registry, revision, ..Self::default() }
    }

    /// The state after this one, as different as can be.
    pub fn replaced_by(&self, registry: Registry, revision: u64) -> Self {
        self.cache.forget_all_but(&registry.services);
        Self { registry, revision, changed: None, cache: self.cache.clone(), epoch: self.epoch + 1 }
    }

    /// The state after this one when no more than this changed.
    pub fn followed_by(&self, registry: Registry, revision: u64, changed: Changed) -> Self {
        Self { registry, revision, changed: Some(changed), cache: self.cache.clone(), epoch: self.epoch }
    }

    /// Brings `snapshot`, which `node` had one revision before, to this state. `None`: it has to be made anew. False:
    /// it has nothing of what changed.
    pub fn update(&self, snapshot: &mut Snapshot, node: &Node) -> Option<bool> {
        let changed = self.changed.as_ref()?;
        if !changed.workloads.is_empty() {
            match self.workload(node) {
                Lookup::Found(workload) if !changed.workloads.contains(&workload.key()) => {}
                _ => return None,
            }
        }
        let mut touched = false;
        for service in changed.services.iter().filter_map(|host| self.registry.services.get(host)) {
            for port in &service.ports {
                if snapshot.get(Kind::Cluster).contains_key(port.cluster_name(service).as_str()) {
                    self.add_cluster(service, port, node.agent, snapshot);
                    touched = true;
                }
            }
        }
        Some(touched)
    }

    pub fn workload(&self, node: &Node) -> Lookup<'_> {
        self.registry.workload_of(&node.id, &node.service, node.namespace.as_deref())
    }

    /// What a node is to have; `None` when it stands for no workload that is known.
    pub fn snapshot(&self, node: &Node, secrets: Option<&Secrets>) -> Option<Snapshot> {
        let workload = match self.workload(node) {
            Lookup::Found(workload) => Some(workload),
            Lookup::Unknown(_) => None,
        };
        let mut snapshot = Snapshot::default();
        match (node.agent, workload) {
            (Agent::Grpc, workload) => grpc::add(self, workload, &mut snapshot),
            (agent, Some(workload)) => self.add_sidecar(workload, agent, &mut snapshot),
            (_, None) => return None,
        }
        if let Some(secrets) = secrets {
            secret::add(secrets, &mut snapshot);
        }
        Some(snapshot)
    }

    /// Everything that a sidecar serves in both directions.
    fn add_sidecar(&self, workload: &Workload, agent: Agent, snapshot: &mut Snapshot) {
        let Some(sidecar) = self.registry.sidecar_of(workload) else { return };
        for ingress in &sidecar.ingress {
            listener::add_inbound(workload, ingress, snapshot);
        }
        let mut scope = BTreeSet::new();
        for egress in &sidecar.egress {
            let hosts = egress.hosts().collect::<Vec<_>>();
            let mut services = Vec::new();
            for host in &hosts {
                services.extend(self.registry.services_of(host, &workload.namespace));
            }
            scope.extend(services.iter().map(|service| service.host.as_str()));
            let Some(port) = &egress.port else { continue };
            match (hosts.as_slice(), services.as_slice()) {
                ([one], [service]) if one.host.is_some() => {
                    listener::add_outbound(self, egress, port, service, agent, snapshot);
                }
                ([one], []) if one.host.is_some() => {}
                _ => listener::add_http_proxy(self, egress, port, &services, workload, agent, snapshot),
            }
        }
        for host in scope {
            if let Some(service) = self.registry.services.get(host) {
                self.add_service(service, agent, snapshot);
            }
        }
    }

    /// The clusters of a service's ports and of all that their routes lead to.
    fn add_service(&self, service: &Arc<Service>, agent: Agent, snapshot: &mut Snapshot) {
        for port in &service.ports {
            self.add_cluster(service, port, agent, snapshot);
            let namespace = service.namespace.as_str();
            let rules = self.registry.routes(&service.host, port.number).filter_map(|route| route.spec());
            for backend in rules.flat_map(|spec| &spec.rules).flat_map(|rule| &rule.backend_refs) {
                let Some(number) = backend.port else { continue };
                let target = self.registry.services.get(&Registry::host(&backend.name, namespace));
                if let Some((target, port)) = target.and_then(|target| Some((target, target.port(number.0)?))) {
                    self.add_cluster(target, port, agent, snapshot);
                }
            }
        }
    }

    fn add_cluster(&self, service: &Arc<Service>, port: &ServicePort, agent: Agent, snapshot: &mut Snapshot) {
        let name = port.cluster_name(service);
        // All that these two are made of; their metadata are maps, which have no stable encoding.
        let content = || format!("{VERSION} {agent:?} {:?} {port:?}", service.resolution);
        let made = self.cache.share((Kind::Cluster, agent, name.clone()), (service, 0), || {
            let cluster = cluster::outbound(service, port, agent);
            Resource::encode_as(name.clone(), &cluster, &cluster_content(service, port, agent))
        });
        snapshot.insert(Kind::Cluster, made);
        if service.resolution == Resolution::Endpoints {
            let made = self.cache.share((Kind::Endpoints, agent, name.clone()), (service, 0), || {
                Resource::encode_as(name.clone(), &endpoint::assignment(service, port), &content())
            });
            snapshot.insert(Kind::Endpoints, made);
        }
    }

    /// Routes of one port of a service, for whatever host the caller writes.
    fn add_routes(&self, service: &Arc<Service>, port: &ServicePort, agent: Agent, snapshot: &mut Snapshot) -> String {
        let name = route::table_name(service, port);
        // Routes lead to other services, too.
        let made = self.cache.share((Kind::Routes, agent, name.clone()), (service, self.epoch), || {
            Resource::encode(name.clone(), &route::table(&self.registry, service, port, agent))
        });
        snapshot.insert(Kind::Routes, made);
        name
    }
}

/// What a cluster is made of. Endpoints that come and go do not change it, as long as it does not list them.
fn cluster_content(service: &Service, port: &ServicePort, agent: Agent) -> String {
    let (number, name, protocol) = (port.number, &port.name, port.protocol);
    let (identities, mixed) = (port.identities(), endpoint::is_mixed(port));
    let listed = (service.resolution == Resolution::Dns).then_some(&port.endpoints);
    format!(
        "{VERSION} {agent:?} {:?} {number} {name} {protocol:?} {identities:?} {mixed} {listed:?}",
        service.resolution
    )
}
