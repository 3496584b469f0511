//! The client's side of an aggregated stream, without I/O: told what arrives and what is wanted, it answers what to
//! send. State of the world and delta alike.
//!
//! Per kind of resource and stream: the first request names what is wanted (and, in delta, what is held already);
//! each response is answered by an ACK or a NACK with its nonce; a change of interest is a request of its own.

use crate::kind::ResourceKind;
use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use crate::pb::google::rpc::Status;
use crate::resources::{Change, Incoming};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    StateOfTheWorld,
    Delta,
}

/// What to send; the variant is always that of the client's protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    StateOfTheWorld(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

/// A response to be judged: apply the change, then call `accept` or `reject` with the verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub change: Change,
    pub verdict: Verdict,
}

/// What the answer needs to know of the response.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "every response is answered"]
pub struct Verdict {
    kind: ResourceKind,
    nonce: String,
    /// State of the world.
    version: String,
    /// Delta: what will be held, and what no longer.
    held: Vec<(String, Arc<str>)>,
    removed: Vec<String>,
}

/// A response that cannot be for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control plane sent resources of type `{0}`, which nobody asked for")]
pub struct Unsolicited(pub String);

#[derive(Debug)]
pub struct Client {
    protocol: Protocol,
    node: Node,
    connected: bool,
    /// The node goes with the first request of a stream only.
    introduced: bool,
    subscriptions: BTreeMap<ResourceKind, Subscription>,
}

/// What is wanted of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// All there are.
    pub whole: bool,
    pub names: BTreeSet<String>,
    /// All whose names begin with one of these and a slash, as the server gives them: a route table's virtual hosts.
    pub within: BTreeSet<String>,
}

impl From<BTreeSet<String>> for Interest {
    fn from(names: BTreeSet<String>) -> Self {
        Interest { names, ..Interest::default() }
    }
}

impl Interest {
    pub fn is_empty(&self) -> bool {
        !self.whole && self.names.is_empty() && self.within.is_empty()
    }

    fn covers(&self, name: &str) -> bool {
        let inside = |table: &String| name.strip_prefix(table.as_str()).is_some_and(|rest| rest.starts_with('/'));
        self.whole || self.names.contains(name) || self.within.iter().any(inside)
    }
}

#[derive(Debug, Default)]
struct Subscription {
    interest: Interest,
    /// Names that the server said do not exist: who wants them again has to say so again.
    absent: BTreeSet<String>,
    /// A request has been sent on this stream.
    requested: bool,
    /// Of the last response on this stream.
    nonce: String,
    /// State of the world: the last accepted version.
    version: String,
    /// Delta: the versions of what is held.
    held: BTreeMap<String, Arc<str>>,
}

impl Client {
    /// `wildcards`: the kinds that are discovered as a whole over this stream.
    pub fn new(protocol: Protocol, node: Node, wildcards: &[ResourceKind]) -> Self {
        let subscription = |kind| {
            let interest = Interest { whole: wildcards.contains(&kind), ..Interest::default() };
            (kind, Subscription { interest, ..Subscription::default() })
        };
        Client {
            protocol,
            node,
            connected: false,
            introduced: false,
            subscriptions: ResourceKind::ALL.into_iter().map(subscription).collect(),
        }
    }

    /// What is held from before, so that a server need not send it again.
    pub fn resume(&mut self, kind: ResourceKind, held: impl IntoIterator<Item = (String, Arc<str>)>) {
        self.subscription(kind).held.extend(held);
    }

    /// A stream has begun: the first requests, in the order in which kinds depend on each other.
    pub fn connected(&mut self) -> Vec<Request> {
        self.connected = true;
        self.introduced = false;
        for subscription in self.subscriptions.values_mut() {
            subscription.requested = false;
            subscription.nonce.clear();
        }
        ResourceKind::ALL.into_iter().filter_map(|kind| self.first(kind)).collect()
    }

    /// The stream has ended; what is wanted and held stays.
    pub fn disconnected(&mut self) {
        self.connected = false;
    }

    /// What is wanted from now on.
    pub fn want(&mut self, kind: ResourceKind, interest: impl Into<Interest>) -> Option<Request> {
        let interest = interest.into();
        let subscription = self.subscription(kind);
        let again = std::mem::take(&mut subscription.absent);
        if subscription.interest == interest && again.is_disjoint(&interest.names) {
            return None;
        }
        let known = &subscription.interest.names;
        let added: Vec<String> =
            interest.names.iter().filter(|name| !known.contains(*name) || again.contains(*name)).cloned().collect();
        let dropped: Vec<String> = known.difference(&interest.names).cloned().collect();
        subscription.interest = interest;
        // What nobody wants is forgotten, so a server must send it again when it is wanted again.
        let Subscription { interest, held, .. } = subscription;
        held.retain(|name, _| interest.covers(name));
        if !self.connected {
            return None;
        }
        if !self.subscription(kind).requested {
            return self.first(kind);
        }
        match self.protocol {
            Protocol::StateOfTheWorld => Some(Request::StateOfTheWorld(self.current(kind))),
            // Another table's virtual hosts: the server learns of it when one of them is asked for.
            Protocol::Delta if added.is_empty() && dropped.is_empty() => None,
            Protocol::Delta => Some(Request::Delta(DeltaDiscoveryRequest {
                resource_names_subscribe: added,
                resource_names_unsubscribe: dropped,
                ..self.delta(kind)
            })),
        }
    }

    /// A response of a state-of-the-world stream.
    pub fn received(&mut self, response: DiscoveryResponse) -> Result<Received, Unsolicited> {
        let kind = self.solicited(&response.type_url)?;
        let subscription = self.subscription(kind);
        subscription.nonce.clone_from(&response.nonce);
        let version: Arc<str> = response.version_info.as_str().into();
        let incoming = response.resources.into_iter().map(|any| Incoming {
            name: String::new(),
            version: version.clone(),
            body: any.value.into(),
            aliases: Vec::new(),
        });
        let upserts = incoming.filter(|one| subscription.concerns(kind, one)).collect();
        // Clusters and listeners come all together; of the others each response may hold a part.
        let change = Change { upserts, full: kind.is_wildcard(), ..Change::of(kind) };
        let (nonce, version) = (response.nonce, response.version_info);
        Ok(Received { change, verdict: Verdict { kind, nonce, version, held: Vec::new(), removed: Vec::new() } })
    }

    /// A response of a delta stream.
    pub fn received_delta(&mut self, response: DeltaDiscoveryResponse) -> Result<Received, Unsolicited> {
        let kind = self.solicited(&response.type_url)?;
        let subscription = self.subscription(kind);
        subscription.nonce.clone_from(&response.nonce);
        let (mut upserts, mut absent) = (Vec::new(), Vec::new());
        for resource in response.resources {
            let Resource { name, version, aliases, resource, .. } = resource;
            match resource {
                // Of a virtual host: there is none. Else a sign of life for one that is held already.
                None if kind == ResourceKind::VirtualHosts => absent.extend(aliases.into_iter().chain([name])),
                None => {}
                Some(any) => {
                    let incoming = Incoming { name, version: version.into(), aliases, body: any.value.into() };
                    if subscription.concerns(kind, &incoming) {
                        upserts.push(incoming);
                    }
                }
            }
        }
        let held = upserts.iter().map(|one| (one.name.clone(), one.version.clone())).collect();
        let removed = response.removed_resources;
        if kind.is_on_demand() {
            absent.extend(removed.iter().cloned());
            subscription
                .absent
                .extend(absent.iter().filter(|name| subscription.interest.names.contains(*name)).cloned());
        }
        let change = Change { upserts, removed: removed.clone(), absent, ..Change::of(kind) };
        let verdict = Verdict { kind, nonce: response.nonce, version: String::new(), held, removed };
        Ok(Received { change, verdict })
    }

    /// The response was taken over.
    pub fn accept(&mut self, verdict: Verdict) -> Request {
        let subscription = self.subscription(verdict.kind);
        subscription.version = verdict.version;
        for name in &verdict.removed {
            subscription.held.remove(name);
        }
        subscription.held.extend(verdict.held);
        self.answer(verdict.kind, verdict.nonce, None)
    }

    /// The response was refused; `reason` goes to the control plane.
    pub fn reject(&mut self, verdict: Verdict, reason: String) -> Request {
        let status = Status { code: INVALID_ARGUMENT, message: reason, details: Vec::new() };
        self.answer(verdict.kind, verdict.nonce, Some(status))
    }

    /// The version of the last accepted state-of-the-world response.
    pub fn version(&self, kind: ResourceKind) -> &str {
        self.subscriptions.get(&kind).map_or("", |subscription| &subscription.version)
    }

    fn subscription(&mut self, kind: ResourceKind) -> &mut Subscription {
        self.subscriptions.entry(kind).or_default()
    }

    fn solicited(&self, type_url: &str) -> Result<ResourceKind, Unsolicited> {
        let kind = ResourceKind::from_type_url(type_url);
        let kind = kind.filter(|kind| self.subscriptions.get(kind).is_some_and(|one| one.requested));
        kind.ok_or_else(|| Unsolicited(type_url.to_string()))
    }

    fn introduce(&mut self) -> Option<Node> {
        (!std::mem::replace(&mut self.introduced, true)).then(|| self.node.clone())
    }

    /// The first request for `kind` on this stream, if anything of it is wanted.
    fn first(&mut self, kind: ResourceKind) -> Option<Request> {
        let subscription = self.subscription(kind);
        if subscription.interest.is_empty() {
            return None;
        }
        subscription.requested = true;
        let Interest { whole, names, .. } = &subscription.interest;
        // Without any name the request is for all there are; beside names that has to be said.
        let star = (*whole && !names.is_empty()).then(|| "*".to_string());
        let subscribe: Vec<String> = star.into_iter().chain(names.iter().cloned()).collect();
        let held = subscription.held.iter().filter(|(name, _)| subscription.interest.covers(name));
        let held = held.map(|(name, version)| (name.clone(), version.to_string())).collect();
        Some(match self.protocol {
            Protocol::StateOfTheWorld => Request::StateOfTheWorld(self.current(kind)),
            Protocol::Delta => {
                let first = DeltaDiscoveryRequest {
                    initial_resource_versions: held,
                    resource_names_subscribe: subscribe,
                    ..self.delta(kind)
                };
                Request::Delta(first)
            }
        })
    }

    /// A state-of-the-world request for what is wanted now, answering the last response of this stream.
    fn current(&mut self, kind: ResourceKind) -> DiscoveryRequest {
        let node = self.introduce();
        let subscription = self.subscription(kind);
        DiscoveryRequest {
            version_info: subscription.version.clone(),
            node,
            resource_names: subscription.interest.names.iter().cloned().collect(),
            type_url: kind.type_url().into(),
            response_nonce: subscription.nonce.clone(),
            ..DiscoveryRequest::default()
        }
    }

    fn delta(&mut self, kind: ResourceKind) -> DeltaDiscoveryRequest {
        let node = self.introduce();
        DeltaDiscoveryRequest { node, type_url: kind.type_url().into(), ..DeltaDiscoveryRequest::default() }
    }

    fn answer(&mut self, kind: ResourceKind, nonce: String, error_detail: Option<Status>) -> Request {
        match self.protocol {
            Protocol::StateOfTheWorld => {
                Request::StateOfTheWorld(DiscoveryRequest { response_nonce: nonce, error_detail, ..self.current(kind) })
            }
            Protocol::Delta => {
                Request::Delta(DeltaDiscoveryRequest { response_nonce: nonce, error_detail, ..self.delta(kind) })
            }
        }
    }
}

impl Subscription {
    /// Servers may send more than was asked for; it is passed over. What cannot be read is kept, to be refused.
    fn concerns(&self, kind: ResourceKind, incoming: &Incoming) -> bool {
        if self.interest.whole {
            return true;
        }
        match incoming.name.as_str() {
            "" => kind.name_of(&incoming.body).map_or(true, |name| self.interest.covers(&name)),
            name => self.interest.covers(name),
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
