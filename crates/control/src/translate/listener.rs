//! Listeners of a sidecar: inbound ports, one outbound port per service, and the HTTP proxy port for all services.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::kinds::sidecar::{Egress, Ingress, SidecarPort};
use wire::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use wire::pb::envoy::config::route::v3::route::Action;
use wire::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use wire::pb::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, VirtualHost};
use wire::pb::envoy::extensions::filters::http::router::v3::Router;
use wire::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ProxyStatusConfig, RouteSpecifier, UpgradeConfig,
};
use wire::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};
use wire::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use wire::xds::server::{Kind, Resource, Snapshot};

use super::message::{ads, any, duration, socket};
use super::route_match::any_request;
use super::{Agent, World, cluster, route, tls};
use crate::registry::{Service, ServicePort, Workload};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The route table of the port that serves as `HTTP_PROXY`.
const HTTP_PROXY: &str = "http_proxy";

/// Where the mesh reaches the application.
pub(super) fn add_inbound(workload: &Workload, ingress: &Ingress, snapshot: &mut Snapshot) {
    let Some(application) = ingress.endpoint() else { return };
    let number = ingress.port.number.0;
    let protocol = ingress.port.protocol();
    let name = format!("inbound|{number}");
    let target = format!("inbound|{number}||");
    snapshot.insert(Kind::Cluster, Resource::encode(&*target, &cluster::inbound(&target, application, protocol)));
    let stat_prefix = format!("inbound_{number}");
    let filter = if protocol.is_http() {
        http(&stat_prefix, RouteSpecifier::RouteConfig(inbound_routes(&name, &target)))
    } else {
        tcp(&stat_prefix, &target)
    };
    let mut chain = FilterChain { filters: vec![filter], ..FilterChain::default() };
    chain.transport_socket = workload.mtls.then(tls::server);
    add(&name, ingress.bind, number, chain, snapshot);
}

/// The mesh's own time limits apply at the caller's side.
fn inbound_routes(name: &str, target: &str) -> RouteConfiguration {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(target.to_owned())),
        timeout: duration(Duration::ZERO),
        ..RouteAction::default()
    };
    let route = Route { r#match: Some(any_request()), action: Some(Action::Route(action)), ..Route::default() };
    let host =
        VirtualHost { name: name.to_owned(), domains: vec!["*".into()], routes: vec![route], ..Default::default() };
    RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..RouteConfiguration::default() }
}

/// Where the application reaches one service.
pub(super) fn add_outbound(
    world: &World,
    egress: &Egress,
    port: &SidecarPort,
    service: &Arc<Service>,
    agent: Agent,
    snapshot: &mut Snapshot,
) {
    let named = service.ports.iter().find(|candidate| candidate.name == port.name && !port.name.is_empty());
    let Some(target) = named.or_else(|| service.ports.first()) else { return };
    let number = port.number.0;
    let stat_prefix = format!("outbound_{number}");
    let filter = if target.protocol.is_http() {
        let table = world.add_routes(service, target, agent, snapshot);
        http(&stat_prefix, from_ads(table))
    } else {
        tcp(&stat_prefix, &target.cluster_name(service))
    };
    let chain = FilterChain { filters: vec![filter], ..FilterChain::default() };
    add(&format!("outbound|{number}"), egress.bind, number, chain, snapshot);
}

/// Where the application reaches every service by its name, as with `HTTP_PROXY`.
pub(super) fn add_http_proxy(
    world: &World,
    egress: &Egress,
    port: &SidecarPort,
    services: &[&Arc<Service>],
    workload: &Workload,
    agent: Agent,
    snapshot: &mut Snapshot,
) {
    let number = port.number.0;
    let mut taken = BTreeSet::new();
    let mut hosts = Vec::new();
    // Short names mean the workload's own namespace first.
    let (own, others): (Vec<&Arc<Service>>, Vec<&Arc<Service>>) =
        services.iter().partition(|service| service.namespace == workload.namespace);
    for service in own.into_iter().chain(others) {
        for port in service.ports.iter().filter(|port| port.protocol.is_http()) {
            let mut domains = domains(service, port);
            domains.retain(|domain| taken.insert(domain.clone()));
            if !domains.is_empty() {
                hosts.push(route::virtual_host(&world.registry, service, port, domains, agent));
            }
        }
    }
    let name = format!("{HTTP_PROXY}|{number}");
    let table = RouteConfiguration { name: name.clone(), virtual_hosts: hosts, ..RouteConfiguration::default() };
    snapshot.insert(Kind::Routes, Resource::encode(&*name, &table));
    let filter = http(&format!("outbound_{number}"), from_ads(name));
    let chain = FilterChain { filters: vec![filter], ..FilterChain::default() };
    add(&format!("outbound|{number}"), egress.bind, number, chain, snapshot);
}

/// The names that a request may have for a port of a service.
pub(super) fn domains(service: &Service, port: &ServicePort) -> Vec<String> {
    let mut names = vec![service.host.clone()];
    if service.in_cluster {
        let (name, namespace) = (&service.name, &service.namespace);
        names =
            vec![name.clone(), format!("{name}.{namespace}"), format!("{name}.{namespace}.svc"), service.host.clone()];
    }
    let bare = port.number == 80 || service.ports.len() == 1;
    let mut domains = Vec::new();
    for name in names {
        domains.push(format!("{name}:{}", port.number));
        if bare {
            domains.push(name);
        }
    }
    domains
}

fn add(name: &str, bind: Option<IpAddr>, port: u16, chain: FilterChain, snapshot: &mut Snapshot) {
    let listener = Listener {
        name: name.to_owned(),
        address: socket(bind.unwrap_or(LOOPBACK), port),
        filter_chains: vec![chain],
        ..Listener::default()
    };
    snapshot.insert(Kind::Listener, Resource::encode(name, &listener));
}

pub(super) fn from_ads(route_config_name: String) -> RouteSpecifier {
    RouteSpecifier::Rds(Rds { config_source: ads(), route_config_name })
}

fn http(stat_prefix: &str, routes: RouteSpecifier) -> Filter {
    let websocket = UpgradeConfig { upgrade_type: "websocket".into(), ..UpgradeConfig::default() };
    let manager = HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(routes),
        http_filters: vec![router()],
        upgrade_configs: vec![websocket],
        // Says why a request failed, and to a client in the mesh also whether it may try again.
        proxy_status_config: Some(ProxyStatusConfig::default()),
        ..HttpConnectionManager::default()
    };
    Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    }
}

pub(super) fn router() -> HttpFilter {
    HttpFilter {
        name: "envoy.filters.http.router".into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..HttpFilter::default()
    }
}

fn tcp(stat_prefix: &str, cluster: &str) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    Filter {
        name: "envoy.filters.network.tcp_proxy".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&proxy))),
    }
}
