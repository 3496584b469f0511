//! One client's conversation: its requests, changes of the mesh and the clock in, responses out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};
use wire::pb::envoy::config::core::v3 as core;
use wire::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use wire::xds::server::{DeltaResponse, Push, Response, Session, Snapshot};

use super::hub::Hub;
use super::messages::envelope;
use crate::peer::Peer;
use crate::registry::Lookup;
use crate::status::Entry;
use crate::translate::{Agent, Node, World};

/// A client that does not answer in this time is sent the rest all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often certificates handed out here are looked at.
const RENEWAL: Duration = Duration::from_secs(30);

/// Requests kept for a client that nobody knows yet; it has no reason to send more than one or two per type.
const MOST_EARLY: usize = 64;

/// State of the world or delta.
pub trait Dialect: Send + 'static {
    type Request: prost::Message + Default + Send + 'static;
    type Response: prost::Message + Default + Send + 'static;
    const NAME: &'static str;

    fn session() -> Session;
    fn node(request: &Self::Request) -> Option<&core::Node>;
    fn request(session: &mut Session, request: &Self::Request, snapshot: &Snapshot) -> Vec<Push>;
    fn response(push: Push) -> Self::Response;
}

pub struct StateOfTheWorld;

impl Dialect for StateOfTheWorld {
    type Request = DiscoveryRequest;
    type Response = Response;
    const NAME: &'static str = "state-of-the-world";

    fn session() -> Session {
        Session::state_of_the_world()
    }

    fn node(request: &DiscoveryRequest) -> Option<&core::Node> {
        request.node.as_ref()
    }

    fn request(session: &mut Session, request: &DiscoveryRequest, snapshot: &Snapshot) -> Vec<Push> {
        session.request(request, snapshot)
    }

    fn response(push: Push) -> Response {
        push.into_response()
    }
}

pub struct Delta;

impl Dialect for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaResponse;
    const NAME: &'static str = "delta";

    fn session() -> Session {
        Session::delta()
    }

    fn node(request: &DeltaDiscoveryRequest) -> Option<&core::Node> {
        request.node.as_ref()
    }

    fn request(session: &mut Session, request: &DeltaDiscoveryRequest, snapshot: &Snapshot) -> Vec<Push> {
        session.delta_request(request, snapshot)
    }

    fn response(push: Push) -> DeltaResponse {
        push.into_delta_response()
    }
}

/// Messages in their envelopes, or why there are no more.
pub type Sender = mpsc::Sender<Result<Bytes, Status>>;

/// Runs until the client goes, is refused, or the control plane ends.
pub async fn serve<D: Dialect>(hub: Arc<Hub>, peer: Peer, mut requests: Streaming<D::Request>, out: Sender) {
    let first = tokio::select! {
        first = requests.message() => first,
        () = hub.stopped() => return,
    };
    let Ok(Some(first)) = first else { return };
    let Some(node) = D::node(&first).map(Node::read) else {
        return refuse(&out, Status::invalid_argument("the first request must carry the node")).await;
    };
    tracing::info!(node = node.id, service = node.service, agent = ?node.agent, protocol = D::NAME, "client connected");
    let identity = peer.identity.as_ref().map(ToString::to_string);
    let entry = hub.proxies.enter(&node, identity, D::NAME);
    let mut conversation: Conversation<'_, D> = Conversation {
        hub: &hub,
        worlds: hub.follow(),
        session: D::session(),
        snapshot: None,
        early: vec![first],
        problem: None,
        revision: 0,
        out: &out,
        peer,
        node,
    };
    let outcome = conversation.run(&mut requests, &entry).await;
    tracing::info!(node = conversation.node.id, "client left");
    if let Err(status) = outcome {
        tracing::warn!(node = conversation.node.id, reason = status.message(), "client refused");
        refuse(&out, status).await;
    }
}

async fn refuse(out: &Sender, status: Status) {
    // The client may be gone already.
    let _ = out.send(Err(status)).await;
}

struct Conversation<'a, D: Dialect> {
    hub: &'a Hub,
    worlds: watch::Receiver<Arc<World>>,
    peer: Peer,
    node: Node,
    session: Session,
    /// `None` as long as nobody knows the workload: then nothing is answered, lest a proxy drop what it has.
    snapshot: Option<Snapshot>,
    /// Requests that wait for a snapshot.
    early: Vec<D::Request>,
    problem: Option<String>,
    revision: u64,
    out: &'a Sender,
}

impl<D: Dialect> Conversation<'_, D> {
    async fn run(&mut self, requests: &mut Streaming<D::Request>, entry: &Entry<'_>) -> Result<(), Status> {
        let mut renewal = tokio::time::interval_at(Instant::now() + RENEWAL, RENEWAL);
        self.refresh().await?;
        let mut deadline = None;
        let mut touched = true;
        loop {
            if std::mem::replace(&mut touched, true) {
                entry.update(&self.session, self.revision, self.problem.clone());
            } else {
                entry.reached(self.revision);
            }
            deadline = self.session.is_waiting().then(|| deadline.unwrap_or_else(|| Instant::now() + PATIENCE));
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    // Broken off or finished: either way it is gone.
                    Ok(None) | Err(_) => return Ok(()),
                },
                changed = self.worlds.changed() => match changed {
                    Ok(()) => touched = self.follow().await?,
                    Err(_) => return Ok(()),
                },
                () = sleep_until(deadline) => {
                    deadline = None;
                    let pushes = self.snapshot.as_ref().map(|snapshot| self.session.release(snapshot));
                    self.send(pushes.unwrap_or_default()).await?;
                }
                _ = renewal.tick(), if self.peer.local => self.refresh().await?,
                () = self.hub.stopped() => return Ok(()),
            }
        }
    }

    async fn request(&mut self, request: D::Request) -> Result<(), Status> {
        let Some(snapshot) = &self.snapshot else {
            if self.early.len() >= MOST_EARLY {
                return Err(Status::resource_exhausted("too many requests of a node that is no known workload"));
            }
            self.early.push(request);
            return Ok(());
        };
        let before = self.nacks();
        let pushes = D::request(&mut self.session, &request, snapshot);
        if self.nacks() != before {
            self.report_refusals();
        }
        self.send(pushes).await
    }

    /// Takes a change of endpoints to what the client has. False: it has nothing of what changed.
    async fn follow(&mut self) -> Result<bool, Status> {
        let world = self.worlds.borrow().clone();
        let update = match &mut self.snapshot {
            Some(snapshot) if world.revision == self.revision + 1 => world.update(snapshot, &self.node),
            _ => None,
        };
        let Some(touched) = update else {
            self.refresh().await?;
            return Ok(true);
        };
        self.worlds.mark_unchanged();
        self.revision = world.revision;
        if touched && let Some(snapshot) = &self.snapshot {
            let pushes = self.session.push(snapshot);
            self.send(pushes).await?;
        }
        Ok(touched)
    }

    /// Takes the present state of the mesh.
    async fn refresh(&mut self) -> Result<(), Status> {
        let world = self.worlds.borrow_and_update().clone();
        match self.look_up(&world)? {
            Some(snapshot) => {
                self.problem = None;
                self.revision = world.revision;
                let mut pushes = Vec::new();
                for request in std::mem::take(&mut self.early) {
                    pushes.extend(D::request(&mut self.session, &request, &snapshot));
                }
                pushes.extend(self.session.push(&snapshot));
                self.snapshot = Some(snapshot);
                self.send(pushes).await
            }
            None => Ok(()),
        }
    }

    /// What this client is to have, if it is known and may have it.
    fn look_up(&mut self, world: &World) -> Result<Option<Snapshot>, Status> {
        match (world.workload(&self.node), &self.peer.identity) {
            (Lookup::Found(workload), Some(identity)) if workload.identity != *identity => {
                let message = format!(
                    "{identity} may not stand for the workload {}/{}, which is {}",
                    workload.namespace, workload.name, workload.identity
                );
                return Err(Status::permission_denied(message));
            }
            (Lookup::Unknown(reason), _) if !(self.peer.local && self.node.agent == Agent::Grpc) => {
                if self.problem.as_ref() != Some(&reason) {
                    tracing::warn!(node = self.node.id, reason, "client is no known workload; it is sent nothing");
                }
                self.problem = Some(reason);
                return Ok(None);
            }
            _ => {}
        }
        // Ripstop proxies have their own keys, and a key never travels further than this machine.
        let secrets = if self.peer.local && self.node.agent != Agent::Grpc {
            let secrets = self.hub.local_secrets(world, &self.node);
            Some(secrets.map_err(|error| Status::internal(error.to_string()))?)
        } else {
            None
        };
        Ok(world.snapshot(&self.node, secrets.as_ref()))
    }

    async fn send(&mut self, pushes: Vec<Push>) -> Result<(), Status> {
        for push in pushes {
            tracing::debug!(
                node = self.node.id,
                kind = push.kind.short_name(),
                resources = push.resources.len(),
                removed = push.removed.len(),
                "push"
            );
            if self.out.send(Ok(envelope(&D::response(push)))).await.is_err() {
                return Err(Status::cancelled("the client is gone"));
            }
        }
        Ok(())
    }

    fn nacks(&self) -> Vec<Option<String>> {
        use wire::xds::server::Kind;
        Kind::ALL.iter().map(|kind| self.session.status(*kind).nack.as_ref().map(|nack| nack.reason.clone())).collect()
    }

    fn report_refusals(&self) {
        for reason in self.nacks().into_iter().flatten() {
            tracing::warn!(node = self.node.id, reason, "client refused a configuration");
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
