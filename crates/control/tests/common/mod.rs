//! A control plane on loopback with a small mesh, and clients for it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use control::ca::service::{CertificateRequest, CertificateResponse, METHOD};
use control::{Control, Handle, Options, Plain};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use identity::tls::{CertKey, ClientTls, Verify, client_config};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};
use wire::pb::envoy::config::core::v3::Node;
use wire::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use wire::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use wire::xds::server::Kind;

pub(crate) use tonic::transport::Channel;

pub(crate) const WEB: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1}
spec: {address: 127.0.0.1, labels: {app: web-1}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web-1}
spec:
  workloadSelector: {labels: {app: web-1}}
  egress: [{port: {number: 9200, protocol: HTTP, name: http}, hosts: [./orders.default.svc.cluster.local]}]
"#;

pub(crate) const ORDERS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {selector: {app: orders}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1}
spec: {address: 127.0.0.1, ports: {http: 9001}, labels: {app: orders}, serviceAccount: orders}
"#;

/// Longer than anything here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Mesh {
    folder: PathBuf,
    plain: Plain,
    handle: Option<Handle>,
}

impl Mesh {
    pub(crate) async fn start(name: &str) -> Self {
        Self::start_with(name, |_| Plain::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).await
    }

    /// With the plaintext listener on a Unix socket.
    pub(crate) async fn start_on_unix_socket(name: &str) -> Self {
        Self::start_with(name, |folder| Plain::Unix(folder.join("xds.sock"))).await
    }

    async fn start_with(name: &str, plain: impl FnOnce(&Path) -> Plain) -> Self {
        let folder = std::env::temp_dir().join(format!("ripstop-control-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("mesh")).unwrap();
        let mut mesh = Self { plain: plain(&folder), folder, handle: None };
        mesh.write("web.yaml", WEB);
        mesh.write("orders.yaml", ORDERS);
        mesh.open().await;
        mesh
    }

    async fn open(&mut self) {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            config: self.folder.join("mesh"),
            state: self.folder.join("state"),
            listen: Some(any),
            listen_plaintext: Some(self.plain.clone()),
            admin: Some(any),
            trust_domain: "cluster.local".into(),
        };
        self.handle = Some(Control::start(options).await.unwrap());
    }

    pub(crate) async fn restart(&mut self) {
        self.handle.take().unwrap().shutdown().await;
        self.open().await;
    }

    pub(crate) async fn stop(mut self) {
        self.handle.take().unwrap().shutdown().await;
        std::fs::remove_dir_all(&self.folder).unwrap();
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// In one step, as editors do.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let new = self.folder.join(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.join("mesh").join(file)).unwrap();
    }

    fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    /// Over TLS, with or without a certificate of one's own; the server's identity is checked.
    pub(crate) async fn channel(&self, cert: Option<CertKey>) -> Channel {
        let ca_pem = control::trust_bundle(&self.state(), "cluster.local").unwrap();
        let verify = Verify::Ca { ca_pem, names: Vec::new(), server_name: true };
        let tls = ClientTls { cert, verify, alpn: vec![b"h2".to_vec()], send_sni: true, ..ClientTls::default() };
        let address = Plain::Tcp(self.handle().listen().unwrap());
        let connector = Connector { address, tls: Some(client_config(&tls).unwrap()) };
        Endpoint::from_static("http://control").connect_with_connector(connector).await.unwrap()
    }

    pub(crate) async fn local_channel(&self) -> Channel {
        let bound = self.handle().listen_plaintext().map(Plain::Tcp);
        let connector = Connector { address: bound.unwrap_or_else(|| self.plain.clone()), tls: None };
        Endpoint::from_static("http://control").connect_with_connector(connector).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(self.handle().admin().unwrap()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get(path).header("host", "admin").body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        driver.abort();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn report(&self, path: &str) -> Value {
        let (_, body) = self.get(path).await;
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Waits until the report contains a text.
    pub(crate) async fn until(&self, path: &str, text: &str) -> Value {
        self.until_that(path, |report| report.to_string().contains(text)).await
    }

    pub(crate) async fn until_that(&self, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        loop {
            let report = self.report(path).await;
            if holds(&report) {
                return report;
            }
            assert!(start.elapsed() < PATIENCE, "{path} stays {report:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks for a certificate; the PEMs of the answer.
pub(crate) async fn create(channel: &Channel, csr: &str, token: Option<&str>) -> Result<Vec<String>, Status> {
    let mut request = Request::new(CertificateRequest { csr: csr.to_owned(), validity_duration: 600 });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let codec: tonic_prost::ProstCodec<CertificateRequest, CertificateResponse> = tonic_prost::ProstCodec::default();
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http::uri::PathAndQuery::from_static(METHOD);
    Ok(client.unary(request, path, codec).await?.into_inner().cert_chain)
}

pub(crate) fn delta_request(node: &str, kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: node.into(), ..Node::default() }),
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

type Stream = (mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>);

pub(crate) async fn open_delta(channel: &Channel, first: DeltaDiscoveryRequest) -> Result<Stream, Status> {
    let (sender, requests) = mpsc::channel(8);
    sender.send(first).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
    let answers = client.delta_aggregated_resources(ReceiverStream::new(requests)).await?.into_inner();
    Ok((sender, answers))
}

/// Connects over our own sockets and TLS.
#[derive(Clone)]
struct Connector {
    address: Plain,
    tls: Option<Arc<rustls::ClientConfig>>,
}

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

impl tower::Service<http::Uri> for Connector {
    type Response = TokioIo<Box<dyn ReadWrite>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let stream: Box<dyn ReadWrite> = match this.address {
                Plain::Tcp(address) => Box::new(TcpStream::connect(address).await?),
                Plain::Unix(path) => Box::new(UnixStream::connect(path).await?),
            };
            let Some(tls) = this.tls else { return Ok(TokioIo::new(stream)) };
            let name = "localhost".try_into().expect("a DNS name");
            let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?;
            Ok(TokioIo::new(Box::new(stream) as Box<dyn ReadWrite>))
        })
    }
}
