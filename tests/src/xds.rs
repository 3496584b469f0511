//! A delta xDS server that knows what it is told, by whichever service it is asked, and remembers what it was asked for.
//!
//! Nothing is sent that was not asked for by name, but to clients that ask for all of a kind. A name that does not exist
//! is answered so at once, unless the server was told to be silent about it.

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use wire::ResourceKind;
use wire::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use wire::pb::google::protobuf::Any;

#[derive(Clone)]
pub struct Xds {
    pub port: u16,
    known: Arc<Mutex<Known>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    version: u64,
    resources: BTreeMap<(ResourceKind, String), Held>,
    silent: BTreeSet<String>,
    asked: Vec<(ResourceKind, String)>,
    refused: Vec<String>,
}

#[derive(Clone)]
struct Held {
    version: u64,
    body: Vec<u8>,
    /// Only for those who ask for it by name.
    on_demand: bool,
}

impl Xds {
    /// Listens on a port of its own.
    pub fn start() -> Xds {
        let listener = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let port = listener.local_addr().expect("bound").port();
        let xds = Xds { port, known: Arc::default(), changes: watch::Sender::new(0) };
        let serving = xds.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serving.clone().serve(stream));
                }
            });
        });
        xds
    }

    /// `yaml` is the resource as a flow mapping, without its type.
    pub fn set(&self, kind: ResourceKind, name: &str, yaml: &str) {
        self.put(kind, name, yaml, false);
    }

    pub fn set_on_demand(&self, kind: ResourceKind, name: &str, yaml: &str) {
        self.put(kind, name, yaml, true);
    }

    fn put(&self, kind: ResourceKind, name: &str, yaml: &str, on_demand: bool) {
        let typed = yaml.trim_start().replacen('{', &format!("{{\"@type\": {}, ", kind.type_url()), 1);
        let change = wire::resources::read_file(kind, name, &format!("{{resources: [{typed}]}}"));
        let body = change.unwrap_or_else(|error| panic!("{error}")).upserts[0].body.to_vec();
        self.change(|known| {
            let held = Held { version: known.version, body, on_demand };
            known.resources.insert((kind, name.to_string()), held);
        });
    }

    pub fn remove(&self, kind: ResourceKind, name: &str) {
        self.change(|known| drop(known.resources.remove(&(kind, name.to_string()))));
    }

    /// Says nothing of `name` while it does not exist.
    pub fn be_silent(&self, name: &str) {
        self.change(|known| _ = known.silent.insert(name.to_string()));
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        known.version += 1;
        change(&mut known);
        self.changes.send_replace(known.version);
    }

    /// How often `name` was subscribed to.
    pub fn asked(&self, kind: ResourceKind, name: &str) -> usize {
        self.known().asked.iter().filter(|(other, asked)| *other == kind && asked == name).count()
    }

    /// The reasons of clients that refused something.
    pub fn refused(&self) -> Vec<String> {
        self.known().refused.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, stream: tokio::net::TcpStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            let xds = self.clone();
            tokio::spawn(async move {
                // A client that goes away has what it wanted.
                let _ = xds.converse(request.into_body(), respond).await;
            });
        }
    }

    async fn converse(self, mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
        let head = http::Response::builder().header("content-type", "application/grpc").body(()).expect("a head");
        let mut out = respond.send_response(head, false)?;
        let mut changes = self.changes.subscribe();
        let mut client = Client::default();
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                data = body.data() => {
                    let Some(data) = data else { return Ok(()) };
                    let data = data?;
                    let _ = body.flow_control().release_capacity(data.len());
                    buffer.extend_from_slice(&data);
                    while let Some(request) = next_message(&mut buffer) {
                        let answer = client.asks(&request, &mut self.known());
                        send(&mut out, answer)?;
                    }
                }
                _ = changes.changed() => {
                    for kind in ResourceKind::ALL {
                        let news = client.news(kind, &self.known());
                        send(&mut out, news)?;
                    }
                }
            }
        }
    }
}

/// What one stream's client wants and has.
#[derive(Default)]
struct Client {
    kinds: HashMap<ResourceKind, Wanted>,
    nonces: u64,
}

#[derive(Default)]
struct Wanted {
    whole: bool,
    names: BTreeSet<String>,
    /// Names that were subscribed to and not answered.
    open: BTreeSet<String>,
    held: BTreeMap<String, u64>,
}

impl Client {
    fn asks(&mut self, request: &DeltaDiscoveryRequest, known: &mut Known) -> Option<DeltaDiscoveryResponse> {
        let kind = ResourceKind::from_type_url(&request.type_url)?;
        let first = !self.kinds.contains_key(&kind);
        let wanted = self.kinds.entry(kind).or_default();
        if let Some(error) = &request.error_detail {
            known.refused.push(error.message.clone());
        }
        wanted.whole |= first && request.resource_names_subscribe.is_empty() && kind != ResourceKind::VirtualHosts;
        for name in &request.resource_names_subscribe {
            if name == "*" {
                wanted.whole = true;
                continue;
            }
            known.asked.push((kind, name.clone()));
            wanted.names.insert(name.clone());
            wanted.open.insert(name.clone());
            wanted.held.remove(name);
        }
        for name in &request.resource_names_unsubscribe {
            wanted.names.remove(name);
            wanted.held.remove(name);
        }
        let news = self.news(kind, known);
        // Clients wait for the first answer, also for an empty one.
        news.or_else(|| first.then(|| self.answer(kind, Vec::new(), Vec::new())))
    }

    fn news(&mut self, kind: ResourceKind, known: &Known) -> Option<DeltaDiscoveryResponse> {
        let wanted = self.kinds.get_mut(&kind)?;
        let (mut resources, mut removed) = (Vec::new(), Vec::new());
        let of_kind = known.resources.iter().filter(|((other, _), _)| *other == kind);
        for ((_, name), held) in of_kind {
            let concerns = wanted.names.contains(name) || (wanted.whole && !held.on_demand);
            if concerns && wanted.held.insert(name.clone(), held.version) != Some(held.version) {
                let any = Any { type_url: kind.type_url().into(), value: held.body.clone() };
                let version = held.version.to_string();
                resources.push(Resource { name: name.clone(), version, resource: Some(any), ..Resource::default() });
            }
            wanted.open.remove(name);
        }
        let exists = |name: &String| known.resources.contains_key(&(kind, name.clone()));
        wanted.held.retain(|name, _| {
            exists(name) || {
                removed.push(name.clone());
                false
            }
        });
        for name in std::mem::take(&mut wanted.open) {
            match kind {
                _ if known.silent.contains(&name) => _ = wanted.open.insert(name),
                // As the protocol's documentation has it: an answer without a body.
                ResourceKind::VirtualHosts => {
                    resources.push(Resource { aliases: vec![name.clone()], name, ..Resource::default() });
                }
                _ => removed.push(name),
            }
        }
        let nothing = resources.is_empty() && removed.is_empty();
        (!nothing).then(|| self.answer(kind, resources, removed))
    }

    fn answer(&mut self, kind: ResourceKind, resources: Vec<Resource>, removed: Vec<String>) -> DeltaDiscoveryResponse {
        self.nonces += 1;
        DeltaDiscoveryResponse {
            type_url: kind.type_url().into(),
            nonce: self.nonces.to_string(),
            resources,
            removed_resources: removed,
            ..DeltaDiscoveryResponse::default()
        }
    }
}

/// gRPC's framing: a flag, the length, the message.
fn next_message(buffer: &mut BytesMut) -> Option<DeltaDiscoveryRequest> {
    let length = buffer.get(1..5).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four bytes")) as usize)?;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    Some(DeltaDiscoveryRequest::decode(buffer.split_to(length)).expect("a request"))
}

fn send(out: &mut SendStream<Bytes>, answer: Option<DeltaDiscoveryResponse>) -> Result<(), h2::Error> {
    let Some(answer) = answer else { return Ok(()) };
    let body = answer.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&(body.len() as u32).to_be_bytes());
    framed.extend_from_slice(&body);
    out.send_data(framed.into(), false)
}
