//! The gRPC servers: over TLS for the mesh, without for clients on this machine.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::BufferSettings;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::hub::{Hub, wait_for_stop};
use super::messages;
use super::stream::{Delta, Dialect, StateOfTheWorld, serve};
use crate::ca::service::{CertificateRequest, CertificateResponse, CertificateService, METHOD, SERVICE};
use crate::peer::{Connection, Peer};

const STATE_OF_THE_WORLD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// A delta client that comes back names every resource it has.
const LARGEST_REQUEST: usize = 64 << 20;
/// What is made ready for a request: most only acknowledge.
const USUAL_REQUEST: usize = 512;
const HANDSHAKE: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The TLS configuration in force; connections take it as they come, so that certificates rotate without a restart.
pub type TlsConfig = Arc<Mutex<Arc<rustls::ServerConfig>>>;
type Connections = mpsc::Sender<std::io::Result<Connection>>;
type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Serves what arrives on `connections` until `stop`.
pub async fn run(
    connections: mpsc::Receiver<std::io::Result<Connection>>,
    hub: Arc<Hub>,
    certificates: CertificateService,
    stop: watch::Receiver<bool>,
) {
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(Discovery { hub })
        .add_service(Certificates { service: certificates })
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), wait_for_stop(stop))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the xDS server ended");
    }
}

/// Accepts and shakes hands, each in its own task, until nobody takes connections any more.
pub async fn accept_tls(listener: TcpListener, tls: TlsConfig, connections: Connections) {
    while let Some(stream) = accept(&listener, &connections).await {
        let config = tls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let connections = connections.clone();
        tokio::spawn(async move {
            let handshake = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(HANDSHAKE, handshake).await {
                Ok(Ok(stream)) => {
                    let peer = Peer { identity: identity_of(&stream), local: false };
                    // Refused only at the end.
                    let _ = connections.send(Ok(Connection::new(stream, peer))).await;
                }
                Ok(Err(error)) => tracing::warn!(%error, "TLS handshake failed"),
                Err(_) => tracing::warn!("TLS handshake took too long"),
            }
        });
    }
}

/// The chain was verified in the handshake.
fn identity_of(stream: &TlsStream<TcpStream>) -> Option<identity::SpiffeId> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    identity::peer_names(certificate).ok()?.spiffe_id()
}

const LOCAL: Peer = Peer { identity: None, local: true };

pub async fn accept_tcp(listener: TcpListener, connections: Connections) {
    while let Some(stream) = accept(&listener, &connections).await {
        let _ = connections.send(Ok(Connection::new(stream, LOCAL))).await;
    }
}

pub async fn accept_unix(listener: UnixListener, connections: Connections) {
    while !connections.is_closed() {
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.send(Ok(Connection::new(stream, LOCAL))).await),
            Err(error) => pause(error).await,
        }
    }
}

async fn accept(listener: &TcpListener, connections: &Connections) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return None,
        };
        match accepted {
            Ok((stream, _)) => {
                // Small messages both ways; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                return Some(stream);
            }
            Err(error) => pause(error).await,
        }
    }
}

/// Out of file descriptors, mostly: waiting is all that helps.
async fn pause(error: std::io::Error) {
    tracing::warn!(%error, "accept failed");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`; by hand, since resources are shared bytes here.
#[derive(Clone)]
struct Discovery {
    hub: Arc<Hub>,
}

impl NamedService for Discovery {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<http::Request<Body>> for Discovery {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let hub = self.hub.clone();
        match request.uri().path() {
            STATE_OF_THE_WORLD => answer(streaming::<StateOfTheWorld>(hub, request)),
            DELTA => answer(streaming::<Delta>(hub, request)),
            path => unknown(path),
        }
    }
}

fn streaming<D: Dialect>(hub: Arc<Hub>, request: http::Request<Body>) -> http::Response<Body> {
    let (head, body) = request.into_parts();
    let peer = head.extensions.get::<Peer>().cloned();
    let Some(peer) = peer.filter(|peer| peer.local || peer.identity.is_some()) else {
        return Status::unauthenticated("xDS needs a client certificate of this mesh").into_http();
    };
    if head.headers.get("grpc-encoding").is_some_and(|encoding| encoding != "identity") {
        return Status::unimplemented("compressed requests are not read here").into_http();
    }
    let decoder = ProstDecoder::<D::Request>::new(BufferSettings::new(USUAL_REQUEST, LARGEST_REQUEST));
    let requests = Streaming::new_request(decoder, body, None, Some(LARGEST_REQUEST));
    let (out, responses) = mpsc::channel(16);
    tokio::spawn(serve::<D>(hub, peer, requests, out));
    messages::response(responses)
}

#[derive(Clone)]
struct Certificates {
    service: CertificateService,
}

impl NamedService for Certificates {
    const NAME: &'static str = SERVICE;
}

impl tower::Service<http::Request<Body>> for Certificates {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        if request.uri().path() != METHOD {
            return unknown(request.uri().path());
        }
        let service = self.clone();
        Box::pin(async move {
            let codec: ProstCodec<CertificateResponse, CertificateRequest> = ProstCodec::default();
            Ok(Grpc::new(codec).unary(service, request).await)
        })
    }
}

impl UnaryService<CertificateRequest> for Certificates {
    type Response = CertificateResponse;
    type Future = std::future::Ready<Result<Response<CertificateResponse>, Status>>;

    fn call(&mut self, request: Request<CertificateRequest>) -> Self::Future {
        std::future::ready(self.service.create(&request))
    }
}

fn unknown(path: &str) -> Answer {
    answer(Status::unimplemented(format!("{path} is not served here")).into_http())
}

fn answer(response: http::Response<Body>) -> Answer {
    Box::pin(std::future::ready(Ok(response)))
}
