//! A simulated proxy: one delta stream that subscribes as a sidecar does and acknowledges everything.

use super::mesh;
use anyhow::Context;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use wire::pb::envoy::config::core::v3::Node;
use wire::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use wire::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use wire::xds::server::Kind;

/// A control plane under load answers late, but it answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a proxy tells the one who measures.
pub(super) enum Told {
    /// It has everything it asked for.
    Ready,
    /// It has acknowledged endpoints of a service.
    Endpoints {
        proxy: usize,
        service: usize,
        at: Instant,
    },
    /// Bytes it received.
    Received(usize),
    Failed(anyhow::Error),
}

pub(super) struct Client {
    proxy: usize,
    /// Services by the name of their cluster.
    clusters: BTreeMap<String, usize>,
    /// Resources that are still to come.
    awaited: BTreeSet<String>,
    ready: bool,
    told: mpsc::UnboundedSender<Told>,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
}

pub(super) async fn run(proxy: usize, uses: Vec<usize>, address: SocketAddr, told: mpsc::UnboundedSender<Told>) {
    if let Err(error) = serve(proxy, uses, address, told.clone()).await {
        // Nobody listens any more at the end.
        let _ = told.send(Told::Failed(error.context(mesh::node(proxy))));
    }
}

async fn serve(
    proxy: usize,
    uses: Vec<usize>,
    address: SocketAddr,
    told: mpsc::UnboundedSender<Told>,
) -> anyhow::Result<()> {
    let clusters: BTreeMap<String, usize> = uses.iter().map(|&service| (mesh::cluster(service), service)).collect();
    let tables = uses.iter().map(|&service| mesh::table(service));
    let awaited = clusters.keys().cloned().chain(tables).collect();
    let (requests, stream) = mpsc::channel(8);
    let mut client = Client { proxy, clusters, awaited, ready: false, told, requests };
    let node = Node { id: mesh::node(proxy), ..Node::default() };
    client.send(DeltaDiscoveryRequest { node: Some(node), ..subscribe(Kind::Cluster, ["*".to_owned()]) }).await?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let mut responses = service.delta_aggregated_resources(ReceiverStream::new(stream)).await?.into_inner();
    client.send(subscribe(Kind::Listener, ["*".to_owned()])).await?;
    loop {
        let next = responses.message();
        let response = if client.ready { next.await? } else { tokio::time::timeout(PATIENCE, next).await?? };
        client.take(response.context("the control plane ended the stream")?).await?;
    }
}

fn subscribe(kind: Kind, names: impl IntoIterator<Item = String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.into_iter().collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

impl Client {
    async fn send(&self, request: DeltaDiscoveryRequest) -> anyhow::Result<()> {
        self.requests.send(request).await.context("the stream is closed")
    }

    /// Acknowledges, and asks for what the response leads to.
    async fn take(&mut self, response: DeltaDiscoveryResponse) -> anyhow::Result<()> {
        let received = response.encoded_len();
        let kind = Kind::from_type_url(&response.type_url).context("a response of no known type")?;
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        self.send(acknowledgement).await?;
        let names: Vec<String> = response.resources.into_iter().map(|resource| resource.name).collect();
        match kind {
            Kind::Cluster => {
                let names: Vec<String> = names.into_iter().filter(|name| self.clusters.contains_key(name)).collect();
                if !names.is_empty() {
                    self.send(subscribe(Kind::Endpoints, names)).await?;
                }
            }
            Kind::Listener if !self.ready => {
                let tables: Vec<String> = self.clusters.values().map(|&service| mesh::table(service)).collect();
                self.send(subscribe(Kind::Routes, tables)).await?;
            }
            Kind::Endpoints => self.note_endpoints(&names),
            Kind::Routes => self.awaited.retain(|name| !names.contains(name)),
            Kind::Listener | Kind::Secret | Kind::ScopedRoutes | Kind::VirtualHosts => {}
        }
        self.tell(Told::Received(received));
        if !self.ready && self.awaited.is_empty() {
            self.ready = true;
            self.tell(Told::Ready);
        }
        Ok(())
    }

    fn note_endpoints(&mut self, names: &[String]) {
        let at = Instant::now();
        for name in names {
            self.awaited.remove(name);
            if self.ready
                && let Some(&service) = self.clusters.get(name)
            {
                self.tell(Told::Endpoints { proxy: self.proxy, service, at });
            }
        }
    }

    fn tell(&self, told: Told) {
        // Nobody listens any more at the end.
        let _ = self.told.send(told);
    }
}
