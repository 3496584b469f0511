//! Objects in, registry out.

use api::{ObjectSet, parse_file};

use super::{Lookup, Registry, Resolution};
use crate::sources::intake::Change;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec:
  selector: {app: orders}
  ports: [{name: http, port: 80, targetPort: web}, {name: tcp-debug, port: 81, targetPort: 7000}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop, labels: {app: orders}}
spec:
  address: 127.0.0.1
  ports: {web: 9001}
  labels: {security.istio.io/tlsMode: istio, version: v1}
  serviceAccount: orders
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-2, namespace: shop}
spec: {address: 127.0.0.2, labels: {app: orders}, weight: 3}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: other}
spec: {address: 127.0.0.1, labels: {app: orders}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: [api.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: old-x, namespace: shop, labels: {kubernetes.io/service-name: old}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: everybody, namespace: shop}
spec: {egress: [{hosts: ["./orders.shop.svc.cluster.local", "./gone.shop.svc.cluster.local"]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: special, namespace: shop}
spec: {workloadSelector: {labels: {version: v1}}, egress: [{hosts: ["*/*"]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: orders, port: 80}, {group: "", kind: Service, name: nobody}]
  rules: [{backendRefs: [{name: missing, port: 80}]}]
"#;

fn registry() -> Registry {
    let mut set = ObjectSet::default();
    set.replace("mesh.yaml", parse_file("mesh.yaml", MESH).unwrap()).unwrap();
    Registry::build(&set, "cluster.local", None)
}

#[test]
fn selectors_find_workloads_and_ports() {
    let registry = registry();
    let orders = &registry.services["orders.shop.svc.cluster.local"];
    let seen: Vec<_> = orders.port(80).unwrap().endpoints.iter().map(|e| (e.address.as_str(), e.port)).collect();
    assert_eq!(seen, [("127.0.0.1", 9001)], "orders-2 has no port called web");
    let debug = orders.port(81).unwrap();
    let seen: Vec<_> = debug.endpoints.iter().map(|e| (e.address.as_str(), e.port, e.weight)).collect();
    assert_eq!(seen, [("127.0.0.1", 7000, 1), ("127.0.0.2", 7000, 3)]);
    assert_eq!(debug.identities(), ["spiffe://cluster.local/ns/shop/sa/orders"]);
    assert!(!debug.protocol.is_http());
}

#[test]
fn slices_and_entries_bring_endpoints() {
    let registry = registry();
    let old = &registry.services["old.shop.svc.cluster.local"];
    let seen: Vec<_> = old.port(80).unwrap().endpoints.iter().map(|e| (e.address.as_str(), e.port)).collect();
    assert_eq!(seen, [("10.0.0.1", 8080)], "only ready ones");
    let outside = &registry.services["api.example.com"];
    assert_eq!(outside.resolution, Resolution::Dns);
    assert_eq!(outside.port(443).unwrap().endpoints[0].address, "api.example.com");
}

#[test]
fn nodes_are_found_by_name_and_address() {
    let registry = registry();
    let find = |id, service, namespace| match registry.workload_of(id, service, namespace) {
        Lookup::Found(workload) => format!("{}/{}", workload.namespace, workload.name),
        Lookup::Unknown(reason) => reason,
    };
    assert_eq!(find("orders-2", "orders", None), "shop/orders-2");
    assert_eq!(find("shop/orders-1", "orders", None), "shop/orders-1");
    assert_eq!(find("orders-1", "", Some("other")), "other/orders-1");
    assert_eq!(find("127.0.0.2", "orders", None), "shop/orders-2");
    assert!(find("orders-1", "", None).contains("several"), "{}", find("orders-1", "", None));
    assert!(find("orders-2", "catalog", None).contains("does not belong to the Service"));
    assert!(find("nobody", "", None).contains("no WorkloadEntry"));
}

#[test]
fn the_selecting_sidecar_wins_over_the_namespaces() {
    let registry = registry();
    let hosts = |name: &str| {
        let workload = &registry.workloads[&("shop".to_owned(), name.to_owned())];
        registry.sidecar_of(workload).unwrap().egress[0].hosts[0].clone()
    };
    assert_eq!(hosts("orders-1"), "*/*");
    assert_eq!(hosts("orders-2"), "./orders.shop.svc.cluster.local");
    let other = &registry.workloads[&("other".to_owned(), "orders-1".to_owned())];
    assert!(registry.sidecar_of(other).is_none());
}

#[test]
fn what_refers_to_nothing_is_warned_of() {
    let registry = registry();
    let texts: Vec<_> = registry.warnings.iter().map(|w| format!("{}: {}", w.object, w.message)).collect();
    assert_eq!(
        texts,
        [
            "HTTPRoute shop/r: its parent, the Service nobody, does not exist",
            "HTTPRoute shop/r: its backend, the Service missing, does not exist: requests for it get 500",
            "Sidecar shop/everybody: its egress host gone.shop.svc.cluster.local is no service",
        ]
    );
    assert_eq!(registry.routes("orders.shop.svc.cluster.local", 80).count(), 1);
    assert_eq!(registry.routes("orders.shop.svc.cluster.local", 81).count(), 0);
}

/// What becomes of the mesh when one file's text is another: followed, and built anew.
fn changed(from: &str, to: &str) -> Option<super::Changed> {
    let mut set = ObjectSet::default();
    set.replace("mesh.yaml", parse_file("mesh.yaml", from).unwrap()).unwrap();
    let before = Registry::build(&set, "cluster.local", None);
    let mut change = Change { before: set.of_file("mesh.yaml").to_vec(), after: Vec::new() };
    set.replace("mesh.yaml", parse_file("mesh.yaml", to).unwrap()).unwrap();
    change.after = set.of_file("mesh.yaml").to_vec();
    let built = Registry::build(&set, "cluster.local", Some(&before));
    let (followed, changed) = before.follow(&change)?;
    assert_eq!(followed.services, built.services);
    assert_eq!(followed.workloads, built.workloads);
    assert_eq!(followed.warnings, built.warnings);
    let different = |host: &&String| !std::sync::Arc::ptr_eq(&before.services[*host], &built.services[*host]);
    assert_eq!(changed.services, built.services.keys().filter(different).cloned().collect());
    Some(changed)
}

#[test]
fn endpoints_are_followed_without_building_all_anew() {
    let hosts = |changed: super::Changed| changed.services.into_iter().collect::<Vec<_>>().join(" ");
    let edit = |from: &str, to: &str| {
        assert!(MESH.contains(from), "{from}");
        changed(MESH, &MESH.replacen(from, to, 1))
    };
    // A slice's address, its readiness, a workload's port, labels and name; then the whole slice.
    assert_eq!(hosts(edit("10.0.0.1", "10.0.0.9").unwrap()), "old.shop.svc.cluster.local");
    assert_eq!(hosts(edit("ready: false", "ready: true").unwrap()), "old.shop.svc.cluster.local");
    assert_eq!(hosts(edit("{web: 9001}", "{web: 9002}").unwrap()), "orders.shop.svc.cluster.local");
    assert_eq!(hosts(edit("name: orders-2, ", "name: orders-3, ").unwrap()), "orders.shop.svc.cluster.local");
    let moved = edit("labels: {app: orders}, weight: 3", "labels: {app: other}, weight: 3").unwrap();
    assert_eq!(moved.workloads, [("shop".to_owned(), "orders-2".to_owned())].into());
    assert_eq!(hosts(moved), "orders.shop.svc.cluster.local");
    let slice = MESH.find("apiVersion: discovery.k8s.io/v1").unwrap();
    let end = slice + MESH[slice..].find("---").unwrap() + 4;
    let without = [&MESH[..slice], &MESH[end..]].concat();
    assert_eq!(hosts(changed(MESH, &without).unwrap()), "old.shop.svc.cluster.local");
    assert_eq!(hosts(changed(&without, MESH).unwrap()), "old.shop.svc.cluster.local");
    // Nothing at all, and what says the same on other lines.
    assert_eq!(hosts(changed(MESH, &format!("# a remark\n{MESH}")).unwrap()), "");
    // More than endpoints.
    assert!(edit("port: 80, targetPort: web", "port: 82, targetPort: web").is_none());
    assert!(edit("resolution: DNS", "resolution: STATIC, endpoints: [{address: 10.1.1.1}]").is_none());
}
