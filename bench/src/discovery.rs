//! A control plane for the proxies that are measured: clusters and their endpoints by ADS (state of the world), and
//! endpoints that move.

use crate::measure;
use crate::peers::service;
use anyhow::Context;
use prost::{Message, Name};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use wire::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
use wire::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, circuit_breakers::Thresholds};
use wire::pb::envoy::config::core::v3 as core;
use wire::pb::envoy::config::endpoint::v3 as endpoint;
use wire::pb::envoy::service::discovery::v3::aggregated_discovery_service_server as ads;
use wire::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use wire::pb::google::protobuf::{Any, UInt32Value};

const UNLIMITED: u32 = 1_000_000;

/// What there is to discover.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mesh {
    pub services: usize,
    pub endpoints_per_service: usize,
    /// Endpoints that move, per second; zero: none does.
    pub moves: f64,
}

impl Mesh {
    /// Loopback addresses at which the backend must listen.
    pub fn hosts(&self) -> u8 {
        (2 * self.endpoints_per_service) as u8
    }
}

/// A running control plane; it ends when dropped.
pub struct Discovery {
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// How often something of each service has moved.
type Moves = Arc<Vec<usize>>;

impl Discovery {
    /// All endpoints are the backend at this port. Runs on CPU `on`.
    pub fn start(mesh: Mesh, backend: u16, on: usize) -> anyhow::Result<Discovery> {
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("discovery".into()).spawn(move || {
            if let Err(error) = serve(mesh, backend, on, &tell, stopped) {
                let _ = tell.send(Err(error));
            }
        })?;
        Ok(Discovery { address: told.recv().context("the control plane ended")??, _stop: stop })
    }
}

fn serve(
    mesh: Mesh,
    backend: u16,
    on: usize,
    tell: &std::sync::mpsc::Sender<anyhow::Result<SocketAddr>>,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    measure::pin(on)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (moving, moves) = watch::channel(Arc::new(vec![0; mesh.services]));
        let server = ads::AggregatedDiscoveryServiceServer::new(Server { mesh, backend, moves });
        let served = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tell.send(Ok(address)).context("nobody waits for the control plane")?;
        tokio::select! {
            outcome = served => Ok(outcome?),
            () = keep_moving(mesh, &moving) => Ok(()),
            _ = stopped => Ok(()),
        }
    })
}

/// Service after service, one endpoint each.
async fn keep_moving(mesh: Mesh, moves: &watch::Sender<Moves>) {
    if mesh.moves == 0.0 {
        std::future::pending::<()>().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / mesh.moves));
    let mut next = 0;
    loop {
        ticks.tick().await;
        moves.send_modify(|moves| Arc::make_mut(moves)[next] += 1);
        next = (next + 1) % mesh.services;
    }
}

#[derive(Clone)]
struct Server {
    mesh: Mesh,
    backend: u16,
    moves: watch::Receiver<Moves>,
}

#[tonic::async_trait]
impl ads::AggregatedDiscoveryService for Server {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let (out, responses) = mpsc::channel(16);
        let client = Client { server: self.clone(), sent: BTreeMap::new(), nonce: 0, out };
        tokio::spawn(client.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta"))
    }
}

/// One proxy's stream.
struct Client {
    server: Server,
    /// Services whose endpoints it asked for, and how far it was told of each.
    sent: BTreeMap<usize, usize>,
    nonce: u64,
    out: mpsc::Sender<Result<DiscoveryResponse, Status>>,
}

impl Client {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>) {
        loop {
            let told = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.answer(&request).await,
                    Ok(None) | Err(_) => return,
                },
                changed = self.server.moves.changed() => match changed {
                    Ok(()) => self.tell_moves().await,
                    Err(_) => return,
                },
            };
            if told.is_none() {
                return;
            }
        }
    }

    /// `None` when the proxy has gone.
    async fn answer(&mut self, request: &DiscoveryRequest) -> Option<()> {
        if let Some(refused) = &request.error_detail {
            let _ = self.out.send(Err(Status::aborted(format!("refused: {}", refused.message)))).await;
            return None;
        }
        if request.type_url == Cluster::type_url() && request.response_nonce.is_empty() {
            let clusters = (0..self.server.mesh.services).map(|number| any(&cluster(&service(number))));
            return self.send(Cluster::type_url(), clusters.collect()).await;
        }
        if request.type_url != endpoint::ClusterLoadAssignment::type_url() {
            return Some(());
        }
        let names: BTreeMap<String, usize> = (0..self.server.mesh.services).map(|n| (service(n), n)).collect();
        let asked: Vec<usize> = request.resource_names.iter().filter_map(|name| names.get(name).copied()).collect();
        let fresh = asked.iter().any(|service| !self.sent.contains_key(service));
        if !fresh && !request.response_nonce.is_empty() {
            return Some(());
        }
        self.sent = asked.into_iter().map(|service| (service, usize::MAX)).collect();
        self.tell_moves().await
    }

    /// Endpoints of the services that it wants and of which something moved.
    async fn tell_moves(&mut self) -> Option<()> {
        let moves = self.server.moves.borrow_and_update().clone();
        let mut told = Vec::new();
        for (&service, known) in &mut self.sent {
            if *known != moves[service] {
                *known = moves[service];
                told.push(any(&self.server.assignment(service, moves[service])));
            }
        }
        if told.is_empty() {
            return Some(());
        }
        self.send(endpoint::ClusterLoadAssignment::type_url(), told).await
    }

    async fn send(&mut self, type_url: String, resources: Vec<Any>) -> Option<()> {
        self.nonce += 1;
        let (version_info, nonce) = (self.nonce.to_string(), self.nonce.to_string());
        let response = DiscoveryResponse { version_info, type_url, nonce, resources, ..DiscoveryResponse::default() };
        self.out.send(Ok(response)).await.ok()
    }
}

impl Server {
    /// Endpoints move in turns, each between two addresses of its own.
    fn assignment(&self, number: usize, moved: usize) -> endpoint::ClusterLoadAssignment {
        let count = self.mesh.endpoints_per_service;
        let endpoints = (0..count).map(|index| {
            let times = (moved + count - 1 - index) / count;
            let host = 1 + index + count * (times % 2);
            lb_endpoint(SocketAddr::from(([127, 0, 0, host as u8], self.backend)))
        });
        let locality = endpoint::LocalityLbEndpoints { lb_endpoints: endpoints.collect(), ..Default::default() };
        endpoint::ClusterLoadAssignment {
            cluster_name: service(number),
            endpoints: vec![locality],
            ..endpoint::ClusterLoadAssignment::default()
        }
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn lb_endpoint(address: SocketAddr) -> endpoint::LbEndpoint {
    let socket = core::SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(address.port().into())),
        ..core::SocketAddress::default()
    };
    let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
    let endpoint = endpoint::Endpoint { address: Some(address), ..endpoint::Endpoint::default() };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..endpoint::LbEndpoint::default()
    }
}

fn cluster(name: &str) -> Cluster {
    let ads = core::ConfigSource {
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default())),
        resource_api_version: core::ApiVersion::V3.into(),
        ..core::ConfigSource::default()
    };
    let most = Some(UInt32Value { value: UNLIMITED });
    let limits =
        Thresholds { max_connections: most, max_pending_requests: most, max_requests: most, ..Thresholds::default() };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads), ..EdsClusterConfig::default() }),
        circuit_breakers: Some(CircuitBreakers { thresholds: vec![limits], ..CircuitBreakers::default() }),
        ..Cluster::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn one_endpoint_moves_at_a_time() {
        let mesh = Mesh { services: 1, endpoints_per_service: 3, moves: 1.0 };
        let (_, moves) = watch::channel(Arc::new(vec![0]));
        let server = Server { mesh, backend: 80, moves };
        let hosts = |moved: usize| -> BTreeSet<Vec<u8>> {
            let assignment = server.assignment(0, moved);
            assignment.endpoints[0].lb_endpoints.iter().map(Message::encode_to_vec).collect()
        };
        for moved in 0..8 {
            let (before, after) = (hosts(moved), hosts(moved + 1));
            assert_eq!((before.len(), after.difference(&before).count()), (3, 1), "{moved}");
        }
    }
}
