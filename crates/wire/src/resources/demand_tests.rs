//! What comes on demand: asked for once, answered, updated and forgotten.

use super::tests::{change, of, store_of};
use super::*;

const DELTA: &str = "
static_resources:
  clusters: [{name: xds}]
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {ads: {}}
  cds_config: {ads: {}}
";

fn store() -> Resources {
    store_of(DELTA)
}

fn listener(routes: &str) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters";
    format!(
        "{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: 80}}}}, filter_chains: [{{filters: \
         [{{name: h, typed_config: {{\"@type\": {types}.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: s, http_filters: [{{name: r, typed_config: {{\"@type\": {types}.http.router.v3.Router}}}}], \
         {routes}}}}}]}}]}}"
    )
}

fn host(name: &str, domain: &str) -> String {
    format!("{{name: {name}, domains: [{domain}], routes: [{{match: {{prefix: /}}, route: {{cluster: c}}}}]}}")
}

fn named(kind: ResourceKind, resources: &[(&str, String)]) -> Change {
    let bodies: Vec<&str> = resources.iter().map(|(_, body)| body.as_str()).collect();
    let mut change = change(kind, &bodies, false);
    change.upserts.iter_mut().zip(resources).for_each(|(incoming, (name, _))| incoming.name = (*name).into());
    change
}

fn absent(kind: ResourceKind, name: &str) -> Change {
    Change { removed: vec![name.into()], absent: vec![name.into()], ..Change::of(kind) }
}

/// Clients choose the names.
#[test]
fn not_everything_is_asked_for() {
    let mut store = store();
    let asked = (0..11_000).filter(|number| store.ask(Demand::cluster(format!("c{number}")), Source::Ads)).count();
    assert_eq!(asked, 10_000);
    store.apply(absent(ResourceKind::Cluster, "c7")).unwrap();
    assert!(store.ask(Demand::cluster("late"), Source::Ads), "there is room again");
}

#[test]
fn clusters_on_demand_come_and_go() {
    let mut store = store();
    let demand = Demand::cluster("rare");
    assert!(store.ask(demand.clone(), Source::Ads));
    assert!(!store.ask(demand.clone(), Source::Ads), "once");
    assert_eq!(store.wanted(ResourceKind::Cluster, &Source::Ads), of(&["rare"]));
    store.apply(change(ResourceKind::Cluster, &["{name: rare}"], false)).unwrap();
    assert!(store.take_answered().is_empty(), "the workers see that it is there");
    store.apply(change(ResourceKind::Cluster, &["{name: other}"], true)).unwrap();
    assert!(store.snapshot().clusters.contains_key("rare"), "no list of all clusters decides on it");
    store.apply(absent(ResourceKind::Cluster, "rare")).unwrap();
    assert!(!store.snapshot().clusters.contains_key("rare"));
    assert_eq!(store.take_answered(), std::slice::from_ref(&demand));
    assert!(store.wanted(ResourceKind::Cluster, &Source::Ads).is_empty());
    assert!(store.ask(demand, Source::Ads), "anew");
}

#[test]
fn virtual_hosts_join_their_table() {
    let kind = ResourceKind::VirtualHosts;
    let mut store = store();
    let rds = listener("rds: {route_config_name: t, config_source: {ads: {}}}");
    store.apply(change(ResourceKind::Listener, &[&rds], true)).unwrap();
    let table = format!("{{name: t, virtual_hosts: [{}], vhds: {{config_source: {{ads: {{}}}}}}}}", host("f", "fixed"));
    store.apply(change(ResourceKind::Routes, &[&table], false)).unwrap();
    let interest = store.wanted(kind, &Source::Ads);
    assert_eq!((interest.names.len(), interest.within.len()), (0, 1));
    let demand = Demand::virtual_host("t", "one");
    store.ask(demand.clone(), Source::Ads);
    assert_eq!(store.wanted(kind, &Source::Ads).names, of(&["t/one"]).names);
    store.apply(named(kind, &[("t/one", host("x", "one"))])).unwrap();
    assert_eq!(store.take_answered(), std::slice::from_ref(&demand));
    let domains = |store: &mut Resources| {
        let table = store.snapshot().routes["t"].clone();
        let mut domains: Vec<String> = table.domains.exact.keys().map(ToString::to_string).collect();
        domains.sort();
        domains
    };
    assert_eq!(domains(&mut store), ["fixed", "one"]);
    // It clashes with another one: refused, and nothing changes.
    let clash = store.apply(named(kind, &[("t/two", host("y", "fixed"))])).unwrap_err();
    assert!(clash.to_string().starts_with("t: virtual_hosts["), "{clash}");
    let bad = store.apply(named(kind, &[("t/two", "{name: y, domains: []}".into())])).unwrap_err();
    assert_eq!(bad.to_string(), "t/two: domains: must have at least one domain; `*` is any");
    assert_eq!(domains(&mut store), ["fixed", "one"]);
    // The table changes: what came for it stays.
    store.apply(change(ResourceKind::Routes, &["{name: t, vhds: {config_source: {ads: {}}}}"], false)).unwrap();
    assert_eq!(domains(&mut store), ["one"]);
    store.ask(Demand::virtual_host("t", "none"), Source::Ads);
    store.apply(Change { absent: vec!["t/none".into()], ..Change::of(kind) }).unwrap();
    assert_eq!(store.take_answered(), [Demand::virtual_host("t", "none")]);
    assert_eq!(store.wanted(kind, &Source::Ads).names, of(&["t/one"]).names);
    store.apply(absent(kind, "t/one")).unwrap();
    assert_eq!(domains(&mut store), Vec::<String>::new());
    // Without its table nothing of it is left.
    store.apply(named(kind, &[("t/one", host("x", "one"))])).unwrap();
    store.apply(change(ResourceKind::Listener, &[], true)).unwrap();
    store.snapshot();
    assert!(store.dump(kind).is_empty() && store.wanted(kind, &Source::Ads).is_empty());
}

fn scope(name: &str, key: &str, more: &str) -> String {
    format!("{{name: {name}, key: {{fragments: [{{string_key: '{key}'}}]}}, {more}}}")
}

const SCOPED: &str = "scoped_routes: {name: s, scope_key_builder: {fragments: [{header_value_extractor: {name: x, index: 0}}]}, \
    rds_config_source: {ads: {}}, scoped_rds: {scoped_rds_config_source: {ads: {}}}}";

#[test]
fn scopes_warm_with_their_tables() {
    let kind = ResourceKind::ScopedRoutes;
    let mut store = store();
    store.apply(change(ResourceKind::Listener, &[&listener(SCOPED)], true)).unwrap();
    assert!(store.snapshot().listeners.is_empty());
    assert!(store.wanted(kind, &Source::Ads).whole);
    let from_ads = |change: Change| Change { source: Some(Source::Ads), ..change };
    let (eager, lazy) = (
        scope("a", "1", "route_configuration_name: t"),
        scope("b", "2", "route_configuration_name: u, on_demand: true"),
    );
    store.apply(from_ads(change(kind, &[&eager, &lazy], true))).unwrap();
    assert_eq!(store.wanted(ResourceKind::Routes, &Source::Ads), of(&["t"]));
    assert!(store.snapshot().listeners.is_empty() && store.is_warming(), "a table is missing");
    store.apply(change(ResourceKind::Routes, &["{name: t}"], false)).unwrap();
    assert!(!store.is_warming());
    let snapshot = store.snapshot();
    assert_eq!((snapshot.listeners.len(), snapshot.scopes[&Source::Ads].len()), (1, 2));
    // A new version whose table is not there yet leaves the old one serving.
    store.apply(from_ads(change(kind, &[&scope("a", "1", "route_configuration_name: v"), &lazy], true))).unwrap();
    let named = |snapshot: &Snapshot| snapshot.scopes[&Source::Ads][0].named_table().cloned().unwrap();
    assert_eq!(&*named(&store.snapshot()), "t");
    assert_eq!(store.wanted(ResourceKind::Routes, &Source::Ads), of(&["t", "v"]));
    store.apply(change(ResourceKind::Routes, &["{name: v}"], false)).unwrap();
    assert_eq!(&*named(&store.snapshot()), "v");
    // A request asks for the table of the other.
    store.ask(Demand::routes("u"), Source::Ads);
    store.snapshot();
    assert_eq!(store.wanted(ResourceKind::Routes, &Source::Ads), of(&["u", "v"]));
    store.apply(change(ResourceKind::Routes, &["{name: u}"], false)).unwrap();
    assert!(store.snapshot().routes.contains_key("u"));
    let twice = store.apply(from_ads(change(kind, &[&scope("c", "2", "route_configuration_name: t")], false)));
    assert_eq!(twice.unwrap_err().to_string(), "c: key: is the key of scope `b` too");
    store.apply(from_ads(change(kind, &[], true))).unwrap();
    let snapshot = store.snapshot();
    assert!(snapshot.scopes[&Source::Ads].is_empty());
    store.apply(change(ResourceKind::Listener, &[], true)).unwrap();
    store.snapshot();
    assert!(store.wanted(ResourceKind::Routes, &Source::Ads).is_empty() && store.dump(kind).is_empty());
}

#[test]
fn only_delta_streams_can_be_asked_for_names() {
    let mut store = store_of(&DELTA.replace("DELTA_GRPC", "GRPC"));
    let table = "{name: t, vhds: {config_source: {ads: {}}}}";
    let refused = store.apply(change(ResourceKind::Routes, &[table], false)).unwrap_err();
    assert!(refused.to_string().starts_with("t: vhds.config_source: needs a delta stream"), "{refused}");
}
