//! Proxyless gRPC: an `api_listener` per name that a client may dial (`xds:///orders`, `xds:///orders:50051`).

use std::collections::BTreeSet;

use wire::pb::envoy::config::listener::v3::{ApiListener, Listener};
use wire::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use wire::xds::server::{Kind, Resource, Snapshot};

use super::listener::{domains, from_ads, router};
use super::message::any;
use super::{Agent, World};
use std::sync::Arc;

use crate::registry::{Service, Workload};

/// A client that is no workload sees every service; a workload, what its Sidecar allows.
pub(super) fn add(world: &World, workload: Option<&Workload>, snapshot: &mut Snapshot) {
    let mut services = scope(world, workload);
    let namespace = workload.map(|workload| workload.namespace.as_str());
    services.sort_by_key(|service| (Some(service.namespace.as_str()) != namespace, &service.host));
    let mut taken = BTreeSet::new();
    for service in services {
        for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
            let mut names = domains(service, port);
            names.retain(|name| taken.insert(name.clone()));
            let table = world.add_routes(service, port, Agent::Grpc, snapshot);
            for name in names {
                snapshot.insert(Kind::Listener, listener(&name, &table));
            }
        }
        world.add_service(service, Agent::Grpc, snapshot);
    }
}

fn scope<'a>(world: &'a World, workload: Option<&Workload>) -> Vec<&'a Arc<Service>> {
    let registry = &world.registry;
    let sidecar = workload.and_then(|workload| Some((workload, registry.sidecar_of(workload)?)));
    let Some((workload, sidecar)) = sidecar else { return registry.services.values().collect() };
    let hosts = sidecar.egress.iter().flat_map(|egress| egress.hosts());
    let mut services: Vec<&Arc<Service>> =
        hosts.flat_map(|host| registry.services_of(&host, &workload.namespace)).collect();
    services.sort_by_key(|service| &service.host);
    services.dedup_by_key(|service| &service.host);
    services
}

fn listener(name: &str, table: &str) -> std::sync::Arc<Resource> {
    let manager = HttpConnectionManager {
        stat_prefix: name.to_owned(),
        route_specifier: Some(from_ads(table.to_owned())),
        http_filters: vec![router()],
        ..HttpConnectionManager::default()
    };
    let listener = Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener { api_listener: Some(any(&manager)) }),
        ..Listener::default()
    };
    Resource::encode(name, &listener)
}
