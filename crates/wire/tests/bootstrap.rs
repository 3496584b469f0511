//! Bootstraps as users write them: the examples compile, and what is wrong is said with place and remedy.

use model::balance::{LeastRequest, Policy};
use model::cluster::{Cause, Discovery, UpstreamProtocol};
use model::http::RouteSource;
use model::listener::NetworkFilter;
use model::route::{Action, Target};
use std::time::Duration;
use wire::Bootstrap;
use wire::compile::bootstrap::{Overrides, load};
use wire::compile::source::Source;

fn example(name: &str) -> Bootstrap {
    let path = format!("{}/../../examples/bootstrap/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the example is there");
    load(Some((name, &text)), &Overrides::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn errors(yaml: &str) -> Vec<String> {
    let error = load(Some(("f", yaml)), &Overrides::default()).expect_err("the bootstrap is wrong");
    error.to_string().lines().map(str::to_string).collect()
}

#[test]
fn static_example() {
    let bootstrap = example("static.yaml");
    assert_eq!(bootstrap.admin.unwrap().to_string(), "127.0.0.1:9901");
    let NetworkFilter::Http(http) = &bootstrap.listeners[0].value.chains[0].filter else { panic!("not HTTP") };
    assert_eq!(http.timeouts.stream_idle, Duration::from_secs(300));
    assert_eq!((http.max_head_bytes, http.max_headers, &*http.server_name), (60 * 1024, 100, "envoy"));
    let RouteSource::Inline(table) = &http.routes else { panic!("not inline") };
    let routes = &table.virtual_hosts[0].routes;
    let (Action::Forward(orders), Action::Forward(web)) = (&routes[1].action, &routes[2].action) else {
        panic!("not forwarded")
    };
    assert_eq!((orders.timeout, web.timeout), (Duration::from_secs(5), Duration::from_secs(15)));
    assert!(orders.retry.as_ref().is_some_and(|retry| retry.on.gateway_error && retry.num_retries == 2));
    assert!(matches!(&web.target, Target::Weighted(weighted) if weighted.total == 100));
    let cluster = &bootstrap.clusters[0].value;
    assert_eq!(cluster.policy, Policy::LeastRequest(LeastRequest::default()));
    assert!(matches!(cluster.discovery, Discovery::StrictDns { .. }));
    let outlier = bootstrap.clusters[1].value.outlier.clone().unwrap();
    assert_eq!(
        (outlier.consecutive_5xx, outlier.consecutive_gateway_failure, outlier.max_ejection_percent),
        (3, 5, 10)
    );
    assert_eq!(outlier.enforcing[Cause::ConsecutiveGatewayFailure as usize], 0);
}

#[test]
fn tls_example() {
    let bootstrap = example("tls.yaml");
    let listener = &bootstrap.listeners[0].value;
    assert!(listener.inspect_tls && listener.default_chain.is_some());
    assert!(listener.chains[0].tls.as_ref().unwrap().require_client_certificate);
    let cluster = &bootstrap.clusters[0].value;
    assert_eq!(cluster.protocol, UpstreamProtocol::Alpn);
    assert_eq!(&*cluster.tls.as_ref().unwrap().sni, "orders.internal");
    assert_eq!(bootstrap.secrets.len(), 2);
    assert!(bootstrap.listeners[0].needs.is_empty(), "static secrets need no discovery");
}

#[test]
fn ads_example() {
    let bootstrap = example("ads.yaml");
    let ads = bootstrap.dynamic.ads.unwrap();
    assert!(ads.delta && ads.cluster == "control-plane");
    assert_eq!((bootstrap.dynamic.lds, bootstrap.dynamic.cds), (Some(Source::Ads), Some(Source::Ads)));
    assert_eq!(bootstrap.clusters[0].value.http2.keepalive_interval, Duration::from_secs(30));
}

#[test]
fn command_line_overrides_the_file() {
    let overrides = Overrides {
        yaml: Some("admin: {address: {pipe: {path: /tmp/admin.sock}}}".into()),
        node_id: Some("other".into()),
        node_cluster: None,
    };
    let bootstrap = load(Some(("f", "node: {id: a, cluster: c}")), &overrides).unwrap();
    assert_eq!((bootstrap.node.id.as_str(), bootstrap.node.cluster.as_str()), ("other", "c"));
    assert_eq!(bootstrap.admin.unwrap().to_string(), "/tmp/admin.sock");
    assert!(load(None, &overrides).is_ok());
}

#[test]
fn all_problems_are_reported_with_their_places() {
    let yaml = "\
static_resources:
  clusters:
  - name: a
    type: ORIGINAL_DST
  - name: a
    lb_policy: CLUSTER_PROVIDED
";
    assert_eq!(errors(yaml), ["f:5:5: static_resources.clusters[1].name: `a` is used twice"]);
    let fixed = yaml.replacen("- name: a", "- name: b", 1);
    assert_eq!(
        errors(&fixed),
        [
            "f:3:5: static_resources.clusters[0].lb_policy: must be CLUSTER_PROVIDED for this type of cluster",
            "f:6:5: static_resources.clusters[1].lb_policy: CLUSTER_PROVIDED is for clusters with a policy of their own; \
             choose another",
        ]
    );
}

#[test]
fn unimplemented_fields_are_refused_by_path() {
    let yaml = "static_resources:\n  clusters:\n  - name: a\n    connection_pool_per_downstream_connection: true\n";
    assert_eq!(
        errors(yaml),
        ["f:4:5: static_resources.clusters[0].connection_pool_per_downstream_connection: is not implemented"]
    );
}

/// One virtual host with the given routes, behind an HTTP listener.
fn with_route(route: &str) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters";
    format!(
        "static_resources: {{clusters: [{{name: a}}], listeners: [{{name: l, \
         address: {{socket_address: {{address: 127.0.0.1, port_value: 1}}}}, filter_chains: [{{filters: [{{name: h, \
         typed_config: {{\"@type\": {types}.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: s, http_filters: [{{name: r, typed_config: {{\"@type\": {types}.http.router.v3.Router}}}}], \
         route_config: {{virtual_hosts: [{{name: v, domains: [\"*\"], routes: [{route}]}}]}}}}}}]}}]}}]}}"
    )
}

#[test]
fn routes_are_checked() {
    let table = [
        ("{match: {prefix: /}, route: {cluster: b}}", "no cluster is called `b`"),
        ("{match: {prefix: /}}", "action: is required"),
        ("{match: {}, route: {cluster: a}}", "match.path_specifier: is required"),
        ("{match: {safe_regex: {regex: \"(\"}}, route: {cluster: a}}", "is not a regular expression"),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}}",
            "the sum of the weights must be greater than 0",
        ),
        (
            "{match: {prefix: /}, route: {cluster: a, retry_policy: {retry_on: sometimes}}}",
            "`sometimes` is not a retry condition",
        ),
        (
            "{match: {prefix: /}, route: {cluster: a}, request_headers_to_add: [{header: {key: x, value: \"%NO%\"}}]}",
            "unknown or unimplemented command operator NO",
        ),
        (
            "{match: {prefix: /}, route: {cluster: a}, request_headers_to_remove: [Host]}",
            "host headers may not be removed",
        ),
        ("{match: {prefix: /}, direct_response: {status: 99}}", "99 is not a status"),
        (
            "{match: {prefix: /}, route: {cluster: a}, request_headers_to_add: [{header: {key: x, value: \"a\\nb\"}}]}",
            "must not contain line breaks",
        ),
        (
            "{match: {prefix: /}, route: {cluster: a, upgrade_configs: [{upgrade_type: a}, {upgrade_type: A}]}}",
            "`a` is configured twice",
        ),
        (
            "{match: {prefix: /, headers: [{name: a, string_match: {safe_regex: {regex: a}, ignore_case: true}}]}, \
             route: {cluster: a}}",
            "ignore_case: has no effect for safe_regex",
        ),
        (
            "{match: {prefix: /}, route: {cluster: a, regex_rewrite: {pattern: {regex: x}, substitution: '\\1'}}}",
            "must be followed by",
        ),
    ];
    for (route, wanted) in table {
        let found = errors(&with_route(route));
        assert!(found.len() == 1 && found[0].contains(wanted), "{route}: {found:?}");
        assert!(found[0].contains("listeners[0].filter_chains[0].filters[0].typed_config.route_config"), "{found:?}");
    }
    assert!(load(Some(("f", &with_route("{match: {prefix: /}, route: {cluster: a}}"))), &Overrides::default()).is_ok());
}

#[test]
fn what_is_referred_to_must_come_from_somewhere() {
    let eds = "static_resources: {clusters: [{name: e, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}]}";
    assert_eq!(errors(eds), ["f:1:1: dynamic_resources.ads_config: is required: `e` refers to `e` by ADS"]);
}

#[test]
fn clusters_are_checked() {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let auto = format!(
        "{{name: a, typed_extension_protocol_options: {{{options}: {{\"@type\": type.googleapis.com/{options}, \
         auto_config: {{}}}}}}}}"
    );
    let table = [
        ("{}", "name: must not be empty"),
        ("{name: a, connect_timeout: 0s}", "connect_timeout: must be greater than 0s"),
        ("{name: a, type: EDS}", "eds_cluster_config: is required for a cluster of type EDS"),
        ("{name: a, load_assignment: {}}", "load_assignment.cluster_name: must not be empty"),
        ("{name: a, outlier_detection: {max_ejection_percent: 120}}", "must not be greater than 100"),
        ("{name: a, outlier_detection: {enforcing_consecutive_5xx: 101}}", "must not be greater than 100"),
        ("{name: a, lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 1}}", "must be at least 2"),
        ("{name: a, load_balancing_policy: {}}", "none of [] is implemented"),
        (auto.as_str(), "transport_socket: must be TLS"),
    ];
    for (cluster, wanted) in table {
        let found = errors(&format!("static_resources: {{clusters: [{cluster}]}}"));
        assert!(found.len() == 1 && found[0].contains(wanted), "{cluster}: {found:?}");
    }
}

#[test]
fn a_bootstrap_may_be_large() {
    let numbers = "1,".repeat(260_000);
    let yaml = format!("node: {{metadata: {{many: [{numbers}1]}}}}\n");
    load(Some(("f", &yaml)), &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
}
