//! Conversations as real clients hold them, and a simulated client under random delays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status as RpcStatus;
use proptest::prelude::*;

use super::{Kind, Push, Resource, Session, Snapshot};

fn snapshot(resources: &[(Kind, &str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (kind, name, content) in resources {
        snapshot.insert(*kind, Resource::encode(*name, &(*content).to_owned()));
    }
    snapshot
}

fn ask(kind: Kind, names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        response_nonce: nonce.into(),
        ..Default::default()
    }
}

fn delta(kind: Kind, subscribe: &[&str], unsubscribe: &[&str], nonce: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: subscribe.iter().map(ToString::to_string).collect(),
        resource_names_unsubscribe: unsubscribe.iter().map(ToString::to_string).collect(),
        response_nonce: nonce.into(),
        ..Default::default()
    }
}

/// `CDS a b -c #1`: kind, names, removed names, nonce.
fn told(pushes: &[Push]) -> Vec<String> {
    let one = |push: &Push| {
        let names: String = push.resources.iter().map(|resource| format!(" {}", resource.name)).collect();
        let removed: String = push.removed.iter().map(|name| format!(" -{name}")).collect();
        format!("{}{names}{removed} #{}", push.kind.short_name(), push.nonce)
    };
    pushes.iter().map(one).collect()
}

use Kind::{Cluster, Endpoints, Listener, Routes, Secret};

fn shop() -> Snapshot {
    snapshot(&[
        (Cluster, "orders", "1"),
        (Cluster, "catalog", "1"),
        (Endpoints, "orders", "1"),
        (Endpoints, "catalog", "1"),
        (Listener, "out", "1"),
        (Routes, "out", "orders"),
        (Secret, "default", "key"),
    ])
}

#[test]
fn envoy_joins_by_state_of_the_world() {
    let mut session = Session::state_of_the_world();
    let shop = shop();
    let mut say = |request: DiscoveryRequest| told(&session.request(&request, &shop));
    assert_eq!(say(ask(Cluster, &[], "")), ["CDS catalog orders #1"]);
    // Envoy asks for endpoints while it handles the clusters, then acknowledges these.
    assert_eq!(say(ask(Endpoints, &["catalog", "orders"], "")), ["EDS catalog orders #2"]);
    assert!(say(ask(Cluster, &[], "1")).is_empty());
    assert!(say(ask(Endpoints, &["catalog", "orders"], "2")).is_empty());
    assert_eq!(say(ask(Listener, &[], "")), ["LDS out #3"]);
    assert_eq!(say(ask(Routes, &["out"], "")), ["RDS out #4"]);
    assert!(say(ask(Listener, &[], "3")).is_empty());
    assert!(say(ask(Routes, &["out"], "4")).is_empty());
    assert_eq!(say(ask(Secret, &["default", "ROOTCA"], "")), ["SDS default #5"]);
    // Stale: about something before the last response.
    assert!(say(ask(Endpoints, &["catalog", "orders", "x"], "0")).is_empty());
    let status = session.status(Cluster);
    assert!(status.subscribed && status.acked.is_some() && status.acked == status.sent);
    // Nothing changed, nothing to say.
    assert!(session.push(&shop).is_empty());
}

#[test]
fn envoy_joins_by_delta() {
    let mut session = Session::delta();
    let shop = shop();
    let mut say = |request: DeltaDiscoveryRequest| told(&session.delta_request(&request, &shop));
    assert_eq!(say(delta(Cluster, &[], &[], "")), ["CDS catalog orders #1"]);
    assert_eq!(say(delta(Endpoints, &["catalog", "orders"], &[], "")), ["EDS catalog orders #2"]);
    // An acknowledgement subscribes to nothing; it is not the legacy wildcard.
    assert!(say(delta(Cluster, &[], &[], "1")).is_empty());
    assert!(say(delta(Endpoints, &[], &[], "2")).is_empty());
    assert_eq!(say(delta(Listener, &["*"], &[], "")), ["LDS out #3"]);
    assert_eq!(say(delta(Routes, &["out", "nowhere"], &[], "")), ["RDS out -nowhere #4"]);
    assert!(say(delta(Listener, &[], &[], "3")).is_empty());
    assert!(say(delta(Routes, &[], &[], "4")).is_empty());
    // To subscribe again is to ask again, even for what has not changed.
    assert_eq!(say(delta(Routes, &["out"], &[], "")), ["RDS out #5"]);
    assert!(say(delta(Endpoints, &[], &["orders"], "")).is_empty());
    assert_eq!(say(delta(Endpoints, &["orders"], &[], "")), ["EDS orders #6"]);
}

#[test]
fn a_proxy_that_comes_back_is_sent_the_difference() {
    let old = shop();
    let mut new = shop();
    new.insert(Cluster, Resource::encode("orders", &"2".to_owned()));
    let mut request = delta(Cluster, &["*"], &[], "");
    request.initial_resource_versions =
        old.get(Cluster).iter().map(|(name, resource)| (name.to_string(), resource.version.to_string())).collect();
    request.initial_resource_versions.insert("forgotten".into(), "1".into());
    // What is gone goes only after the routes to it.
    let mut session = Session::delta();
    assert_eq!(told(&session.delta_request(&request, &new)), ["CDS orders #1"]);
    assert!(session.delta_request(&delta(Listener, &["*"], &[], ""), &new).is_empty());
    let endpoints = delta(Endpoints, &["orders", "catalog"], &[], "");
    assert_eq!(told(&session.delta_request(&endpoints, &new)), ["EDS catalog orders #2"]);
    assert!(session.delta_request(&delta(Cluster, &[], &[], "1"), &new).is_empty());
    assert_eq!(told(&session.delta_request(&delta(Endpoints, &[], &[], "2"), &new)), ["LDS out #3"]);
    assert_eq!(told(&session.delta_request(&delta(Listener, &[], &[], "3"), &new)), ["CDS -forgotten #4"]);
    // When nothing changed, an empty answer says so.
    request.initial_resource_versions.remove("forgotten");
    assert_eq!(told(&Session::delta().delta_request(&request, &old)), ["CDS #1"]);
}

#[test]
fn grpc_clients_ask_for_listeners_by_name() {
    let mut session = Session::state_of_the_world();
    let shop = shop();
    let mut say = |request: DiscoveryRequest| told(&session.request(&request, &shop));
    assert_eq!(say(ask(Listener, &["out"], "")), ["LDS out #1"]);
    assert_eq!(say(ask(Routes, &["out"], "")), ["RDS out #2"]);
    assert_eq!(say(ask(Cluster, &["orders"], "")), ["CDS orders #3"]);
    assert_eq!(say(ask(Endpoints, &["orders"], "")), ["EDS orders #4"]);
    for (kind, name, nonce) in [(Listener, "out", "1"), (Routes, "out", "2"), (Cluster, "orders", "3")] {
        assert!(say(ask(kind, &[name], nonce)).is_empty());
    }
    assert!(say(ask(Endpoints, &["orders"], "4")).is_empty());
    // One more name: a root type answers with all of them, the others with what is new.
    assert_eq!(say(ask(Cluster, &["orders", "catalog"], "3")), ["CDS catalog orders #5"]);
    assert_eq!(say(ask(Endpoints, &["orders", "catalog"], "4")), ["EDS catalog #6"]);
    // A listener that does not exist: the full state says so by leaving it out.
    assert_eq!(say(ask(Listener, &["out", "nowhere"], "1")), ["LDS out #7"]);
    // After names, no names means nothing.
    assert!(say(ask(Cluster, &[], "5")).is_empty());
}

#[test]
fn refusals_are_kept_and_nothing_is_sent_again() {
    let mut session = Session::delta();
    let shop = shop();
    session.delta_request(&delta(Cluster, &[], &[], ""), &shop);
    let mut refusal = delta(Cluster, &[], &[], "1");
    refusal.error_detail = Some(RpcStatus { message: "orders: no such field".into(), ..Default::default() });
    assert!(session.delta_request(&refusal, &shop).is_empty());
    let nack = session.status(Cluster).nack.clone().unwrap();
    assert_eq!(
        (nack.reason.as_str(), Some(nack.version)),
        ("orders: no such field", session.status(Cluster).sent.clone())
    );
    assert!(session.push(&shop).is_empty());
    // A repaired cluster clears the refusal.
    let mut repaired = shop;
    repaired.insert(Cluster, Resource::encode("orders", &"3".to_owned()));
    assert_eq!(told(&session.push(&repaired)), ["CDS orders #2"]);
    session.delta_request(&delta(Cluster, &[], &[], "2"), &repaired);
    assert_eq!(session.status(Cluster).nack, None);
}

#[test]
fn unknown_types_are_noted_and_not_answered() {
    let mut session = Session::delta();
    let request = DeltaDiscoveryRequest { type_url: "type.googleapis.com/x.Y".into(), ..Default::default() };
    assert!(session.delta_request(&request, &shop()).is_empty());
    assert_eq!(session.unserved().collect::<Vec<_>>(), ["type.googleapis.com/x.Y"]);
}

/// Joined by delta, everything acknowledged; returns the last nonce.
fn joined(session: &mut Session, shop: &Snapshot) -> u32 {
    let asks: [(Kind, &[&str]); 4] =
        [(Cluster, &["*"]), (Endpoints, &["catalog", "orders"]), (Listener, &["*"]), (Routes, &["out"])];
    for (index, (kind, names)) in asks.into_iter().enumerate() {
        session.delta_request(&delta(kind, names, &[], ""), shop);
        session.delta_request(&delta(kind, &[], &[], &(index + 1).to_string()), shop);
    }
    4
}

#[test]
fn routes_move_before_their_old_cluster_goes() {
    let mut session = Session::delta();
    joined(&mut session, &shop());
    let new = snapshot(&[
        (Cluster, "catalog", "1"),
        (Cluster, "orders-v2", "1"),
        (Endpoints, "catalog", "1"),
        (Endpoints, "orders-v2", "1"),
        (Listener, "out", "1"),
        (Routes, "out", "orders-v2"),
    ]);
    assert_eq!(told(&session.push(&new)), ["CDS orders-v2 #5"]);
    assert!(session.is_waiting());
    // Acknowledged, but its endpoints were not asked for yet.
    assert!(session.delta_request(&delta(Cluster, &[], &[], "5"), &new).is_empty());
    assert_eq!(told(&session.delta_request(&delta(Endpoints, &["orders-v2"], &[], ""), &new)), ["EDS orders-v2 #6"]);
    assert_eq!(told(&session.delta_request(&delta(Endpoints, &[], &[], "6"), &new)), ["RDS out #7"]);
    assert_eq!(told(&session.delta_request(&delta(Routes, &[], &[], "7"), &new)), ["CDS -orders #8"]);
    assert_eq!(told(&session.delta_request(&delta(Endpoints, &[], &["orders"], ""), &new)), Vec::<String>::new());
    assert!(session.delta_request(&delta(Cluster, &[], &[], "8"), &new).is_empty());
    assert!(!session.is_waiting());
}

#[test]
fn a_silent_client_does_not_hold_up_the_rest_for_ever() {
    let mut session = Session::delta();
    joined(&mut session, &shop());
    let mut new = shop();
    new.insert(Cluster, Resource::encode("orders", &"2".to_owned()));
    new.insert(Routes, Resource::encode("out", &"catalog".to_owned()));
    assert_eq!(told(&session.push(&new)), ["CDS orders #5"]);
    assert!(session.push(&new).is_empty());
    assert_eq!(told(&session.release(&new)), ["EDS orders #6", "RDS out #7"]);
}

#[test]
fn secrets_never_wait() {
    let mut session = Session::delta();
    session.delta_request(&delta(Secret, &["default"], &[], ""), &shop());
    session.delta_request(&delta(Secret, &[], &[], "1"), &shop());
    session.delta_request(&delta(Cluster, &["*"], &[], ""), &shop());
    let mut new = shop();
    new.insert(Secret, Resource::encode("default", &"new key".to_owned()));
    assert_eq!(told(&session.push(&new)), ["SDS default #3"]);
}

/// A client that asks for the endpoints of its clusters and the routes of its listeners, and acknowledges all.
#[derive(Default)]
struct Client {
    delta: bool,
    held: BTreeMap<Kind, BTreeMap<String, Vec<u8>>>,
    asked: BTreeMap<Kind, BTreeSet<String>>,
    nonces: BTreeMap<Kind, String>,
    requests: VecDeque<DiscoveryOrDelta>,
}

enum DiscoveryOrDelta {
    World(DiscoveryRequest),
    Delta(DeltaDiscoveryRequest),
}

impl Client {
    fn join(delta: bool) -> Self {
        let mut client = Self { delta, ..Self::default() };
        client.request(Cluster, &["*"], &[], "");
        client
    }

    fn request(&mut self, kind: Kind, subscribe: &[&str], unsubscribe: &[&str], nonce: &str) {
        let asked = self.asked.entry(kind).or_default();
        asked.extend(subscribe.iter().map(ToString::to_string));
        asked.retain(|name| !unsubscribe.contains(&name.as_str()));
        let request = if self.delta {
            DiscoveryOrDelta::Delta(delta(kind, subscribe, unsubscribe, nonce))
        } else {
            let names: Vec<_> = asked.iter().map(String::as_str).collect();
            DiscoveryOrDelta::World(ask(kind, &names, self.nonces.get(&kind).map_or("", String::as_str)))
        };
        self.requests.push_back(request);
    }

    fn receive(&mut self, push: &Push) {
        let held = self.held.entry(push.kind).or_default();
        if !self.delta && matches!(push.kind, Cluster | Listener) {
            held.clear();
        }
        for name in &push.removed {
            held.remove(&**name);
        }
        for resource in &push.resources {
            held.insert(resource.name.to_string(), resource.body.to_vec());
        }
        self.nonces.insert(push.kind, push.nonce.clone());
        let child = match push.kind {
            Cluster => Some(Endpoints),
            Listener => Some(Routes),
            _ => None,
        };
        if let Some(child) = child {
            self.follow(push.kind, child);
        }
        self.request(push.kind, &[], &[], &push.nonce);
        // As Envoy does: listeners when the clusters are there.
        if push.kind == Endpoints && !self.asked.contains_key(&Listener) {
            self.request(Listener, &["*"], &[], "");
        }
    }

    /// Keeps the subscription to `child` equal to the names held of `parent`.
    fn follow(&mut self, parent: Kind, child: Kind) {
        let wanted: BTreeSet<String> = self.held[&parent].keys().cloned().collect();
        let asked = self.asked.get(&child).cloned().unwrap_or_default();
        let more: Vec<_> = wanted.difference(&asked).map(String::as_str).collect();
        let less: Vec<_> = asked.difference(&wanted).map(String::as_str).collect();
        if more.is_empty() && less.is_empty() {
            return;
        }
        self.request(child, &more, &less, "");
        let held = self.held.entry(child).or_default();
        held.retain(|name, _| wanted.contains(name));
    }

    /// Every route in use leads to a cluster that has endpoints.
    fn check(&self) {
        let empty = BTreeMap::new();
        let held = |kind| self.held.get(&kind).unwrap_or(&empty);
        for (listener, body) in held(Routes) {
            let cluster = String::from_utf8(body[2..].to_vec()).unwrap();
            let whole = held(Cluster).contains_key(&cluster) && held(Endpoints).contains_key(&cluster);
            assert!(whole, "the route of {listener} leads to {cluster}, which is not there");
        }
    }
}

/// `routes[i]` is the cluster that listener `i` leads to; only clusters in use exist.
fn mesh(routes: &[u8], generation: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (listener, cluster) in routes.iter().enumerate() {
        let (listener, cluster) = (format!("l{listener}"), format!("c{cluster}"));
        snapshot.insert(Listener, Resource::encode(&*listener, &"listener".to_owned()));
        snapshot.insert(Routes, Resource::encode(&*listener, &cluster));
        snapshot.insert(Cluster, Resource::encode(&*cluster, &format!("{}", generation / 3)));
        snapshot.insert(Endpoints, Resource::encode(&*cluster, &format!("{generation}")));
    }
    snapshot
}

proptest! {
    /// Whatever the delays and changes: no route ever leads nowhere, and in the end the client has what it should.
    #[test]
    fn a_client_converges_and_never_sees_a_broken_state(
        is_delta: bool,
        changes in prop::collection::vec(prop::collection::vec(0u8..5, 1..4), 1..12),
        choices in prop::collection::vec(0u8..8, 0..200),
    ) {
        let mut session = if is_delta { Session::delta() } else { Session::state_of_the_world() };
        let mut client = Client::join(is_delta);
        let mut wire: VecDeque<Push> = VecDeque::new();
        let mut current = mesh(&changes[0], 0);
        let mut next = 1;
        let mut choices = choices.into_iter();
        loop {
            let choice = choices.next();
            if choice == Some(0) && next < changes.len() {
                current = mesh(&changes[next], next);
                next += 1;
                wire.extend(session.push(&current));
            } else if choice.is_none_or(|c| c % 2 == 0) && !client.requests.is_empty() {
                let request = client.requests.pop_front().unwrap();
                wire.extend(match &request {
                    DiscoveryOrDelta::World(request) => session.request(request, &current),
                    DiscoveryOrDelta::Delta(request) => session.delta_request(request, &current),
                });
            } else if let Some(push) = wire.pop_front() {
                client.receive(&push);
                client.check();
            } else if choice.is_none() && client.requests.is_empty() {
                break;
            }
        }
        for kind in [Cluster, Endpoints, Listener, Routes] {
            let wanted: BTreeMap<_, _> =
                current.get(kind).iter().map(|(name, resource)| (name.to_string(), resource.body.to_vec())).collect();
            prop_assert_eq!(&client.held[&kind], &wanted, "{:?}", kind);
        }
        prop_assert!(!session.is_waiting());
    }
}
