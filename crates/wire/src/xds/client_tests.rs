//! Conversations of the xDS client, message by message.

use super::*;
use crate::pb::envoy::config::cluster::v3::Cluster;
use crate::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::pb::envoy::service::discovery::v3::Resource;
use crate::pb::google::protobuf::Any;
use prost::Message;

const ROOTS: [ResourceKind; 2] = [ResourceKind::Cluster, ResourceKind::Listener];

fn client(protocol: Protocol) -> Client {
    Client::new(protocol, Node { id: "n".into(), ..Node::default() }, &ROOTS)
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn sotw(request: &Request) -> &DiscoveryRequest {
    match request {
        Request::StateOfTheWorld(request) => request,
        Request::Delta(_) => panic!("not state of the world"),
    }
}

fn delta(request: &Request) -> &DeltaDiscoveryRequest {
    match request {
        Request::Delta(request) => request,
        Request::StateOfTheWorld(_) => panic!("not delta"),
    }
}

fn endpoints(name: &str) -> Any {
    let message = ClusterLoadAssignment { cluster_name: name.into(), ..ClusterLoadAssignment::default() };
    Any { type_url: ResourceKind::Endpoints.type_url().into(), value: message.encode_to_vec() }
}

fn cluster(name: &str) -> Any {
    let message = Cluster { name: name.into(), ..Cluster::default() };
    Any { type_url: ResourceKind::Cluster.type_url().into(), value: message.encode_to_vec() }
}

fn response(kind: ResourceKind, version: &str, nonce: &str, resources: Vec<Any>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.into(),
        nonce: nonce.into(),
        type_url: kind.type_url().into(),
        resources,
        ..DiscoveryResponse::default()
    }
}

fn delta_response(
    kind: ResourceKind,
    nonce: &str,
    upserts: &[(&str, &str, Any)],
    gone: &[&str],
) -> DeltaDiscoveryResponse {
    let resources = upserts.iter().map(|(name, version, body)| Resource {
        name: (*name).into(),
        version: (*version).into(),
        resource: Some(body.clone()),
        ..Resource::default()
    });
    DeltaDiscoveryResponse {
        nonce: nonce.into(),
        type_url: kind.type_url().into(),
        resources: resources.collect(),
        removed_resources: gone.iter().map(ToString::to_string).collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[test]
fn first_requests_come_in_order_and_introduce_the_node_once() {
    for protocol in [Protocol::StateOfTheWorld, Protocol::Delta] {
        let mut client = client(protocol);
        assert!(client.want(ResourceKind::Endpoints, names(&["e"])).is_none(), "there is no stream yet");
        let requests = client.connected();
        let summary: Vec<_> = requests
            .iter()
            .map(|request| match request {
                Request::StateOfTheWorld(r) => (r.type_url.clone(), r.resource_names.clone(), r.node.is_some()),
                Request::Delta(r) => (r.type_url.clone(), r.resource_names_subscribe.clone(), r.node.is_some()),
            })
            .collect();
        let url = |kind: ResourceKind| kind.type_url().to_string();
        assert_eq!(
            summary,
            [
                (url(ResourceKind::Cluster), vec![], true),
                (url(ResourceKind::Endpoints), vec!["e".to_string()], false),
                (url(ResourceKind::Listener), vec![], false),
            ]
        );
    }
}

#[test]
fn accepted_versions_are_acknowledged_and_refused_ones_are_not() {
    let mut client = client(Protocol::StateOfTheWorld);
    client.connected();
    let received = client.received(response(ResourceKind::Cluster, "1", "a", vec![cluster("x")])).unwrap();
    assert!(received.change.full);
    let ack = client.accept(received.verdict);
    assert_eq!((sotw(&ack).version_info.as_str(), sotw(&ack).response_nonce.as_str()), ("1", "a"));
    assert!(sotw(&ack).error_detail.is_none());
    let received = client.received(response(ResourceKind::Cluster, "2", "b", vec![])).unwrap();
    let nack = client.reject(received.verdict, "bad".into());
    assert_eq!((sotw(&nack).version_info.as_str(), sotw(&nack).response_nonce.as_str()), ("1", "b"));
    assert_eq!(sotw(&nack).error_detail.as_ref().unwrap().message, "bad");
    client.disconnected();
    let again = client.connected();
    assert_eq!((sotw(&again[0]).version_info.as_str(), sotw(&again[0]).response_nonce.as_str()), ("1", ""));
}

#[test]
fn interest_in_names_is_stated_whole_or_as_a_difference() {
    let mut whole = client(Protocol::StateOfTheWorld);
    whole.connected();
    let first = whole.want(ResourceKind::Endpoints, names(&["a", "b"])).unwrap();
    assert_eq!(sotw(&first).resource_names, ["a", "b"]);
    let received = whole.received(response(ResourceKind::Endpoints, "1", "n", vec![endpoints("a")])).unwrap();
    assert!(!received.change.full);
    whole.accept(received.verdict);
    let second = whole.want(ResourceKind::Endpoints, names(&["b", "c"])).unwrap();
    assert_eq!(sotw(&second).resource_names, ["b", "c"]);
    assert_eq!((sotw(&second).version_info.as_str(), sotw(&second).response_nonce.as_str()), ("1", "n"));
    assert!(whole.want(ResourceKind::Endpoints, names(&["b", "c"])).is_none(), "nothing changed");

    let mut parts = client(Protocol::Delta);
    parts.connected();
    parts.want(ResourceKind::Endpoints, names(&["a", "b"])).unwrap();
    let second = parts.want(ResourceKind::Endpoints, names(&["b", "c"])).unwrap();
    assert_eq!(delta(&second).resource_names_subscribe, ["c"]);
    assert_eq!(delta(&second).resource_names_unsubscribe, ["a"]);
    assert!(delta(&second).response_nonce.is_empty());
}

#[test]
fn a_new_delta_stream_says_what_is_held() {
    let mut client = client(Protocol::Delta);
    client.connected();
    let upserts = [("x", "1", cluster("x")), ("y", "1", cluster("y"))];
    let received = client.received_delta(delta_response(ResourceKind::Cluster, "a", &upserts, &[])).unwrap();
    client.accept(received.verdict);
    let gone = client.received_delta(delta_response(ResourceKind::Cluster, "b", &[], &["y"])).unwrap();
    assert_eq!(gone.change.removed, ["y"]);
    client.accept(gone.verdict);
    let bad =
        client.received_delta(delta_response(ResourceKind::Cluster, "c", &[("x", "2", cluster("x"))], &[])).unwrap();
    let nack = client.reject(bad.verdict, "no".into());
    assert_eq!(delta(&nack).response_nonce, "c");
    client.disconnected();
    let again = client.connected();
    let held: Vec<_> = delta(&again[0]).initial_resource_versions.iter().collect();
    assert_eq!(held, [(&"x".to_string(), &"1".to_string())], "neither what went nor what was refused");
}

#[test]
fn what_is_not_wanted_is_passed_over() {
    let mut client = client(Protocol::Delta);
    client.connected();
    let unsolicited = client.received_delta(delta_response(ResourceKind::Endpoints, "a", &[], &[]));
    assert!(unsolicited.unwrap_err().to_string().contains("ClusterLoadAssignment"));
    client.want(ResourceKind::Endpoints, names(&["a"])).unwrap();
    let upserts = [("a", "1", endpoints("a")), ("b", "1", endpoints("b"))];
    let received = client.received_delta(delta_response(ResourceKind::Endpoints, "n", &upserts, &[])).unwrap();
    assert_eq!(received.change.upserts.len(), 1);
    client.accept(received.verdict);
    // Dropped and wanted again: the server must not believe that it is still held.
    client.want(ResourceKind::Endpoints, names(&[]));
    client.want(ResourceKind::Endpoints, names(&["a"]));
    client.disconnected();
    let again = client.connected();
    assert!(delta(&again[1]).initial_resource_versions.is_empty());
}

#[test]
fn resumes_with_saved_resources() {
    let mut client = client(Protocol::Delta);
    client.resume(ResourceKind::Cluster, [("x".to_string(), "7".into())]);
    assert_eq!(delta(&client.connected()[0]).initial_resource_versions["x"], "7");
}

#[test]
fn names_may_be_wanted_beside_all_there_are() {
    let mut client = client(Protocol::Delta);
    client.connected();
    let both = Interest { whole: true, names: names(&["rare"]), ..Interest::default() };
    let request = client.want(ResourceKind::Cluster, both.clone()).unwrap();
    assert_eq!(delta(&request).resource_names_subscribe, ["rare"]);
    client.disconnected();
    assert_eq!(delta(&client.connected()[0]).resource_names_subscribe, ["*", "rare"]);
    // There is none: who wants it again has to say so, also if that is at once.
    let received = client.received_delta(delta_response(ResourceKind::Cluster, "a", &[], &["rare"])).unwrap();
    assert_eq!(received.change.absent, ["rare"]);
    client.accept(received.verdict);
    let again = client.want(ResourceKind::Cluster, both.clone()).unwrap();
    assert_eq!(delta(&again).resource_names_subscribe, ["rare"]);
    assert!(client.want(ResourceKind::Cluster, both).is_none());
    let nobody = client.want(ResourceKind::Cluster, Interest { whole: true, ..Interest::default() }).unwrap();
    assert_eq!(delta(&nobody).resource_names_unsubscribe, ["rare"]);
}

#[test]
fn virtual_hosts_of_a_table_come_as_the_server_likes() {
    let kind = ResourceKind::VirtualHosts;
    let mut client = client(Protocol::Delta);
    client.connected();
    let mut interest = Interest { within: names(&["table"]), ..Interest::default() };
    let first = client.want(kind, interest.clone()).unwrap();
    assert_eq!(delta(&first).resource_names_subscribe, Vec::<String>::new());
    let body = Any { type_url: kind.type_url().into(), value: Vec::new() };
    let upserts = [("table/a", "1", body.clone()), ("other/a", "1", body)];
    let received = client.received_delta(delta_response(kind, "a", &upserts, &[])).unwrap();
    assert_eq!(received.change.upserts.len(), 1, "another table's is passed over");
    client.accept(received.verdict);
    interest.names = names(&["table/b"]);
    assert_eq!(delta(&client.want(kind, interest).unwrap()).resource_names_subscribe, ["table/b"]);
    let mut none = delta_response(kind, "b", &[], &[]);
    none.resources = vec![Resource { name: "table/b".into(), aliases: vec!["table/c".into()], ..Resource::default() }];
    assert_eq!(client.received_delta(none).unwrap().change.absent, ["table/c", "table/b"]);
    client.disconnected();
    let again = client.connected();
    let again = delta(again.iter().find(|request| delta(request).type_url == kind.type_url()).unwrap());
    assert_eq!(again.initial_resource_versions.keys().collect::<Vec<_>>(), ["table/a"]);
    assert_eq!(again.resource_names_subscribe, ["table/b"]);
}
