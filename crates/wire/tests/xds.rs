//! Both ends of an aggregated stream, joined in memory: the server's session, the client and its resources.

use bytes::Bytes;
use model::Snapshot;
use model::http::RouteSource;
use model::listener::NetworkFilter;
use model::route::{Action, Target};
use prost::Message;
use std::sync::{Arc, LazyLock};
use wire::Resources;
use wire::compile::bootstrap::{Overrides, load};
use wire::compile::source::Source;
use wire::json::Document;
use wire::kind::ResourceKind;
use wire::pb::envoy::config::cluster::v3::Cluster;
use wire::pb::envoy::config::core::v3::Node;
use wire::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use wire::pb::envoy::config::listener::v3::Listener;
use wire::pb::envoy::config::route::v3::RouteConfiguration;
use wire::schema::{Schema, schema};
use wire::xds::client::{Client, Protocol, Request};
use wire::xds::server::{Kind, Push, Resource, Session, Snapshot as Served};

const BOOTSTRAP: &str = "
static_resources:
  clusters: [{name: xds}]
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {ads: {}}
  cds_config: {ads: {}}
";

/// A proxy and its control plane.
struct Pair {
    protocol: Protocol,
    session: Session,
    served: Served,
    client: Client,
    resources: Resources,
    /// Every snapshot that was published on the way.
    published: Vec<Arc<Snapshot>>,
    /// Resources that went over the wire, by name.
    sent: Vec<String>,
}

impl Pair {
    fn new(protocol: Protocol, served: Served) -> Self {
        let bootstrap = load(Some(("f", BOOTSTRAP)), &Overrides::default()).expect("the bootstrap is right");
        let roots = [ResourceKind::Cluster, ResourceKind::Listener];
        Pair {
            protocol,
            session: session(protocol),
            served,
            client: Client::new(protocol, Node::default(), &roots),
            resources: Resources::new(&bootstrap),
            published: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn connect(&mut self) {
        self.session = session(self.protocol);
        let requests = self.client.connected();
        self.exchange(requests);
    }

    fn serve(&mut self, served: Served) {
        self.served = served;
        let pushes = self.session.push(&self.served);
        let requests = pushes.into_iter().flat_map(|push| self.deliver(push)).collect();
        self.exchange(requests);
    }

    /// Until neither side has anything more to say.
    fn exchange(&mut self, requests: Vec<Request>) {
        let mut queue = std::collections::VecDeque::from(requests);
        let mut turns = 0;
        while let Some(request) = queue.pop_front() {
            turns += 1;
            assert!(turns < 200, "the two never come to rest");
            let pushes = match &request {
                Request::StateOfTheWorld(request) => self.session.request(request, &self.served),
                Request::Delta(request) => self.session.delta_request(request, &self.served),
            };
            for push in pushes {
                queue.extend(self.deliver(push));
            }
        }
    }

    /// Over the wire and into the resources; the answers.
    fn deliver(&mut self, push: Push) -> Vec<Request> {
        self.sent.extend(push.resources.iter().map(|resource| resource.name.to_string()));
        let received = match self.protocol {
            Protocol::StateOfTheWorld => {
                let bytes = push.into_response().encode_to_vec();
                self.client.received(Message::decode(bytes.as_slice()).expect("a response"))
            }
            Protocol::Delta => {
                let bytes = push.into_delta_response().encode_to_vec();
                self.client.received_delta(Message::decode(bytes.as_slice()).expect("a response"))
            }
        };
        let received = received.expect("asked for");
        let answer = match self.resources.apply(received.change) {
            Ok(()) => self.client.accept(received.verdict),
            Err(rejected) => self.client.reject(received.verdict, rejected.to_string()),
        };
        self.published.push(self.resources.snapshot());
        let mut requests = vec![answer];
        for kind in [ResourceKind::Endpoints, ResourceKind::Routes, ResourceKind::Secret] {
            requests.extend(self.client.want(kind, self.resources.wanted(kind, &Source::Ads)));
        }
        requests
    }
}

fn session(protocol: Protocol) -> Session {
    match protocol {
        Protocol::StateOfTheWorld => Session::state_of_the_world(),
        Protocol::Delta => Session::delta(),
    }
}

/// Held by the tests so that it is built once.
static SCHEMA: LazyLock<Arc<Schema>> = LazyLock::new(schema);

fn resource<M: Message + prost::Name + Default>(name: &str, yaml: &str) -> Arc<Resource> {
    LazyLock::force(&SCHEMA);
    let document = Document::parse("f", yaml).expect("well-formed");
    Resource::encode(name, &document.read::<M>().unwrap_or_else(|error| panic!("{error}")))
}

/// A mesh in which everything goes to `cluster`.
fn mesh(cluster: &str) -> Served {
    let mut served = Served::default();
    let eds = format!("{{name: {cluster}, type: EDS, eds_cluster_config: {{eds_config: {{ads: {{}}}}}}}}");
    served.insert(Kind::Cluster, resource::<Cluster>(cluster, &eds));
    let endpoints = format!(
        "{{cluster_name: {cluster}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: 80}}}}}}}}]}}]}}"
    );
    served.insert(Kind::Endpoints, resource::<ClusterLoadAssignment>(cluster, &endpoints));
    let routes = format!(
        "{{name: r, virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, \
         route: {{cluster: {cluster}}}}}]}}]}}"
    );
    served.insert(Kind::Routes, resource::<RouteConfiguration>("r", &routes));
    let types = "type.googleapis.com/envoy.extensions.filters";
    let listener = format!(
        "{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}, filter_chains: [{{filters: \
         [{{name: h, typed_config: {{'@type': {types}.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: s, http_filters: [{{name: r, typed_config: {{'@type': {types}.http.router.v3.Router}}}}], \
         rds: {{route_config_name: r, config_source: {{ads: {{}}}}}}}}}}]}}]}}"
    );
    served.insert(Kind::Listener, resource::<Listener>("l", &listener));
    served
}

/// Where the listener's requests go; panics where they would go nowhere.
fn destination(snapshot: &Snapshot) -> Option<String> {
    let listener = snapshot.listeners.get("l")?;
    let NetworkFilter::Http(http) = &listener.chains[0].filter else { panic!("not HTTP") };
    let RouteSource::Rds(name) = &http.routes else { panic!("not RDS") };
    let Action::Forward(forward) = &snapshot.routes[name].virtual_hosts[0].routes[0].action else { panic!("no route") };
    let Target::Cluster(cluster) = &forward.target else { panic!("no cluster") };
    assert!(snapshot.clusters.contains_key(cluster), "the route leads to `{cluster}`, which is not there");
    assert!(snapshot.assignments.contains_key(cluster), "`{cluster}` has no endpoints");
    Some(cluster.to_string())
}

const PROTOCOLS: [Protocol; 2] = [Protocol::StateOfTheWorld, Protocol::Delta];

#[test]
fn a_proxy_gets_all_it_needs() {
    for protocol in PROTOCOLS {
        let mut pair = Pair::new(protocol, mesh("one"));
        pair.connect();
        assert_eq!(destination(&pair.resources.snapshot()).as_deref(), Some("one"), "{protocol:?}");
        assert!(Kind::ALL.iter().all(|kind| pair.session.status(*kind).nack.is_none()));
    }
}

#[test]
fn traffic_always_has_somewhere_to_go_while_clusters_change() {
    for protocol in PROTOCOLS {
        let mut pair = Pair::new(protocol, mesh("one"));
        pair.connect();
        pair.published.clear();
        pair.serve(mesh("two"));
        let seen: Vec<_> = pair.published.iter().map(|snapshot| destination(snapshot).expect("a listener")).collect();
        assert_eq!(seen.last().map(String::as_str), Some("two"), "{protocol:?}: {seen:?}");
        let last = pair.resources.snapshot();
        assert!(!last.clusters.contains_key("one") && !last.assignments.contains_key("one"), "{protocol:?}");
    }
}

#[test]
fn a_refusal_reaches_the_control_plane_and_changes_nothing() {
    for protocol in PROTOCOLS {
        let mut pair = Pair::new(protocol, mesh("one"));
        pair.connect();
        let mut bad = mesh("one");
        bad.insert(Kind::Cluster, resource::<Cluster>("one", "{name: one, lb_policy: CLUSTER_PROVIDED}"));
        pair.serve(bad);
        let nack = pair.session.status(Kind::Cluster).nack.clone().expect("refused");
        assert!(nack.reason.contains("one: lb_policy: CLUSTER_PROVIDED is for clusters"), "{}", nack.reason);
        assert_eq!(destination(&pair.resources.snapshot()).as_deref(), Some("one"));
        pair.serve(mesh("two"));
        assert_eq!(destination(&pair.resources.snapshot()).as_deref(), Some("two"), "{protocol:?}: recovers");
    }
}

#[test]
fn a_new_delta_stream_brings_only_what_is_new() {
    let mut pair = Pair::new(Protocol::Delta, mesh("one"));
    pair.connect();
    pair.client.disconnected();
    pair.sent.clear();
    pair.connect();
    assert_eq!(pair.sent, Vec::<String>::new(), "everything is held already");
    pair.client.disconnected();
    pair.served = mesh("two");
    pair.connect();
    assert_eq!(destination(&pair.resources.snapshot()).as_deref(), Some("two"));
    assert!(!pair.sent.contains(&"l".to_string()), "the listener is the same as before");
}

#[test]
fn a_restarted_proxy_resumes_from_what_it_saved() {
    let mut before = Pair::new(Protocol::Delta, mesh("one"));
    before.connect();
    let saved = before.resources.export();
    let mut after = Pair::new(Protocol::Delta, mesh("one"));
    after.resources.import(&Bytes::from(saved)).expect("what was accepted once");
    assert_eq!(destination(&after.resources.snapshot()).as_deref(), Some("one"), "without a control plane");
    for kind in ResourceKind::ALL {
        let held = after.resources.dump(kind).into_iter().map(|held| (held.name.to_string(), held.version));
        after.client.resume(kind, held.collect::<Vec<_>>());
        if !kind.is_wildcard() {
            after.client.want(kind, after.resources.wanted(kind, &Source::Ads));
        }
    }
    after.connect();
    assert_eq!(after.sent, Vec::<String>::new());
}
