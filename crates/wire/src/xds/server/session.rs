//! One stream: requests and changes in, pushes out.

use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::message::{Any, DeltaResource, DeltaResponse, Response};
use super::snapshot::{Kind, Resource, Snapshot, version_of};
use super::subscription::{Held, Status, Subscription};

/// Something to send; the stream's protocol decides its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Push {
    pub kind: Kind,
    pub version: String,
    pub nonce: String,
    pub resources: Vec<Arc<Resource>>,
    /// Delta only.
    pub removed: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    StateOfTheWorld,
    Delta,
}

/// A step of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// New and changed ones; what is gone stays for now.
    Upsert,
    /// Exactly what is to be there.
    Exact,
}

/// The order of a push. A listener that is gone may hold the address of a new one, so both go in one step.
const STEPS: [(Kind, Step); 7] = [
    (Kind::Cluster, Step::Upsert),
    (Kind::Endpoints, Step::Upsert),
    (Kind::Listener, Step::Exact),
    (Kind::Routes, Step::Upsert),
    (Kind::Cluster, Step::Exact),
    (Kind::Endpoints, Step::Exact),
    (Kind::Routes, Step::Exact),
];

#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    subscriptions: [Subscription; 7],
    unserved: BTreeSet<String>,
    nonces: u64,
    /// The client did not answer in time: send the rest without waiting, until it answers again.
    impatient: bool,
    waiting: bool,
}

impl Session {
    pub fn state_of_the_world() -> Self {
        Self::new(Protocol::StateOfTheWorld)
    }

    pub fn delta() -> Self {
        Self::new(Protocol::Delta)
    }

    fn new(protocol: Protocol) -> Self {
        let subscriptions = Default::default();
        Self { protocol, subscriptions, unserved: BTreeSet::new(), nonces: 0, impatient: false, waiting: false }
    }

    /// A state-of-the-world request.
    pub fn request(&mut self, request: &DiscoveryRequest, snapshot: &Snapshot) -> Vec<Push> {
        let Some(kind) = self.kind_of(&request.type_url) else { return Vec::new() };
        let subscription = &mut self.subscriptions[kind as usize];
        let nonce = request.response_nonce.as_str();
        if subscription.started && !nonce.is_empty() && nonce != subscription.last_nonce {
            // About something older than what is on its way: it gets no response, but its names are the latest.
            subscription.set_names(kind, &request.resource_names, snapshot);
            return Vec::new();
        }
        let refusal = request.error_detail.as_ref().map(|status| status.message.clone());
        subscription.answered(nonce, refusal);
        let first = subscription.begin(nonce);
        if first {
            subscription.held.clear();
        }
        let more = subscription.set_names(kind, &request.resource_names, snapshot);
        self.impatient = false;
        self.answer(kind, snapshot, |session, hold| {
            let held_back = hold && !session.subscriptions[kind as usize].changed(kind, snapshot).is_empty();
            match first || more {
                true if held_back => None,
                true if kind.is_wildcard() => Some(session.full_state(kind, Step::Upsert, snapshot)),
                true => session.send_changed(kind, snapshot),
                false => None,
            }
        })
    }

    /// A delta request.
    pub fn delta_request(&mut self, request: &DeltaDiscoveryRequest, snapshot: &Snapshot) -> Vec<Push> {
        let Some(kind) = self.kind_of(&request.type_url) else { return Vec::new() };
        let subscription = &mut self.subscriptions[kind as usize];
        let refusal = request.error_detail.as_ref().map(|status| status.message.clone());
        subscription.answered(&request.response_nonce, refusal);
        let (subscribe, unsubscribe) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        let first = !subscription.started;
        subscription.change_names(kind, subscribe, unsubscribe, snapshot);
        subscription.begin("");
        if first {
            for (name, version) in &request.initial_resource_versions {
                let held = Held { version: version.as_str().into(), resource: None };
                subscription.held.insert(snapshot.shared_name(kind, name), held);
            }
        } else {
            // To subscribe again is to ask for the resource again. So is to leave a name that the wildcard covers.
            for name in subscribe.iter().chain(unsubscribe) {
                subscription.held.remove(&**name);
            }
        }
        self.impatient = false;
        self.answer(kind, snapshot, |session, hold| session.delta_reply(kind, first, hold, subscribe, snapshot))
    }

    /// What was asked for goes out at once. Listeners and routes wait for the clusters they lead to; then the push
    /// brings them, and only what is not there (`reply` with `hold`) is said now.
    fn answer(
        &mut self,
        kind: Kind,
        snapshot: &Snapshot,
        reply: impl FnOnce(&mut Self, bool) -> Option<Push>,
    ) -> Vec<Push> {
        if !matches!(kind, Kind::Listener | Kind::Routes) {
            return reply(self, false).into_iter().chain(self.push(snapshot)).collect();
        }
        let mut pushes = self.push(snapshot);
        let hold = self.must_wait(Kind::Cluster, snapshot) || self.must_wait(Kind::Endpoints, snapshot);
        if pushes.iter().all(|push| push.kind != kind) {
            pushes.extend(reply(self, hold));
        }
        pushes
    }

    fn send_changed(&mut self, kind: Kind, snapshot: &Snapshot) -> Option<Push> {
        let resources = self.subscriptions[kind as usize].changed(kind, snapshot);
        if resources.is_empty() { None } else { Some(self.send(kind, resources, Vec::new(), snapshot)) }
    }

    fn delta_reply(
        &mut self,
        kind: Kind,
        first: bool,
        hold: bool,
        asked: &[String],
        snapshot: &Snapshot,
    ) -> Option<Push> {
        let subscription = &self.subscriptions[kind as usize];
        let missing = asked.iter().filter(|name| *name != "*" && !snapshot.get(kind).contains_key(name.as_str()));
        let mut removed: BTreeSet<Arc<str>> = missing.map(|name| name.as_str().into()).collect();
        let mut resources = subscription.changed(kind, snapshot);
        if first {
            // A client that comes back may still route to what is gone; the push removes it after routes have moved.
            if matches!(kind, Kind::Listener | Kind::Secret) {
                removed.extend(subscription.gone(kind, snapshot));
            }
        } else {
            // What else changed waits for its turn in the push.
            let everything = asked.iter().any(|name| name == "*");
            resources.retain(|resource| everything || asked.iter().any(|name| **name == *resource.name));
        }
        if hold && !resources.is_empty() {
            resources.clear();
            if removed.is_empty() {
                return None;
            }
        }
        let asks = subscription.wildcard || !subscription.names.is_empty();
        // A first answer goes out even when empty: the client learns that it has everything.
        if resources.is_empty() && removed.is_empty() && !(first && asks) {
            return None;
        }
        Some(self.send(kind, resources, removed.into_iter().collect(), snapshot))
    }

    /// Sends what is different from `snapshot`, as far as the order allows now.
    pub fn push(&mut self, snapshot: &Snapshot) -> Vec<Push> {
        let mut pushes = Vec::new();
        self.waiting = false;
        for (kind, step) in STEPS {
            pushes.extend(self.step(kind, step, snapshot));
            if self.must_wait(kind, snapshot) {
                self.waiting = true;
                break;
            }
        }
        pushes.extend(self.step(Kind::Secret, Step::Exact, snapshot));
        pushes
    }

    /// For a timer: whether a push is held up by an answer that has not come.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Gives up waiting and sends the rest.
    pub fn release(&mut self, snapshot: &Snapshot) -> Vec<Push> {
        self.impatient = true;
        self.push(snapshot)
    }

    pub fn status(&self, kind: Kind) -> &Status {
        &self.subscriptions[kind as usize].status
    }

    /// Type URLs that were asked for and that nobody serves.
    pub fn unserved(&self) -> impl Iterator<Item = &str> {
        self.unserved.iter().map(String::as_str)
    }

    fn kind_of(&mut self, type_url: &str) -> Option<Kind> {
        let kind = Kind::from_type_url(type_url);
        if kind.is_none() {
            self.unserved.insert(type_url.to_owned());
        }
        kind
    }

    fn step(&mut self, kind: Kind, step: Step, snapshot: &Snapshot) -> Option<Push> {
        let subscription = &mut self.subscriptions[kind as usize];
        if !subscription.started || (!subscription.in_flight.is_empty() && !self.impatient) {
            return None;
        }
        let changed = subscription.changed(kind, snapshot);
        let gone = if step == Step::Exact { subscription.gone(kind, snapshot) } else { Vec::new() };
        if changed.is_empty() && gone.is_empty() {
            return None;
        }
        for name in &gone {
            subscription.held.remove(&**name);
        }
        // With a cluster the client drops its endpoints; should it come back, they are to be sent again.
        if kind == Kind::Cluster {
            gone.iter().for_each(|name| drop(self.subscriptions[Kind::Endpoints as usize].held.remove(name)));
        }
        match self.protocol {
            Protocol::Delta => Some(self.send(kind, changed, gone, snapshot)),
            Protocol::StateOfTheWorld if kind.is_wildcard() => Some(self.full_state(kind, step, snapshot)),
            // Their disappearance cannot be said; it follows from that of their parents.
            Protocol::StateOfTheWorld if changed.is_empty() => None,
            Protocol::StateOfTheWorld => Some(self.send(kind, changed, Vec::new(), snapshot)),
        }
    }

    /// All that the client wants, and in an upsert also what it still has of what is gone.
    fn full_state(&mut self, kind: Kind, step: Step, snapshot: &Snapshot) -> Push {
        let subscription = &self.subscriptions[kind as usize];
        let mut resources = subscription.wanted(kind, snapshot);
        if step == Step::Upsert {
            let gone = subscription.gone(kind, snapshot);
            resources.extend(gone.iter().filter_map(|name| subscription.held[name].resource.clone()));
        }
        self.send(kind, resources, Vec::new(), snapshot)
    }

    fn send(&mut self, kind: Kind, resources: Vec<Arc<Resource>>, removed: Vec<Arc<str>>, snapshot: &Snapshot) -> Push {
        self.nonces += 1;
        let subscription = &mut self.subscriptions[kind as usize];
        let version = version_of(subscription.wanted(kind, snapshot).iter());
        let nonce = self.nonces.to_string();
        let changed: Vec<Arc<str>> =
            subscription.changed(kind, snapshot).into_iter().map(|resource| resource.name.clone()).collect();
        for name in &removed {
            subscription.held.remove(&**name);
        }
        subscription.sent(&nonce, &version, &resources);
        if kind == Kind::Cluster {
            // A changed cluster warms anew and waits for its endpoints, also for the same ones.
            let endpoints = &mut self.subscriptions[Kind::Endpoints as usize].held;
            changed.iter().for_each(|name| drop(endpoints.remove(name)));
        }
        Push { kind, version, nonce, resources, removed }
    }

    /// Whether the next step depends on an answer: to something sent, or the request for a new cluster's endpoints.
    fn must_wait(&self, kind: Kind, snapshot: &Snapshot) -> bool {
        let subscription = &self.subscriptions[kind as usize];
        if self.impatient {
            return false;
        }
        let unanswered = subscription.started && !subscription.in_flight.is_empty();
        unanswered || (kind == Kind::Endpoints && self.awaits_endpoints(snapshot))
    }

    fn awaits_endpoints(&self, snapshot: &Snapshot) -> bool {
        let (clusters, endpoints) =
            (&self.subscriptions[Kind::Cluster as usize], &self.subscriptions[Kind::Endpoints as usize]);
        let unasked = |name: &Arc<str>| snapshot.get(Kind::Endpoints).contains_key(name) && !endpoints.wants(name);
        clusters.started && clusters.status.nack.is_none() && clusters.held.keys().any(unasked)
    }
}

impl Push {
    pub fn into_response(self) -> Response {
        let type_url = self.kind.type_url();
        let any = |resource: Arc<Resource>| Any { type_url: type_url.to_owned(), value: resource.body.clone() };
        Response {
            version_info: self.version,
            resources: self.resources.into_iter().map(any).collect(),
            type_url: type_url.to_owned(),
            nonce: self.nonce,
        }
    }

    pub fn into_delta_response(self) -> DeltaResponse {
        let type_url = self.kind.type_url();
        let resource = |resource: Arc<Resource>| DeltaResource {
            version: resource.version.to_string(),
            resource: Some(Any { type_url: type_url.to_owned(), value: resource.body.clone() }),
            name: resource.name.to_string(),
        };
        DeltaResponse {
            system_version_info: self.version,
            resources: self.resources.into_iter().map(resource).collect(),
            type_url: type_url.to_owned(),
            nonce: self.nonce,
            removed_resources: self.removed.iter().map(|name| name.to_string()).collect(),
        }
    }
}
