//! Clusters: one per port of a service, one per application port behind a sidecar.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use api::kinds::AppProtocol;
use wire::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use wire::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy, TransportSocketMatch,
};
use wire::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, LoadBalancingPolicy, OutlierDetection, load_balancing_policy,
};
use wire::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http2ProtocolOptions, TypedExtensionConfig};
use wire::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use wire::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use wire::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use wire::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use wire::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use wire::pb::google::protobuf::{Any, Struct};

use super::message::{ads, any, duration, number, socket, text};
use super::{Agent, endpoint, tls};
use crate::registry::{Resolution, Service, ServicePort};

/// A quarter of a second, as often recommended, is too little on a loaded host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// In effect none: limits are the user's to set.
const NO_LIMIT: u32 = 100_000;

/// The cluster of a service's port.
pub(super) fn outbound(service: &Service, port: &ServicePort, agent: Agent) -> Cluster {
    let mut cluster = Cluster { name: port.cluster_name(service), ..Cluster::default() };
    match service.resolution {
        Resolution::Endpoints => {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
            cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: ads(), service_name: String::new() });
        }
        Resolution::Dns => {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::StrictDns as i32));
            cluster.load_assignment = Some(endpoint::assignment(service, port));
        }
    }
    secure(&mut cluster, port, agent);
    if agent == Agent::Grpc {
        // What the library does not implement is left out, and so is what it always does.
        cluster.lb_policy = LbPolicy::RoundRobin as i32;
        return cluster;
    }
    cluster.lb_policy = LbPolicy::LeastRequest as i32;
    if agent == Agent::Ripstop {
        cluster.load_balancing_policy = Some(adaptive());
    }
    cluster.connect_timeout = duration(CONNECT_TIMEOUT);
    cluster.circuit_breakers = Some(no_limits());
    cluster.outlier_detection = Some(outlier_detection());
    cluster.typed_extension_protocol_options = protocol_options(port.protocol);
    cluster
}

/// Ripstop's own policy, known by its name.
fn adaptive() -> LoadBalancingPolicy {
    let extension = TypedExtensionConfig {
        name: "ripstop.dev/adaptive".to_owned(),
        typed_config: Some(Any {
            type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(),
            value: Vec::new(),
        }),
    };
    let policy = load_balancing_policy::Policy { typed_extension_config: Some(extension) };
    LoadBalancingPolicy { policies: vec![policy] }
}

/// The application behind a sidecar.
pub(super) fn inbound(name: &str, application: SocketAddr, protocol: AppProtocol) -> Cluster {
    let target = Endpoint { address: socket(application.ip(), application.port()), ..Endpoint::default() };
    let only = LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(target)), ..LbEndpoint::default() };
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        connect_timeout: duration(CONNECT_TIMEOUT),
        circuit_breakers: Some(no_limits()),
        typed_extension_protocol_options: protocol_options(protocol),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![only], ..LocalityLbEndpoints::default() }],
            ..ClusterLoadAssignment::default()
        }),
        ..Cluster::default()
    }
}

/// mTLS where the endpoints speak it.
fn secure(cluster: &mut Cluster, port: &ServicePort, agent: Agent) {
    let identities = port.identities();
    if identities.is_empty() {
        return;
    }
    let socket = tls::client(&identities, agent);
    if !endpoint::is_mixed(port) {
        cluster.transport_socket = Some(socket);
        return;
    }
    let istio = [(endpoint::TLS_MODE.to_owned(), text("istio"))];
    cluster.transport_socket_matches = vec![
        TransportSocketMatch {
            name: "tlsMode-istio".into(),
            r#match: Some(Struct { fields: istio.into_iter().collect() }),
            transport_socket: Some(socket),
        },
        TransportSocketMatch {
            name: "tlsMode-disabled".into(),
            r#match: Some(Struct::default()),
            transport_socket: Some(tls::plaintext()),
        },
    ];
}

/// HTTP goes on in the protocol in which it came; gRPC and HTTP/2 in HTTP/2.
fn protocol_options(protocol: AppProtocol) -> HashMap<String, wire::pb::google::protobuf::Any> {
    if !protocol.is_http() {
        return HashMap::new();
    }
    let upstream = if protocol.is_http2() {
        let http2 = ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(http2) })
    } else {
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(Http2ProtocolOptions::default()),
            ..UseDownstreamHttpConfig::default()
        })
    };
    let options = HttpProtocolOptions { upstream_protocol_options: Some(upstream), ..HttpProtocolOptions::default() };
    HashMap::from([("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), any(&options))])
}

fn no_limits() -> CircuitBreakers {
    let thresholds = Thresholds {
        max_connections: number(NO_LIMIT),
        max_pending_requests: number(NO_LIMIT),
        max_requests: number(NO_LIMIT),
        max_retries: number(NO_LIMIT),
        ..Thresholds::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..CircuitBreakers::default() }
}

/// Endpoints that cannot be reached are left out soon and for a short time; an application's own 500 says nothing of
/// its instance.
fn outlier_detection() -> OutlierDetection {
    OutlierDetection {
        enforcing_consecutive_5xx: number(0),
        enforcing_success_rate: number(0),
        enforcing_local_origin_success_rate: number(0),
        consecutive_gateway_failure: number(5),
        enforcing_consecutive_gateway_failure: number(100),
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: number(2),
        enforcing_consecutive_local_origin_failure: number(100),
        interval: duration(Duration::from_secs(1)),
        base_ejection_time: duration(Duration::from_secs(5)),
        max_ejection_percent: number(90),
        ..OutlierDetection::default()
    }
}
