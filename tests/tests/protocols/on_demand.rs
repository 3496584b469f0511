//! What is discovered when a request needs it: clusters, virtual hosts, scopes. The same control plane serves both proxies.

use crate::support::{BOTH, Kind, Proxy, indent};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::xds::Xds;
use wire::ResourceKind;

/// Most time for a change to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

const DEMANDS: &str = "envoy.filters.http.on_demand";
const OWN: &str = "{ resource_api_version: V3, api_config_source: { api_type: DELTA_GRPC, transport_api_version: V3, \
    grpc_services: [{ envoy_grpc: { cluster_name: xds } }] } }";
const ADS: &str = "{ resource_api_version: V3, ads: {} }";

/// One HTTP listener whose clients' requests are answered with the flags and details of their ends. `filter`: fields of the
/// on_demand filter; `None`: there is none. `routes` are the fields of the connection manager that say how it routes.
fn bootstrap(xds: &Xds, filter: Option<&str>, routes: &str) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters";
    let demands = filter.map(|fields| {
        format!("- name: {DEMANDS}\n  typed_config: {{ \"@type\": {types}.http.on_demand.v3.OnDemand{fields} }}\n")
    });
    let manager = format!(
        "\"@type\": {types}.network.http_connection_manager.v3.HttpConnectionManager\nstat_prefix: test\n\
         local_reply_config: {{ body_format: {{ text_format: \"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\" }} }}\n\
         http_filters:\n{}- name: router\n  typed_config: {{ \"@type\": {types}.http.router.v3.Router }}\n{routes}",
        demands.unwrap_or_default()
    );
    format!(
        "node: {{ id: test, cluster: test }}\n\
         admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\n\
         dynamic_resources: {{ ads_config: {{ api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{ \
         envoy_grpc: {{ cluster_name: xds }} }}] }} }}\n\
         static_resources:\n  listeners:\n  - name: test\n    address: {{ socket_address: {{ address: 127.0.0.1, \
         port_value: {{PORT}} }} }}\n    filter_chains:\n    - filters:\n      - name: http\n        typed_config:\n{}  \
         clusters:\n{}",
        indent(&manager, 10),
        indent(&crate::support::cluster("xds", xds.port, crate::support::HTTP2), 2)
    )
}

fn cluster(name: &str, port: u16) -> String {
    format!(
        "{{ name: {name}, type: STATIC, connect_timeout: 1s, load_assignment: {{ cluster_name: {name}, endpoints: [{{ \
         lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} \
         }}] }}] }} }}"
    )
}

/// Status, and who or what answered.
fn ask(port: u16, host: &str, headers: &str) -> (u16, String) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    let answer = exchange(port, request.as_bytes(), 1).remove(0);
    let from = answer.headers.iter().find(|(name, _)| name == "x-backend").map(|(_, value)| value.clone());
    (answer.status, from.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned()))
}

/// Asks until the answer is `wanted`.
fn ask_until(port: u16, host: &str, headers: &str, wanted: (u16, &str)) {
    let begin = Instant::now();
    loop {
        let found = ask(port, host, headers);
        if (found.0, found.1.as_str()) == wanted {
            return;
        }
        assert!(begin.elapsed() < ARRIVAL, "{found:?} instead of {wanted:?}");
    }
}

fn backends() -> [Backend; 2] {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    ["a", "b"].map(|name| Backend::start(name, &log))
}

const NONE: (u16, &str) = (503, "NC cluster_not_found");
const NO_ROUTE: (u16, &str) = (404, "NR route_not_found");

fn told(answer: &(u16, String)) -> (u16, &str) {
    (answer.0, &answer.1)
}

const BY_HEADER: &str = "route_config:\n  validate_clusters: false\n  virtual_hosts:\n  - name: all\n    domains: ['*']\n    \
    routes:\n    - match: { prefix: /fixed }\n      route: { cluster: fixed }\n    - match: { prefix: /barred }\n      \
    route: { cluster: barred }\n      typed_per_filter_config: { envoy.filters.http.on_demand: { \"@type\": \
    type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.PerRouteConfig } }\n    - match: { prefix: / }\n      \
    route: { cluster_header: x-cluster }\n";

#[test]
fn clusters_come_when_they_are_called() {
    let [a, b] = backends();
    for (kind, source) in BOTH.into_iter().flat_map(|kind| [(kind, ADS), (kind, OWN)]) {
        let xds = Xds::start();
        xds.be_silent("silent");
        xds.set_on_demand(ResourceKind::Cluster, "a", &cluster("a", a.port));
        let odcds = format!(", odcds: {{ source: {source}, timeout: 3s }}");
        let proxy = Proxy::start(kind, "odcds", &bootstrap(&xds, Some(&odcds), BY_HEADER));
        let port = proxy.port;
        let context = || format!("{kind:?} {source}\n{}", proxy.process.log());
        // Many wait for one.
        let waiting = [(); 8].map(|()| thread::spawn(move || ask(port, "test", "x-cluster: a\r\n")));
        for answer in waiting.map(|waiting| waiting.join().expect("an answer")) {
            assert_eq!(told(&answer), (200, "a"), "{}", context());
        }
        if kind == Kind::Ripstop {
            assert_eq!(xds.asked(ResourceKind::Cluster, "a"), 1, "{}", context());
        }
        // There is none, and it is said at once; later there is one.
        assert_eq!(told(&ask(port, "test", "x-cluster: b\r\n")), NONE, "{}", context());
        xds.set_on_demand(ResourceKind::Cluster, "b", &cluster("b", b.port));
        ask_until(port, "test", "x-cluster: b\r\n", (200, "b"));
        // Nothing is said of it.
        let begin = Instant::now();
        assert_eq!(told(&ask(port, "test", "x-cluster: silent\r\n")), NONE, "{}", context());
        assert!(begin.elapsed() > Duration::from_millis(2900), "{}", context());
        assert_eq!(told(&ask(port, "test", "")), NONE, "{}", context());
        // It changes, and it goes.
        xds.set_on_demand(ResourceKind::Cluster, "a", &cluster("a", b.port));
        ask_until(port, "test", "x-cluster: a\r\n", (200, "b"));
        xds.remove(ResourceKind::Cluster, "a");
        ask_until(port, "test", "x-cluster: a\r\n", NONE);
        xds.set_on_demand(ResourceKind::Cluster, "a", &cluster("a", a.port));
        ask_until(port, "test", "x-cluster: a\r\n", (200, "a"));
        assert_eq!(xds.refused(), Vec::<String>::new());
    }
}

fn path(port: u16, path: &str) -> (u16, String) {
    let answer = exchange(port, format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes(), 1).remove(0);
    let from = answer.headers.iter().find(|(name, _)| name == "x-backend").map(|(_, value)| value.clone());
    (answer.status, from.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned()))
}

#[test]
fn clusters_of_routes_come_unless_the_route_says_otherwise() {
    let [a, _] = backends();
    for kind in BOTH {
        let xds = Xds::start();
        xds.set_on_demand(ResourceKind::Cluster, "barred", &cluster("barred", a.port));
        xds.set_on_demand(ResourceKind::Cluster, "fixed", &cluster("fixed", a.port));
        let odcds = format!(", odcds: {{ source: {ADS} }}");
        let proxy = Proxy::start(kind, "odcds-routes", &bootstrap(&xds, Some(&odcds), BY_HEADER));
        assert_eq!(told(&path(proxy.port, "/barred")), NONE, "{kind:?}");
        assert_eq!(told(&path(proxy.port, "/fixed")), (200, "a"), "{kind:?}");
        assert_eq!(xds.asked(ResourceKind::Cluster, "barred"), 0);
        let proxy = Proxy::start(kind, "odcds-none", &bootstrap(&xds, Some(""), BY_HEADER));
        assert_eq!(told(&path(proxy.port, "/fixed")), NONE, "{kind:?}");
    }
}

fn virtual_host(name: &str, domain: &str, cluster: &str) -> String {
    format!(
        "{{ name: {name}, domains: ['{domain}'], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: {cluster} }} }}] }}"
    )
}

const BY_RDS: &str = "rds: { route_config_name: table, config_source: { resource_api_version: V3, ads: {} } }\n";

#[test]
fn virtual_hosts_come_when_they_are_called() {
    let [a, b] = backends();
    for (kind, source) in BOTH.into_iter().flat_map(|kind| [(kind, ADS), (kind, OWN)]) {
        let xds = Xds::start();
        let fixed = virtual_host("fixed", "fixed.test", "a");
        // Envoy waits for a first answer that nobody asked for.
        let source = source.replacen('{', "{ initial_fetch_timeout: 0.2s,", 1);
        xds.set(
            ResourceKind::Routes,
            "table",
            &format!("{{ name: table, virtual_hosts: [{fixed}], vhds: {{ config_source: {source} }} }}"),
        );
        let host = |domain: &str, cluster: &str| virtual_host(&format!("table/{domain}"), domain, cluster);
        xds.set(ResourceKind::VirtualHosts, "table/one.test", &host("one.test", "a"));
        let more = [cluster("a", a.port), cluster("b", b.port)].map(|one| format!("- {one}\n")).concat();
        let text = bootstrap(&xds, Some(""), BY_RDS) + &indent(&more, 2);
        let proxy = Proxy::start(kind, "vhds", &text);
        let port = proxy.port;
        let context = || format!("{kind:?} {source}\n{}", proxy.process.log());
        assert_eq!(told(&ask(port, "fixed.test", "")), (200, "a"), "{}", context());
        let waiting = [(); 8].map(|()| thread::spawn(move || ask(port, "One.test", "")));
        for answer in waiting.map(|waiting| waiting.join().expect("an answer")) {
            assert_eq!(told(&answer), (200, "a"), "{}", context());
        }
        if kind == Kind::Ripstop {
            assert_eq!(xds.asked(ResourceKind::VirtualHosts, "table/one.test"), 1, "{}", context());
        }
        assert_eq!(told(&ask(port, "two.test", "")), NO_ROUTE, "{}", context());
        xds.set(ResourceKind::VirtualHosts, "table/two.test", &host("two.test", "b"));
        ask_until(port, "two.test", "", (200, "b"));
        assert_eq!(told(&ask(port, "fixed.test", "")), (200, "a"), "{}", context());
        xds.set(ResourceKind::VirtualHosts, "table/one.test", &host("one.test", "b"));
        ask_until(port, "one.test", "", (200, "b"));
        xds.remove(ResourceKind::VirtualHosts, "table/one.test");
        ask_until(port, "one.test", "", NO_ROUTE);
        assert_eq!(xds.refused(), Vec::<String>::new());
    }
}

const KEY: &str = "name: scopes\n  scope_key_builder: { fragments: [{ header_value_extractor: { name: x-scope, \
    element_separator: ';', element: { separator: '=', key: v } } }, { header_value_extractor: { name: x-zone, \
    index: 0 } }] }\n";

fn table(cluster: &str) -> String {
    format!("{{ name: {cluster}, virtual_hosts: [{}] }}", virtual_host("all", "*", cluster))
}

fn scope(name: &str, key: [&str; 2], more: &str) -> String {
    let [first, second] = key;
    format!(
        "{{ name: {name}, key: {{ fragments: [{{ string_key: '{first}' }}, {{ string_key: '{second}' }}] }}, {more} }}"
    )
}

/// Requests, and where they go with scopes `(1, z)` for a and `(2, "")` for b.
const SCOPED: [(&str, (u16, &str)); 9] = [
    ("x-scope: v=1\r\nx-zone: z\r\n", (200, "a")),
    ("x-scope: k;u=0;v=1;v=2\r\nx-zone: z\r\n", (200, "a")),
    ("x-scope: v=2\r\nx-zone:\r\n", (200, "b")),
    ("x-scope: v=2\r\n", NO_ROUTE),
    ("x-scope: v=1\r\nx-zone: z;y\r\n", NO_ROUTE),
    ("x-scope: v=1\r\nx-scope: v=2\r\nx-zone: z\r\n", (200, "a")),
    ("x-scope: w=1\r\nx-scope: v=1\r\nx-zone: z\r\n", NO_ROUTE),
    ("x-scope: v\r\nx-zone: z\r\n", NO_ROUTE),
    ("", NO_ROUTE),
];

#[test]
fn scopes_choose_the_table() {
    let [a, b] = backends();
    let clusters = [cluster("a", a.port), cluster("b", b.port)].map(|one| format!("- {one}\n")).concat();
    for (kind, discovered) in BOTH.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let xds = Xds::start();
        let inline = format!("route_configuration: {}", table("a"));
        let one = scope("one", ["1", "z"], &inline);
        // Envoy takes names from SRDS only.
        let inline_b = format!("route_configuration: {}", table("b"));
        let two = scope("two", ["2", ""], if discovered { "route_configuration_name: b" } else { &inline_b });
        xds.set(ResourceKind::Routes, "b", &table("b"));
        let scopes = if discovered {
            xds.set(ResourceKind::ScopedRoutes, "one", &one);
            xds.set(ResourceKind::ScopedRoutes, "two", &two);
            format!("scoped_rds: {{ scoped_rds_config_source: {ADS} }}")
        } else {
            format!("scoped_route_configurations_list: {{ scoped_route_configurations: [{one}, {two}] }}")
        };
        let routes = format!("scoped_routes:\n  {KEY}  rds_config_source: {ADS}\n  {scopes}\n");
        // Envoy 1.40 crashes when the filter meets a request that is in no scope of a list.
        let filter = discovered.then_some("");
        let proxy = Proxy::start(kind, "scopes", &(bootstrap(&xds, filter, &routes) + &indent(&clusters, 2)));
        for (headers, wanted) in SCOPED {
            let answer = ask(proxy.port, "test", headers);
            assert_eq!(told(&answer), wanted, "{kind:?} {discovered} {headers:?}\n{}", proxy.process.log());
        }
        if discovered {
            let port = proxy.port;
            let many = |value: &str| format!("x-scope: v={value}\r\nx-zone: z\r\n");
            // A scope comes, moves to another key, and goes.
            xds.set(ResourceKind::ScopedRoutes, "three", &scope("three", ["3", "z"], "route_configuration_name: b"));
            ask_until(port, "test", &many("3"), (200, "b"));
            xds.set(ResourceKind::ScopedRoutes, "three", &scope("three", ["4", "z"], "route_configuration_name: b"));
            ask_until(port, "test", &many("4"), (200, "b"));
            assert_eq!(told(&ask(port, "test", &many("3"))), NO_ROUTE);
            xds.remove(ResourceKind::ScopedRoutes, "three");
            ask_until(port, "test", &many("4"), NO_ROUTE);
            // The table of a scope on demand comes with the first request.
            xds.set(ResourceKind::Routes, "late", &table("a").replace("name: a,", "name: late,"));
            let late = scope("late", ["5", "z"], "on_demand: true, route_configuration_name: late");
            xds.set(ResourceKind::ScopedRoutes, "late", &late);
            xds.set(ResourceKind::ScopedRoutes, "after", &scope("after", ["6", "z"], "route_configuration_name: b"));
            ask_until(port, "test", &many("6"), (200, "b"));
            assert_eq!(xds.asked(ResourceKind::Routes, "late"), 0, "{kind:?}");
            assert_eq!(told(&ask(port, "test", &many("5"))), (200, "a"), "{kind:?}");
            assert_eq!(xds.refused(), Vec::<String>::new());
            // Two scopes with one key.
            xds.set(ResourceKind::ScopedRoutes, "twice", &scope("twice", ["6", "z"], "route_configuration_name: b"));
            let begin = Instant::now();
            while xds.refused().is_empty() {
                assert!(begin.elapsed() < ARRIVAL, "{kind:?}: nobody objects");
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(told(&ask(port, "test", &many("6"))), (200, "b"), "{kind:?}");
        }
    }
}

/// A virtual host on demand in the table of a scope on demand: two waits. (Envoy 1.40 never answers these.)
#[test]
fn one_wait_may_follow_another() {
    let [a, _] = backends();
    let clusters = format!("- {}\n", cluster("a", a.port));
    let xds = Xds::start();
    let late = scope("late", ["5", "z"], "on_demand: true, route_configuration_name: late");
    xds.set(ResourceKind::ScopedRoutes, "late", &late);
    xds.set(ResourceKind::Routes, "late", &format!("{{ name: late, vhds: {{ config_source: {ADS} }} }}"));
    xds.set(ResourceKind::VirtualHosts, "late/one.test", &virtual_host("late/one.test", "one.test", "a"));
    let scopes = format!("scoped_rds: {{ scoped_rds_config_source: {ADS} }}");
    let routes = format!("scoped_routes:\n  {KEY}  rds_config_source: {ADS}\n  {scopes}\n");
    let text = bootstrap(&xds, Some(""), &routes) + &indent(&clusters, 2);
    let proxy = Proxy::start(Kind::Ripstop, "waits", &text);
    let headers = "x-scope: v=5\r\nx-zone: z\r\n";
    assert_eq!(told(&ask(proxy.port, "one.test", headers)), (200, "a"), "{}", proxy.process.log());
    assert_eq!(told(&ask(proxy.port, "two.test", headers)), NO_ROUTE);
}
