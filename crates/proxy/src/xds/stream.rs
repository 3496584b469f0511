//! One gRPC stream to a control plane: connects, speaks the protocol, connects again.

use super::Discovery;
use crate::grpc::{Dialer, chain};
use crate::tls::ClientTransport;
use crate::tls::prepare::Preparer;
use http::uri::PathAndQuery;
use model::endpoint::EndpointTarget;
use model::{Address, Snapshot};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::ResourceKind;
use wire::compile::source::{AdsSource, Source};
use wire::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use wire::xds::client::{Client, Protocol, Received, Request};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_BASE: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A state-of-the-world answer for a large mesh.
const LARGEST_MESSAGE: usize = 256 << 20;

/// Which stream to open, and for what.
pub(super) struct Target {
    cluster: String,
    protocol: Protocol,
    source: Source,
    path: &'static str,
    kinds: Vec<ResourceKind>,
    /// Kinds that the bootstrap wants as a whole from here.
    wholes: Vec<ResourceKind>,
    metadata: Vec<(String, String)>,
}

impl Target {
    /// The aggregated stream.
    pub(super) fn ads(ads: &AdsSource, wholes: &[ResourceKind]) -> Target {
        Target {
            cluster: ads.cluster.clone(),
            protocol: if ads.delta { Protocol::Delta } else { Protocol::StateOfTheWorld },
            source: Source::Ads,
            path: match ads.delta {
                true => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
                false => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            },
            kinds: ResourceKind::ALL.to_vec(),
            wholes: wholes.to_vec(),
            metadata: ads.metadata.clone(),
        }
    }

    /// A stream for one kind.
    pub(super) fn own(kind: ResourceKind, cluster: String, delta: bool, whole: bool) -> Target {
        use ResourceKind as K;
        let path = match (kind, delta) {
            (K::Cluster, false) => "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
            (K::Cluster, true) => "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
            (K::Endpoints, false) => "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
            (K::Endpoints, true) => "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
            (K::Listener, false) => "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
            (K::Listener, true) => "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
            (K::Routes, false) => "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
            (K::Routes, true) => "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
            (K::ScopedRoutes, false) => "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes",
            (K::ScopedRoutes, true) => "/envoy.service.route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes",
            // Virtual hosts come by delta only; the configuration sees to it.
            (K::VirtualHosts, _) => "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts",
            (K::Secret, false) => "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
            (K::Secret, true) => "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        };
        Target {
            source: Source::Grpc { cluster: cluster.clone(), delta },
            cluster,
            protocol: if delta { Protocol::Delta } else { Protocol::StateOfTheWorld },
            path,
            kinds: vec![kind],
            wholes: if whole { vec![kind] } else { Vec::new() },
            metadata: Vec::new(),
        }
    }
}

/// Keeps the stream open for ever.
pub(super) async fn run(discovery: Discovery, target: Target) {
    let mut client = Client::new(target.protocol, discovery.node.clone(), &target.wholes);
    let dialer = Dialer::new(Vec::new(), ClientTransport::Plain, CONNECT_TIMEOUT);
    let mut backoff = kit::Backoff::new(RETRY_BASE, RETRY_MAX);
    loop {
        let outcome = match aim(&discovery, &target.cluster, &dialer).await {
            Ok(()) => converse(&discovery, &target, &mut client, &dialer, &mut backoff).await,
            Err(reason) => Err(reason),
        };
        client.disconnected();
        discovery.configuration.lifecycle.set_connected(false);
        let delay = backoff.next(fastrand::f64().max(0.2));
        let reason = outcome.err().unwrap_or_else(|| "the control plane ended the stream".to_string());
        tracing::warn!(cluster = target.cluster, reason, ?delay, "discovery stream lost; connecting again");
        tokio::time::sleep(delay).await;
    }
}

/// Points the dialer at the cluster's current addresses and TLS settings.
async fn aim(discovery: &Discovery, cluster: &str, dialer: &Dialer) -> Result<(), String> {
    let mut core = discovery.configuration.core.lock().await;
    let snapshot = core.complete_snapshot();
    let config = snapshot.clusters.get(cluster).ok_or_else(|| format!("there is no cluster `{cluster}`"))?;
    let assignment = crate::state::adopt::discovered(&snapshot, config);
    let endpoints = assignment.iter().flat_map(|assignment| assignment.endpoints());
    let addresses: Vec<Address> = endpoints
        .filter_map(|endpoint| match &endpoint.target {
            EndpointTarget::Address(address) => Some(address.clone()),
            EndpointTarget::Name(_) => None,
        })
        .collect();
    if addresses.is_empty() {
        return Err(format!("cluster `{cluster}` has no address yet"));
    }
    let only = Snapshot {
        clusters: [(config.name.clone(), config.clone())].into(),
        secrets: snapshot.secrets.clone(),
        ..Snapshot::default()
    };
    let transports = Preparer::default().prepare(&only);
    let transport = transports.clients.get(cluster).and_then(|all| all.first()).cloned();
    dialer.set_addresses(addresses);
    dialer.set_transport(transport.unwrap_or(ClientTransport::Plain));
    Ok(())
}

type Outgoing = mpsc::Sender<Request>;

/// One stream from its first request to its end.
async fn converse(
    discovery: &Discovery,
    target: &Target,
    client: &mut Client,
    dialer: &std::sync::Arc<Dialer>,
    backoff: &mut kit::Backoff,
) -> Result<(), String> {
    want_all(discovery, target, client).await;
    let (out, requests) = mpsc::channel::<Request>(64);
    for request in client.connected() {
        send(&out, request).await?;
    }
    let mut grpc = tonic::client::Grpc::new(dialer.channel()).max_decoding_message_size(LARGEST_MESSAGE);
    grpc.ready().await.map_err(|error| chain(&error))?;
    let path = PathAndQuery::from_static(target.path);
    let mut incoming = match target.protocol {
        Protocol::StateOfTheWorld => {
            let codec = tonic_prost::ProstCodec::<DiscoveryRequest, DiscoveryResponse>::default();
            let requests = only(requests, |request| match request {
                Request::StateOfTheWorld(request) => Some(request),
                Request::Delta(_) => None,
            });
            let stream = grpc.streaming(with_metadata(requests, target), path, codec).await;
            Incoming::StateOfTheWorld(stream.map_err(|status| status.to_string())?.into_inner())
        }
        Protocol::Delta => {
            let codec = tonic_prost::ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
            let requests = only(requests, |request| match request {
                Request::Delta(request) => Some(request),
                Request::StateOfTheWorld(_) => None,
            });
            let stream = grpc.streaming(with_metadata(requests, target), path, codec).await;
            Incoming::Delta(stream.map_err(|status| status.to_string())?.into_inner())
        }
    };
    listen(discovery, target, client, &out, backoff, &mut incoming).await
}

/// The answers of a stream.
enum Incoming {
    StateOfTheWorld(Streaming<DiscoveryResponse>),
    Delta(Streaming<DeltaDiscoveryResponse>),
}

impl Incoming {
    /// The next answer; `None` at the orderly end.
    async fn next(&mut self, client: &mut Client) -> Result<Option<Received>, String> {
        let received = match self {
            Incoming::StateOfTheWorld(stream) => {
                let message = stream.message().await.map_err(|status| status.to_string())?;
                message.map(|message| client.received(message)).transpose()
            }
            Incoming::Delta(stream) => {
                let message = stream.message().await.map_err(|status| status.to_string())?;
                message.map(|message| client.received_delta(message)).transpose()
            }
        };
        received.map_err(|error| error.to_string())
    }
}

fn only<T: Send + 'static>(
    requests: mpsc::Receiver<Request>,
    pick: impl Fn(Request) -> Option<T> + Send + 'static,
) -> impl tokio_stream::Stream<Item = T> + Send + 'static {
    use tokio_stream::StreamExt;
    ReceiverStream::new(requests).filter_map(pick)
}

fn with_metadata<S>(stream: S, target: &Target) -> tonic::Request<S> {
    let mut request = tonic::Request::new(stream);
    for (name, value) in &target.metadata {
        let name = name.parse::<tonic::metadata::MetadataKey<tonic::metadata::Ascii>>();
        if let (Ok(name), Ok(value)) = (name, value.parse()) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

async fn send(out: &Outgoing, request: Request) -> Result<(), String> {
    out.send(request).await.map_err(|_| "the stream was closed".to_string())
}

/// Judges what arrives and asks for what it refers to, until the stream ends.
async fn listen(
    discovery: &Discovery,
    target: &Target,
    client: &mut Client,
    out: &Outgoing,
    backoff: &mut kit::Backoff,
    incoming: &mut Incoming,
) -> Result<(), String> {
    let mut changes = discovery.changes.subscribe();
    let mut answered: HashSet<ResourceKind> = HashSet::new();
    loop {
        let received = tokio::select! {
            received = incoming.next(client) => received?,
            changed = changes.changed() => {
                changed.map_err(|_| "shutting down".to_string())?;
                for request in want_all(discovery, target, client).await {
                    send(out, request).await?;
                }
                discovery.check_first(&answered).await;
                continue;
            }
        };
        let Some(Received { change, verdict }) = received else { return Ok(()) };
        backoff.reset();
        discovery.configuration.lifecycle.set_connected(true);
        let kind = change.kind;
        let answer = match discovery.apply(change, &target.source).await {
            Ok(()) => client.accept(verdict),
            Err(reason) => client.reject(verdict, reason),
        };
        send(out, answer).await?;
        for request in want_all(discovery, target, client).await {
            send(out, request).await?;
        }
        answered.insert(kind);
        discovery.check_first(&answered).await;
    }
}

/// Tells the client what is wanted now; the requests that follow from it.
async fn want_all(discovery: &Discovery, target: &Target, client: &mut Client) -> Vec<Request> {
    let mut requests = Vec::new();
    for kind in target.kinds.iter().copied() {
        let mut interest = discovery.wanted(kind, &target.source).await;
        interest.whole |= target.wholes.contains(&kind);
        requests.extend(client.want(kind, interest));
    }
    requests
}
