//! Registry to xDS, purely: what one node is to have ([`World::snapshot`]).
//!
//! What does not depend on the node is translated and serialised once per [`World`] and shared by all.

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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use wire::pb::envoy::config::core::v3 as core;
use wire::pb::google::protobuf::value::Kind as ValueKind;
use wire::xds::server::{Kind, Resource, Snapshot};

use crate::registry::{Lookup, Registry, Resolution, Service, ServicePort, Workload};

pub use secret::{CERTIFICATE, ROOT, Secrets};

/// Another translator may say the same in another way.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who is to understand what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    shared: Mutex<BTreeMap<(Kind, Agent, String), Arc<Resource>>>,
}

impl World {
    pub fn new(registry: Registry, revision: u64) -> Self {
        Self { registry, revision, shared: Mutex::default() }
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
    fn add_service(&self, service: &Service, agent: Agent, snapshot: &mut Snapshot) {
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

    fn add_cluster(&self, service: &Service, port: &ServicePort, agent: Agent, snapshot: &mut Snapshot) {
        let name = port.cluster_name(service);
        // All that these two are made of; their metadata are maps, which have no stable encoding.
        let content = || format!("{VERSION} {agent:?} {:?} {port:?}", service.resolution);
        let made = self.share(Kind::Cluster, agent, &name, || {
            Resource::encode_as(name.clone(), &cluster::outbound(service, port, agent), &content())
        });
        snapshot.insert(Kind::Cluster, made);
        if service.resolution == Resolution::Endpoints {
            let made = self.share(Kind::Endpoints, agent, &name, || {
                Resource::encode_as(name.clone(), &endpoint::assignment(service, port), &content())
            });
            snapshot.insert(Kind::Endpoints, made);
        }
    }

    /// Routes of one port of a service, for whatever host the caller writes.
    fn add_routes(&self, service: &Service, port: &ServicePort, agent: Agent, snapshot: &mut Snapshot) -> String {
        let name = route::table_name(service, port);
        let made = self.share(Kind::Routes, agent, &name, || {
            Resource::encode(name.clone(), &route::table(&self.registry, service, port, agent))
        });
        snapshot.insert(Kind::Routes, made);
        name
    }

    fn share(&self, kind: Kind, agent: Agent, name: &str, make: impl FnOnce() -> Arc<Resource>) -> Arc<Resource> {
        // A panic elsewhere leaves the map whole: entries are inserted in one step.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.entry((kind, agent, name.to_owned())).or_insert_with(make).clone()
    }
}
