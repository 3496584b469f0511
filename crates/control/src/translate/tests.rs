//! What nodes get, checked by compiling it as a Ripstop proxy would, and by looking at what matters.

use api::{ObjectSet, parse_file};
use prost::Message;
use wire::Resources;
use wire::compile::bootstrap::{Overrides, load};
use wire::pb::envoy::config::cluster::v3::{Cluster, LoadBalancingPolicy};
use wire::pb::envoy::config::listener::v3::Listener;
use wire::pb::envoy::config::route::v3::route::Action;
use wire::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use wire::pb::envoy::config::route::v3::route_match::PathSpecifier;
use wire::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use wire::resources::{Change, Incoming};
use wire::xds::server::{Kind, Snapshot};

use super::{Agent, Node, Secrets, World};
use crate::registry::Registry;

const MESH: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: catalog}, spec: {selector: {app: catalog}, ports: [{name: http, port: 80}, {name: grpc-api, port: 81}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: catalog-v2}, spec: {selector: {app: catalog, version: v2}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {selector: {app: db}, ports: [{name: tcp, port: 5432}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: catalog, namespace: other}, spec: {ports: [{name: http, port: 80}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec: {hosts: [api.example.com], ports: [{number: 8443, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1}
spec: {address: 127.0.0.1, labels: {app: web, security.istio.io/tlsMode: istio}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: catalog-1}
spec: {address: 127.0.0.1, ports: {http: 9001}, labels: {app: catalog, version: v1, security.istio.io/tlsMode: istio}, serviceAccount: catalog}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: catalog-2}
spec: {address: 127.0.0.1, ports: {http: 9002}, labels: {app: catalog, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web}
spec:
  workloadSelector: {labels: {app: web}}
  ingress:
    - {port: {number: 9100, protocol: HTTP, name: http}, defaultEndpoint: 127.0.0.1:8080}
    - {port: {number: 9101, protocol: TCP, name: tcp}, defaultEndpoint: 127.0.0.1:8081}
  egress:
    - {port: {number: 9200, protocol: HTTP, name: http}, hosts: [./catalog.default.svc.cluster.local]}
    - {port: {number: 9201, protocol: TCP, name: tcp}, hosts: [./db.default.svc.cluster.local]}
    - {port: {number: 9300, protocol: HTTP, name: http-proxy}, hosts: ["*/*"]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: catalog}
spec:
  workloadSelector: {labels: {app: catalog}}
  egress: [{port: {number: 9400, protocol: TCP, name: tcp}, hosts: [./db.default.svc.cluster.local]}]
"#;

const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: catalog}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog, port: 80}]
  rules:
    - matches: [{path: {value: /}}]
      backendRefs: [{name: catalog, port: 80, weight: 9}, {name: catalog-v2, port: 80, weight: 1}]
      timeouts: {request: 2s, backendRequest: 500ms}
    - matches: [{path: {value: /long/prefix/}}, {path: {type: RegularExpression, value: "/r[0-9]+"}}]
      backendRefs: [{name: catalog-v2, port: 80}]
      filters:
        - {type: URLRewrite, urlRewrite: {hostname: inner, path: {type: ReplaceFullPath, replaceFullPath: "/a\\1"}}}
        - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-rate, value: "100%"}], remove: [x-old]}}
    - matches: [{path: {value: /old}}]
      filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
    - matches: [{path: {value: /strip}}]
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
      backendRefs: [{name: catalog-v2, port: 80}]
    - matches:
        - {path: {type: Exact, value: /e}, method: POST, headers: [{name: X-Canary, value: "1"}], queryParams: [{name: q, value: a}]}
        - {path: {type: Exact, value: /e}}
      backendRefs: [{name: nobody, port: 80}]
    - matches: [{path: {type: Exact, value: /none}}]
      backendRefs: [{name: catalog, port: 80, weight: 0}]
"#;

fn world(files: &[&str]) -> World {
    let mut set = ObjectSet::default();
    for (index, text) in files.iter().enumerate() {
        let name = format!("{index}.yaml");
        set.replace(&name, parse_file(&name, text).unwrap_or_else(|e| panic!("{e}"))).unwrap();
    }
    World::new(Registry::build(&set, "cluster.local", None), 1)
}

fn node(id: &str, agent: Agent) -> Node {
    Node { id: id.into(), service: String::new(), namespace: None, agent }
}

fn names(snapshot: &Snapshot, kind: Kind) -> Vec<&str> {
    snapshot.get(kind).keys().map(|name| &**name).collect()
}

fn read<M: Message + Default>(snapshot: &Snapshot, kind: Kind, name: &str) -> M {
    let resource = snapshot.get(kind).get(name).unwrap_or_else(|| panic!("no {name}: {:?}", names(snapshot, kind)));
    M::decode(resource.body.as_ref()).unwrap()
}

fn routes(world: &World, agent: Agent) -> Vec<Route> {
    let snapshot = world.snapshot(&node("web-1", agent), None).unwrap();
    let table: RouteConfiguration = read(&snapshot, Kind::Routes, "catalog.default.svc.cluster.local:80");
    table.virtual_hosts[0].routes.clone()
}

#[test]
fn a_sidecar_gets_its_ports_and_what_they_need() {
    let world = world(&[MESH, ROUTE]);
    let snapshot = world.snapshot(&node("web-1", Agent::Envoy), None).unwrap();
    let listeners = ["inbound|9100", "inbound|9101", "outbound|9200", "outbound|9201", "outbound|9300"];
    assert_eq!(names(&snapshot, Kind::Listener), listeners);
    assert_eq!(names(&snapshot, Kind::Routes), ["catalog.default.svc.cluster.local:80", "http_proxy|9300"]);
    let clusters = names(&snapshot, Kind::Cluster);
    assert!(
        clusters.contains(&"inbound|9100||") && clusters.contains(&"outbound|81||catalog.default.svc.cluster.local")
    );
    assert!(!names(&snapshot, Kind::Endpoints).contains(&"outbound|8443||api.example.com"), "resolved by the proxy");
    assert_eq!(names(&snapshot, Kind::Secret), Vec::<&str>::new());

    let inbound: Listener = read(&snapshot, Kind::Listener, "inbound|9100");
    assert!(inbound.filter_chains[0].transport_socket.is_some(), "web-1 speaks mTLS");
    // Scope: catalog may only call the database.
    let narrow = world.snapshot(&node("catalog-2", Agent::Envoy), None).unwrap();
    assert_eq!(names(&narrow, Kind::Cluster), ["outbound|5432||db.default.svc.cluster.local"]);
    assert_eq!(world.snapshot(&node("nobody", Agent::Envoy), None), None);
}

#[test]
fn clusters_are_secured_as_their_endpoints_are() {
    let world = world(&[MESH]);
    let snapshot = world.snapshot(&node("web-1", Agent::Ripstop), None).unwrap();
    let cluster = |name: &str| read::<Cluster>(&snapshot, Kind::Cluster, name);
    let mixed = cluster("outbound|80||catalog.default.svc.cluster.local");
    assert!(mixed.transport_socket.is_none());
    assert_eq!(mixed.transport_socket_matches.len(), 2);
    let plain = cluster("outbound|80||catalog-v2.default.svc.cluster.local");
    assert!(plain.transport_socket.is_none() && plain.transport_socket_matches.is_empty());
    let without_v2 = MESH.replace("version: v2}\n", "version: v2, security.istio.io/tlsMode: istio}\n").replace(
        "labels: {app: catalog, version: v2}}",
        "labels: {app: catalog, version: v2, security.istio.io/tlsMode: istio}, serviceAccount: other}",
    );
    let all = self::world(&[&without_v2]).snapshot(&node("web-1", Agent::Ripstop), None).unwrap();
    let secured: Cluster = read(&all, Kind::Cluster, "outbound|80||catalog.default.svc.cluster.local");
    let text = String::from_utf8_lossy(&secured.transport_socket.unwrap().encode_to_vec()).into_owned();
    for identity in ["spiffe://cluster.local/ns/default/sa/catalog", "spiffe://cluster.local/ns/default/sa/other"] {
        assert!(text.contains(identity), "{identity}");
    }
}

#[test]
fn routes_come_in_gateway_api_order() {
    let order: Vec<String> = routes(&world(&[MESH, ROUTE]), Agent::Envoy)
        .iter()
        .map(|route| match route.r#match.as_ref().unwrap().path_specifier.as_ref().unwrap() {
            PathSpecifier::Path(path) => format!("={path}"),
            PathSpecifier::Prefix(path) => format!("{path}*"),
            PathSpecifier::PathSeparatedPrefix(path) => format!("{path}/*"),
            PathSpecifier::SafeRegex(regex) => format!("~{}", regex.regex),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, ["=/none", "=/e", "=/e", "~/r[0-9]+", "/long/prefix/*", "/strip/*", "/old/*", "/*"]);
}

#[test]
fn actions_say_what_the_route_says() {
    let routes = routes(&world(&[MESH, ROUTE]), Agent::Envoy);
    assert!(matches!(&routes[0].action, Some(Action::DirectResponse(answer)) if answer.status == 500));
    let strict = routes[1].r#match.as_ref().unwrap();
    let headers: Vec<_> = strict.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!((headers, strict.query_parameters.len()), (vec!["x-canary", ":method"], 1));

    let Some(Action::Route(full)) = &routes[3].action else { panic!("{:?}", routes[3]) };
    let rewrite = full.regex_rewrite.as_ref().unwrap();
    assert_eq!((rewrite.pattern.as_ref().unwrap().regex.as_str(), rewrite.substitution.as_str()), ("^/.*", "/a\\\\1"));
    let header = routes[3].request_headers_to_add[0].header.as_ref().unwrap();
    assert_eq!((header.key.as_str(), header.value.as_str()), ("x-rate", "100%%"));
    assert_eq!(routes[3].request_headers_to_remove, ["x-old"]);
    let Some(Action::Route(strip)) = &routes[5].action else { panic!("{:?}", routes[5]) };
    let rewrite = strip.regex_rewrite.as_ref().unwrap();
    assert_eq!((rewrite.pattern.as_ref().unwrap().regex.as_str(), rewrite.substitution.as_str()), ("^/strip/?", "/"));
    assert!(matches!(&routes[6].action, Some(Action::Redirect(redirect)) if redirect.response_code == 4));

    let Some(Action::Route(split)) = &routes[7].action else { panic!("{:?}", routes[7]) };
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &split.cluster_specifier else { panic!("{split:?}") };
    let weights: Vec<_> = weighted.clusters.iter().map(|cluster| cluster.weight.unwrap().value).collect();
    assert_eq!(weights, [9, 1]);
    assert_eq!(split.timeout.unwrap().seconds, 2);
    assert_eq!(split.retry_policy.as_ref().unwrap().per_try_timeout.unwrap().nanos, 500_000_000);
}

#[test]
fn each_agent_gets_what_it_understands() {
    let world = world(&[MESH]);
    let retry_on = |agent| match &routes(&world, agent)[0].action {
        Some(Action::Route(action)) => action.retry_policy.as_ref().unwrap().retry_on.clone(),
        other => panic!("{other:?}"),
    };
    assert!(retry_on(Agent::Ripstop).contains("reset-if-idempotent"));
    assert!(!retry_on(Agent::Envoy).contains("reset-if-idempotent"));
    // A client that is no workload sees everything by name, its own namespace or the first one in short.
    let snapshot = world.snapshot(&node("visitor", Agent::Grpc), None).unwrap();
    for name in ["catalog:81", "catalog.other:80", "catalog-v2", "catalog.default.svc.cluster.local:80"] {
        assert!(snapshot.get(Kind::Listener).contains_key(name), "{name}");
    }
    let policy = |agent| {
        let snapshot = world.snapshot(&node("web-1", agent), None).unwrap();
        let cluster: Cluster = read(&snapshot, Kind::Cluster, "outbound|80||catalog.default.svc.cluster.local");
        let first = |list: LoadBalancingPolicy| list.policies.into_iter().next()?.typed_extension_config;
        cluster.load_balancing_policy.and_then(first).map(|extension| extension.name)
    };
    assert_eq!(policy(Agent::Ripstop).as_deref(), Some("ripstop.dev/adaptive"));
    assert_eq!(policy(Agent::Envoy), None, "least request");
}

#[test]
fn the_proxy_port_knows_every_name_once() {
    let world = world(&[MESH]);
    let snapshot = world.snapshot(&node("web-1", Agent::Envoy), None).unwrap();
    let table: RouteConfiguration = read(&snapshot, Kind::Routes, "http_proxy|9300");
    let owner = |domain: &str| {
        let hosts: Vec<_> =
            table.virtual_hosts.iter().filter(|host| host.domains.iter().any(|name| name == domain)).collect();
        assert!(hosts.len() <= 1, "{domain} is there {} times", hosts.len());
        hosts.first().map(|host| host.name.as_str())
    };
    assert_eq!(owner("catalog"), Some("catalog.default.svc.cluster.local:80"), "the own namespace's");
    assert_eq!(owner("catalog:81"), Some("catalog.default.svc.cluster.local:81"));
    assert_eq!(owner("catalog.other"), Some("catalog.other.svc.cluster.local:80"));
    assert_eq!(owner("api.example.com"), Some("api.example.com:8443"));
    assert_eq!(owner("db"), None, "not HTTP");
}

#[test]
fn equal_content_has_equal_versions() {
    let secrets = Secrets { certificate: Some(("chain".into(), "key".into())), root_pem: "root".into() };
    let make = || world(&[MESH, ROUTE]).snapshot(&node("web-1", Agent::Ripstop), Some(&secrets)).unwrap();
    let versions = |snapshot: &Snapshot| {
        let all = Kind::ALL.into_iter().flat_map(|kind| snapshot.get(kind).values());
        all.map(|resource| (resource.name.clone(), resource.version.clone())).collect::<Vec<_>>()
    };
    let (one, two) = (make(), make());
    assert_eq!(versions(&one), versions(&two));
    assert_eq!(names(&one, Kind::Secret), ["ROOTCA", "default"]);
}

/// A Ripstop proxy takes all of it, and nothing in it waits for something that is not there.
#[test]
fn our_own_proxy_accepts_everything() {
    let world = world(&[MESH, ROUTE]);
    let secrets = Secrets { certificate: Some(("chain".into(), "key".into())), root_pem: "root".into() };
    let ads = "{cluster_name: control}";
    let yaml = format!(
        "dynamic_resources: {{lds_config: {{ads: {{}}, resource_api_version: V3}}, cds_config: {{ads: {{}}, resource_api_version: V3}}, ads_config: {{api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{envoy_grpc: {ads}}}]}}}}\nstatic_resources: {{clusters: [{{name: control, type: STATIC}}]}}\nnode: {{id: a, cluster: b}}\n"
    );
    let bootstrap = load(None, &Overrides { yaml: Some(yaml), ..Overrides::default() }).unwrap();
    for id in ["web-1", "catalog-1"] {
        let snapshot = world.snapshot(&node(id, Agent::Ripstop), Some(&secrets)).unwrap();
        let mut proxy = Resources::new(&bootstrap);
        for kind in Kind::ALL {
            let upserts = snapshot.get(kind).values().map(|resource| Incoming {
                name: resource.name.to_string(),
                version: resource.version.to_string().into(),
                aliases: Vec::new(),
                body: resource.body.clone(),
            });
            let change = Change { upserts: upserts.collect(), full: true, ..Change::of(kind) };
            proxy.apply(change).unwrap_or_else(|refusal| panic!("{id} {}: {refusal}", kind.short_name()));
        }
        let linked = proxy.snapshot();
        assert_eq!(linked.listeners.len(), snapshot.get(Kind::Listener).len(), "{id}");
        // The bootstrap's own cluster comes on top.
        assert_eq!(linked.clusters.len(), snapshot.get(Kind::Cluster).len() + 1, "{id}");
    }
}
