//! Accepting, warming, linking, and what is kept for later.

use super::*;
use crate::compile::bootstrap::{Overrides, load};

const ADS: &str = "
static_resources:
  clusters: [{name: xds}]
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {ads: {}}
  cds_config: {ads: {}}
";

fn store() -> Resources {
    store_of(ADS)
}

pub(super) fn store_of(bootstrap: &str) -> Resources {
    Resources::new(&load(Some(("f", bootstrap)), &Overrides::default()).unwrap())
}

pub(super) fn of(names: &[&str]) -> Interest {
    names.iter().map(ToString::to_string).collect::<BTreeSet<String>>().into()
}

pub(super) fn change(kind: ResourceKind, resources: &[&str], full: bool) -> Change {
    let list: Vec<String> =
        resources.iter().map(|one| one.replacen('{', &format!("{{\"@type\": {}, ", kind.type_url()), 1)).collect();
    let text = format!("{{version_info: v1, resources: [{}]}}", list.join(", "));
    Change { full, ..read_file(kind, "f", &text).unwrap_or_else(|error| panic!("{error}")) }
}

const STATIC: &str = "{name: a, connect_timeout: 1s}";
const EDS: &str = "{name: e, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}";
const ENDPOINTS: &str = "{cluster_name: e, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: \
    {address: 127.0.0.1, port_value: 80}}}}]}]}";

fn listener(name: &str, port: u16, rds: &str) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters";
    format!(
        "{{name: {name}, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, filter_chains: \
         [{{filters: [{{name: h, typed_config: {{\"@type\": \
         {types}.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, http_filters: \
         [{{name: r, typed_config: {{\"@type\": {types}.http.router.v3.Router}}}}], \
         rds: {{route_config_name: {rds}, config_source: {{ads: {{}}}}}}}}}}]}}]}}"
    )
}

fn names<T>(map: &BTreeMap<Arc<str>, T>) -> Vec<&str> {
    map.keys().map(|name| &**name).collect()
}

#[test]
fn clusters_warm_with_their_first_assignment() {
    let mut store = store();
    store.apply(change(ResourceKind::Cluster, &[STATIC, EDS], true)).unwrap();
    assert_eq!(names(&store.snapshot().clusters), ["a", "xds"]);
    assert_eq!(store.wanted(ResourceKind::Endpoints, &Source::Ads), of(&["e"]));
    assert!(store.dump(ResourceKind::Cluster).iter().any(|dumped| &*dumped.name == "e" && dumped.warming));
    store.apply(change(ResourceKind::Endpoints, &[ENDPOINTS], true)).unwrap();
    let snapshot = store.snapshot();
    assert_eq!(names(&snapshot.clusters), ["a", "e", "xds"]);
    assert_eq!(names(&snapshot.assignments), ["e"]);
}

#[test]
fn a_warming_successor_leaves_the_predecessor_serving() {
    let mut store = store();
    store.apply(change(ResourceKind::Listener, &[&listener("l", 80, "one")], true)).unwrap();
    assert!(store.snapshot().listeners.is_empty());
    store.apply(change(ResourceKind::Routes, &["{name: one}"], true)).unwrap();
    let before = store.snapshot();
    store.apply(change(ResourceKind::Listener, &[&listener("l", 80, "two")], true)).unwrap();
    let during = store.snapshot();
    assert!(Arc::ptr_eq(&before.listeners["l"], &during.listeners["l"]));
    assert_eq!(store.wanted(ResourceKind::Routes, &Source::Ads).names.len(), 2, "both are in use");
    store.apply(change(ResourceKind::Routes, &["{name: two}"], true)).unwrap();
    let after = store.snapshot();
    assert!(!Arc::ptr_eq(&before.listeners["l"], &after.listeners["l"]));
    assert_eq!(store.wanted(ResourceKind::Routes, &Source::Ads), of(&["two"]));
}

#[test]
fn a_bad_resource_refuses_the_response_and_changes_nothing() {
    let mut store = store();
    store.apply(change(ResourceKind::Cluster, &[STATIC], true)).unwrap();
    let before = store.snapshot();
    let bad = "{name: b, lb_policy: MAGLEV, connection_pool_per_downstream_connection: true}";
    let rejected = store.apply(change(ResourceKind::Cluster, &["{name: c}", bad], true)).unwrap_err();
    assert_eq!(rejected.to_string(), "b: connection_pool_per_downstream_connection: is not implemented");
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
    let twice = store.apply(change(ResourceKind::Cluster, &["{name: c}", "{name: c}"], true)).unwrap_err();
    assert_eq!(twice.to_string(), "c: is given twice in one response");
}

#[test]
fn state_of_the_world_removes_and_delta_does_not() {
    let mut store = store();
    store.apply(change(ResourceKind::Cluster, &[STATIC, "{name: b}"], true)).unwrap();
    let first = store.snapshot();
    store.apply(change(ResourceKind::Cluster, &["{name: c}"], false)).unwrap();
    let second = store.snapshot();
    assert_eq!(names(&second.clusters), ["a", "b", "c", "xds"]);
    assert!(Arc::ptr_eq(&first.clusters["a"], &second.clusters["a"]), "what did not change stays the same");
    assert!(second.generation > first.generation);
    store.apply(change(ResourceKind::Cluster, &["{name: c}"], true)).unwrap();
    assert_eq!(names(&store.snapshot().clusters), ["c", "xds"]);
    let removed = Change { removed: vec!["c".into()], ..Change::of(ResourceKind::Cluster) };
    store.apply(removed).unwrap();
    assert_eq!(names(&store.snapshot().clusters), ["xds"]);
}

#[test]
fn the_bootstrap_wins() {
    let mut store = store();
    let fixed = store.snapshot().clusters["xds"].clone();
    store.apply(change(ResourceKind::Cluster, &["{name: xds, connect_timeout: 9s}"], true)).unwrap();
    assert!(Arc::ptr_eq(&fixed, &store.snapshot().clusters["xds"]));
}

#[test]
fn listeners_cannot_share_an_address() {
    let mut store = store();
    let clash = [listener("a", 80, "r"), listener("b", 80, "r")];
    let rejected = store.apply(change(ResourceKind::Listener, &[&clash[0], &clash[1]], true)).unwrap_err();
    assert_eq!(rejected.to_string(), "b: address: 127.0.0.1:80 is the address of listener `a` too");
    store.apply(change(ResourceKind::Listener, &[&clash[0]], true)).unwrap();
    assert!(store.apply(change(ResourceKind::Listener, &[&clash[1]], false)).is_err());
    store.apply(change(ResourceKind::Listener, &[&clash[1]], true)).expect("the other one goes");
}

#[test]
fn provided_secrets_satisfy_and_are_not_asked_for() {
    let mut store = store();
    let tls = "{name: t, transport_socket: {name: tls, typed_config: {\"@type\": \
        type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: \
        {tls_certificate_sds_secret_configs: [{name: default, sds_config: {ads: {}}}]}}}}";
    store.apply(change(ResourceKind::Cluster, &[tls], true)).unwrap();
    assert!(!store.snapshot().clusters.contains_key("t"));
    assert_eq!(store.wanted(ResourceKind::Secret, &Source::Ads).names.len(), 1);
    let inline = model::tls::DataSource::Inline(Arc::from(&b"pem"[..]));
    let own = Secret::Certificate(Arc::new(model::tls::Certificate { chain: inline.clone(), key: inline }));
    store.provide([("default".into(), own)]);
    assert!(store.snapshot().clusters.contains_key("t"));
    assert!(store.wanted(ResourceKind::Secret, &Source::Ads).is_empty());
}

#[test]
fn exports_are_imported() {
    let mut first = store();
    first.apply(change(ResourceKind::Cluster, &[STATIC, EDS], true)).unwrap();
    first.apply(change(ResourceKind::Endpoints, &[ENDPOINTS], true)).unwrap();
    first.snapshot();
    let mut second = store();
    second.import(&first.export()).unwrap();
    assert_eq!(names(&second.snapshot().clusters), ["a", "e", "xds"]);
    assert_eq!(second.dump(ResourceKind::Cluster)[0].version.as_ref(), "v1");
    assert!(second.import(&[0xff, 0xff]).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn what_can_never_arrive_is_refused() {
    let bootstrap = "dynamic_resources: {cds_config: {path_config_source: {path: cds.yaml}}}";
    let mut store = Resources::new(&load(Some(("f", bootstrap)), &Overrides::default()).unwrap());
    let rejected = store.apply(change(ResourceKind::Cluster, &[EDS], true)).unwrap_err();
    assert_eq!(rejected.to_string(), "e: refers to `e` by ADS; the bootstrap has no ads_config");
}
