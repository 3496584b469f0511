//! Files as users write them: what is understood, and what each mistake is answered with.

use api::kinds::http_route::PathKind;
use api::kinds::{Port, PortRef};
use api::{Kind, ObjectSet, Spec, parse_file};

const SHOP: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: orders
  namespace: shop
  uid: 1b4e28ba
  resourceVersion: "17"
  creationTimestamp: null
  managedFields: [{manager: kubectl}]
spec:
  clusterIP: 10.0.0.1
  type: ClusterIP
  sessionAffinity: None
  selector: {app: orders}
  ports:
    - name: http
      port: 80
      targetPort: web
status:
  loadBalancer: {}
---
# an empty document follows
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: orders-1, namespace: shop}
spec:
  address: 127.0.0.1
  ports: {web: 9001}
  labels: {app: orders, version: v1}
  serviceAccount: orders
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: orders-1, namespace: shop}
spec:
  workloadSelector: {labels: {app: orders}}
  ingress:
    - port: {number: 9001, protocol: HTTP, name: http}
      bind: 127.0.0.1
      captureMode: NONE
      defaultEndpoint: 127.0.0.1:9101
  egress:
    - port: {number: 9200, protocol: HTTP, name: http}
      bind: 127.0.0.1
      hosts: ["./catalog.shop.svc.cluster.local"]
    - hosts: ["*/*"]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: catalog, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog, port: 80}]
  rules:
    - matches:
        - path: {type: Exact, value: /books}
          headers: [{name: x-canary, value: "1"}]
      timeouts: {request: 2s}
      backendRefs:
        - {name: catalog-v1, port: 80, weight: 80}
        - {name: catalog-v2, port: 80, weight: 20}
"#;

#[test]
fn a_shop_is_understood() {
    let objects = parse_file("shop.yaml", SHOP).unwrap();
    let kinds: Vec<_> = objects.iter().map(|object| (object.kind(), object.meta.name.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (Kind::Service, "orders"),
            (Kind::WorkloadEntry, "orders-1"),
            (Kind::Sidecar, "orders-1"),
            (Kind::HttpRoute, "catalog")
        ]
    );
    let Spec::Service(service) = &objects[0].spec else { panic!() };
    assert_eq!(service.ports[0].target(), PortRef::Name("web".into()));
    let Spec::WorkloadEntry(workload) = &objects[1].spec else { panic!() };
    assert_eq!(workload.ports["web"], Port(9001));
    let Spec::Sidecar(sidecar) = &objects[2].spec else { panic!() };
    assert_eq!(sidecar.ingress[0].endpoint(), Some("127.0.0.1:9101".parse().unwrap()));
    assert_eq!(sidecar.egress[1].hosts().next().unwrap().host, None);
    let Spec::HttpRoute(route) = &objects[3].spec else { panic!() };
    assert_eq!(route.rules[0].matches[0].path.kind, PathKind::Exact);
    let weights: Vec<_> = route.rules[0].backend_refs.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [80, 20]);
}

#[test]
fn json_and_lists_are_read_too() {
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}"#;
    let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{service}]}}"#);
    for text in [service, &list] {
        let objects = parse_file("a.json", text).unwrap();
        assert_eq!(objects[0].key().to_string(), "Service default/a");
    }
    assert!(parse_file("empty.yaml", "# nothing yet\n").unwrap().is_empty());
}

/// Each edit of the shop (or a text of its own) and the beginning of every line of its error.
#[test]
fn mistakes_are_answered_with_place_path_and_what_would_be_right() {
    let edits: &[(&str, &str, &[&str])] = &[
        (
            "targetPort: web",
            "targetport: web",
            &["f:19:7: spec.ports[0].targetport: unknown field; did you mean `targetPort`?"],
        ),
        (
            "port: 80\n",
            "port: 70000\n",
            &["f:18:13: spec.ports[0].port: integer `70000` is not a port number from 1 to 65535"],
        ),
        (
            "port: 80\n",
            "port: \"80\"\n",
            &["f:18:13: spec.ports[0].port: expected a port number from 1 to 65535, found the string \"80\""],
        ),
        (
            "version: v1",
            "version: 1",
            &["f:31:34: spec.labels.version: expected a string (put it in quotes), found the number 1"],
        ),
        (
            "sessionAffinity: None",
            "sessionAffinity: ClientIP",
            &["f:14:20: spec.sessionAffinity: `ClientIP` is not possible here; known here: None"],
        ),
        (
            "  type: ClusterIP",
            "  trafficDistribution: PreferClose",
            &["f:13:3: spec.trafficDistribution: is not implemented; remove it"],
        ),
        (
            "kind: WorkloadEntry",
            "kind: WorkloadEntrie",
            &["f:26:7: kind: \"WorkloadEntrie\" is not a kind that is read here; did you mean `WorkloadEntry`?"],
        ),
        (
            "apiVersion: v1\n",
            "apiVersion: v2\n",
            &["f:2:13: apiVersion: \"v2\" is not the version of Service; write v1"],
        ),
        ("address: 127.0.0.1", "address: localhost", &["f:29:12: spec.address: \"localhost\" is not an IP address"]),
        (
            "defaultEndpoint: 127.0.0.1:9101",
            "defaultEndpoint: 9101",
            &["f:43:24: spec.ingress[0].defaultEndpoint: expected a string (put it in quotes), found the number 9101"],
        ),
        (
            "hosts: [\"*/*\"]",
            "hosts: [\"*\"]",
            &["f:48:15: spec.egress[1].hosts[0]: \"*\" is not understood; write namespace/host"],
        ),
        (
            "number: 9200",
            "number: 9001",
            &["f:45:22: spec.egress[0].port.number: address 127.0.0.1:9001 is already used by spec.ingress[0]"],
        ),
        (
            "weight: 80",
            "weigth: 80",
            &["f:61:40: spec.rules[0].backendRefs[0].weigth: unknown field; did you mean `weight`?"],
        ),
        (
            "kind: Service, name: catalog",
            "kind: Gateway, name: catalog",
            &["f:54:34: spec.parentRefs[0].kind: Gateway is not implemented; write kind: Service"],
        ),
        (
            "value: /books",
            "value: books",
            &["f:57:38: spec.rules[0].matches[0].path.value: \"books\" must start with /"],
        ),
        (
            "type: Exact, value: /books",
            "type: RegularExpression, value: \"/(\"",
            &["f:57:50: spec.rules[0].matches[0].path.value: \"/(\" is not a regular expression: unclosed group"],
        ),
        (
            "request: 2s",
            "request: 2 seconds",
            &["f:59:27: spec.rules[0].timeouts.request: \"2 seconds\" is not a duration; write for instance 10s"],
        ),
        (
            "name: catalog-v1, port: 80,",
            "name: catalog-v1,",
            &["f:61:11: spec.rules[0].backendRefs[0].port: is required for a Service"],
        ),
        ("  name: orders\n", "  name: Orders\n", &["f:5:9: metadata.name: \"Orders\" is not a name; use lower-case"]),
        ("  name: orders\n", "", &["f:5:3: metadata: the field `name` is required"]),
        (
            "spec:\n  address: 127.0.0.1",
            "specs:\n  address: 127.0.0.1",
            &["f:28:1: specs: unknown field; did you mean `spec`?", "f:25:1: spec: is required"],
        ),
    ];
    let mut wrong = Vec::new();
    for (from, to, expected) in edits {
        assert!(SHOP.contains(from), "the shop has no {from:?}");
        let error = parse_file("f", &SHOP.replacen(from, to, 1)).expect_err(to).to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{to}: {error}");
        for (line, expected) in lines.iter().zip(*expected) {
            if !line.starts_with(expected) {
                wrong.push(format!("{line}\ninstead of\n{expected}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn broken_yaml_says_where() {
    let error = parse_file("mesh.yaml", "apiVersion: v1\nkind: [Service\nspec: 1\n").unwrap_err().to_string();
    assert!(error.starts_with("mesh.yaml:"), "{error}");
    let twice = parse_file("mesh.yaml", "kind: a\nkind: b\n").unwrap_err().to_string();
    assert!(twice.starts_with("mesh.yaml:2:1: "), "{twice}");
    let scalar = parse_file("mesh.yaml", "hello\n").unwrap_err().to_string();
    assert_eq!(scalar, "mesh.yaml:1:1: expected an object with apiVersion and kind, found the string \"hello\"");
}

#[test]
fn filters_fit_their_type() {
    let route = |filters: &str| {
        let head = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n";
        let parent = "  parentRefs: [{group: \"\", kind: Service, name: a}]\n";
        format!("{head}{parent}  rules: [{{matches: [{{path: {{value: /a}}}}], filters: [{filters}]}}]\n")
    };
    for good in [
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}}",
        "{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}",
        "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}",
    ] {
        parse_file("f", &route(good)).unwrap();
    }
    for (bad, expected) in [
        ("{type: RequestHeaderModifier}", "requestHeaderModifier: is required by the filter's type"),
        ("{type: URLRewrite, urlRewrite: {}, requestRedirect: {}}", "requestRedirect: does not belong"),
        ("{type: RequestMirror, requestMirror: {}}", "requestMirror: is not implemented"),
        ("{type: RequestRedirect, requestRedirect: {statusCode: 200}}", "statusCode: must be 301"),
        ("{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}", "this type needs `replaceFullPath`"),
    ] {
        let error = parse_file("f", &route(bad)).unwrap_err().to_string();
        assert!(error.contains(expected), "{bad}: {error}");
    }
}

#[test]
fn duplicates_name_both_files() {
    let mut set = ObjectSet::default();
    let parse = |file: &str| parse_file(file, SHOP).unwrap();
    set.replace("a.yaml", parse("a.yaml")).unwrap();
    set.replace("a.yaml", parse("a.yaml")).expect("a file may replace itself");
    let error = set.replace("b.yaml", parse("b.yaml")).unwrap_err().to_string();
    assert!(
        error.starts_with("b.yaml:2:1: metadata.name: Service shop/orders is already defined in a.yaml:2"),
        "{error}"
    );
    assert_eq!(set.objects().count(), 4);

    let twice = format!("{SHOP}---\n{SHOP}");
    let error = set.replace("a.yaml", parse_file("a.yaml", &twice).unwrap()).unwrap_err().to_string();
    assert!(error.contains("already defined in line 2 of this file"), "{error}");
    set.remove("a.yaml");
    set.replace("b.yaml", parse("b.yaml")).unwrap();
    assert_eq!(set.file_of(&parse("b.yaml")[0].key()), Some("b.yaml"));
}

#[test]
fn a_file_may_hold_as_many_objects_as_one_likes() {
    let one = |number: usize| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, labels: {{a: b, c: d}}}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n"
        )
    };
    let text: String = (0..1_100).map(one).collect();
    assert_eq!(parse_file("all.yaml", &text).unwrap().len(), 1_100);
}
