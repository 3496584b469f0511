//! Load balancing from YAML to the model: what is accepted, and what is wrong.

use model::balance::{
    ClientWeighted, Fallback, HashBy, HashFunction, Hashing, LeastRequest, Localities, Maglev, PeakEwma, Policy,
    RingHash, SlowStart, ZoneAware,
};
use model::cluster::Cluster;
use model::route::Action;
use std::sync::Arc;
use std::time::Duration;
use wire::compile::bootstrap::{Overrides, load};

fn cluster(fields: &str) -> Result<Arc<Cluster>, String> {
    let text = format!("static_resources: {{clusters: [{{name: a, {fields}}}]}}");
    let bootstrap = load(Some(("f", &text)), &Overrides::default()).map_err(|error| error.to_string())?;
    Ok(bootstrap.clusters[0].value.clone())
}

/// As an extension; `config` are the fields of the message.
fn extension(kind: &str, config: &str) -> String {
    format!("load_balancing_policy: {{policies: [{}]}}", policy(kind, config))
}

fn policy(kind: &str, config: &str) -> String {
    let prefix = "type.googleapis.com/envoy.extensions.load_balancing_policies";
    format!("{{typed_extension_config: {{name: x, typed_config: {{\"@type\": {prefix}.{kind}, {config}}}}}}}")
}

fn own(name: &str, config: &str) -> String {
    let kind = "type.googleapis.com/google.protobuf.Struct";
    format!("{{typed_extension_config: {{name: {name}, typed_config: {{\"@type\": {kind}, value: {{{config}}}}}}}}}")
}

#[test]
fn policies() {
    let slow = SlowStart { window: Duration::from_secs(60), aggression: 2.0, min_weight: 0.2 };
    let start = "slow_start_config: {slow_start_window: 60s, aggression: {default_value: 2, runtime_key: r}, \
                 min_weight_percent: {value: 20}}";
    let named = Hashing { use_hostname: true, balance_factor: Some(150) };
    let shared = "common_lb_config: {consistent_hashing_lb_config: {use_hostname_for_hashing: true, \
                  hash_balance_factor: 150}}";
    let full = LeastRequest { choices: 3, bias: 0.5, full_scan: true, slow_start: Some(slow) };
    let ring = RingHash { min_size: 10, max_size: 20, function: HashFunction::MurmurHash2, hashing: named };
    let weighted = ClientWeighted {
        blackout: Duration::from_secs(1),
        metrics: vec!["named_metrics.q".into()],
        ..ClientWeighted::default()
    };
    let ewma = PeakEwma { decay: Duration::from_secs(5), choices: 4, ..PeakEwma::default() };
    let cases = [
        (format!("round_robin_lb_config: {{{start}}}"), Policy::RoundRobin { slow_start: Some(slow) }),
        (extension("round_robin.v3.RoundRobin", start), Policy::RoundRobin { slow_start: Some(slow) }),
        (
            extension(
                "least_request.v3.LeastRequest",
                &format!(
                    "choice_count: 3, active_request_bias: {{default_value: 0.5, runtime_key: r}}, \
                          selection_method: FULL_SCAN, {start}"
                ),
            ),
            Policy::LeastRequest(full),
        ),
        (
            format!(
                "lb_policy: RING_HASH, ring_hash_lb_config: {{minimum_ring_size: 10, maximum_ring_size: 20, \
                 hash_function: MURMUR_HASH_2}}, {shared}"
            ),
            Policy::RingHash(ring.clone()),
        ),
        (
            extension(
                "ring_hash.v3.RingHash",
                "minimum_ring_size: 10, maximum_ring_size: 20, hash_function: MURMUR_HASH_2, \
                 consistent_hashing_lb_config: {use_hostname_for_hashing: true, hash_balance_factor: 150}",
            ),
            Policy::RingHash(ring),
        ),
        ("lb_policy: MAGLEV".into(), Policy::Maglev(Maglev::default())),
        (
            extension("maglev.v3.Maglev", "table_size: 1009"),
            Policy::Maglev(Maglev { table_size: 1009, ..Maglev::default() }),
        ),
        (
            extension(
                "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
                "blackout_period: 1s, metric_names_for_computing_utilization: [named_metrics.q]",
            ),
            Policy::ClientWeighted(weighted.into()),
        ),
        (format!("load_balancing_policy: {{policies: [{}]}}", own("ripstop.dev/adaptive", "")), Policy::Adaptive),
        (
            format!(
                "load_balancing_policy: {{policies: [{}]}}",
                own("envoy.load_balancing_policies.peak_ewma", "decay_time: 5s, choice_count: 4")
            ),
            Policy::PeakEwma(ewma),
        ),
        // The first known one counts; unknown ones are passed over.
        (
            format!(
                "load_balancing_policy: {{policies: [{}, {}, {}]}}",
                own("someone.else/policy", "a: 1"),
                policy("pick_first.v3.PickFirst", ""),
                policy("random.v3.Random", "")
            ),
            Policy::Random,
        ),
    ];
    for (fields, expected) in cases {
        assert_eq!(cluster(&fields).unwrap().policy, expected, "{fields}");
    }
}

#[test]
fn localities_and_subsets() {
    let zones = Localities::ZoneAware(ZoneAware {
        routing_enabled: 50,
        min_cluster_size: 3,
        fail_traffic_on_panic: true,
        force_local: false,
    });
    let config =
        "zone_aware_lb_config: {routing_enabled: {value: 50}, min_cluster_size: 3, fail_traffic_on_panic: true}";
    let inner = format!("endpoint_picking_policy: {{policies: [{}]}}", policy("random.v3.Random", ""));
    let cases = [
        (format!("common_lb_config: {{{config}}}"), zones.clone()),
        (extension("random.v3.Random", &format!("locality_lb_config: {{{config}}}")), zones),
        ("common_lb_config: {locality_weighted_lb_config: {}}".into(), Localities::Weighted),
        (extension("maglev.v3.Maglev", "locality_weighted_lb_config: {}"), Localities::Weighted),
        (extension("wrr_locality.v3.WrrLocality", &inner), Localities::Weighted),
        ("lb_policy: RANDOM".into(), Localities::default()),
    ];
    for (fields, expected) in cases {
        assert_eq!(cluster(&fields).unwrap().localities, expected, "{fields}");
    }
    let subsets = "fallback_policy: DEFAULT_SUBSET, default_subset: {b: 1, a: x}, list_as_any: true, subset_selectors: \
                   [{keys: [v, s], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [s]}, {keys: [s]}]";
    let inner = format!("{subsets}, subset_lb_policy: {{policies: [{}]}}", policy("random.v3.Random", ""));
    for fields in [format!("lb_subset_config: {{{subsets}}}"), extension("subset.v3.Subset", &inner)] {
        let found = cluster(&fields).unwrap().subsets.clone().unwrap();
        assert_eq!(found.default_subset, [("a".into(), "\"x\"".into()), ("b".into(), "1".into())]);
        assert_eq!((found.fallback, found.list_as_any), (Fallback::Default, true));
        assert_eq!(found.selectors[0].keys, ["s".into(), "v".into()]);
        assert_eq!(found.selectors[0].fallback, Some(Fallback::Keys(vec!["s".into()])));
        assert_eq!(found.selectors[1].fallback, None);
    }
}

#[test]
fn what_is_wrong() {
    let both = format!("lb_subset_config: {{}}, {}", extension("random.v3.Random", ""));
    let unknown = extension("pick_first.v3.PickFirst", "");
    let adaptive = format!("load_balancing_policy: {{policies: [{}]}}", own("ripstop.dev/adaptive", "fast: true"));
    let cases = [
        ("lb_policy: MAGLEV, maglev_lb_config: {table_size: 1000}", "must be a prime number"),
        (
            "lb_policy: RING_HASH, ring_hash_lb_config: {maximum_ring_size: 3}",
            "must not be less than minimum_ring_size",
        ),
        ("lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 8388609}", "must not be greater than 8388608"),
        ("common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 99}}", "must be at least 100"),
        (
            "round_robin_lb_config: {slow_start_config: {slow_start_window: 1s, aggression: {runtime_key: r}}}",
            "aggression: must be greater than 0",
        ),
        ("lb_subset_config: {subset_selectors: [{keys: []}]}", "must have at least one key"),
        (
            "lb_subset_config: {subset_selectors: [{keys: [a, b]}, {keys: [b, a]}]}",
            "another selector has the same keys",
        ),
        (
            "lb_subset_config: {subset_selectors: [{keys: [a], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [a]}]}",
            "must be some of the selector's keys",
        ),
        ("lb_subset_config: {subset_selectors: [{keys: [a, b], single_host_per_subset: true}]}", "exactly one key"),
        ("lb_subset_config: {metadata_fallback_policy: FALLBACK_LIST}", "FALLBACK_LIST is not implemented"),
        (both.as_str(), "lb_subset_config: cannot be set together with load_balancing_policy"),
        (unknown.as_str(), "policies: none of [x] is implemented"),
        (adaptive.as_str(), "fast: there is nothing to configure"),
    ];
    for (fields, expected) in cases {
        let found = cluster(fields).unwrap_err();
        assert!(found.contains(expected), "{fields}: {found}");
    }
}

#[test]
fn hash_policies_and_subsets_of_routes() {
    let text = "static_resources: {clusters: [{name: a}], listeners: [{name: l, address: {socket_address: {address: \
                127.0.0.1, port_value: 1}}, filter_chains: [{filters: [{name: h, typed_config: {\"@type\": \
                type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
                stat_prefix: s, http_filters: [{name: r, typed_config: {\"@type\": \
                type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}], route_config: {virtual_hosts: \
                [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: ROUTE}]}]}}}]}]}]}";
    let route = |fields: &str| {
        let text = text.replace("ROUTE", fields);
        let bootstrap = load(Some(("f", &text)), &Overrides::default()).map_err(|error| error.to_string())?;
        let model::listener::NetworkFilter::Http(manager) = &bootstrap.listeners[0].value.chains[0].filter else {
            panic!("HTTP");
        };
        let model::http::RouteSource::Inline(table) = &manager.routes else { panic!("inline") };
        Ok::<_, String>(table.clone())
    };
    let table = route(
        "{cluster: a, hash_policy: [{header: {header_name: User}, terminal: true}, {cookie: {name: c, ttl: 0s, \
         attributes: [{name: Secure}]}}, {connection_properties: {source_ip: true}}, {query_parameter: {name: q}}]}",
    )
    .unwrap();
    let Action::Forward(forward) = &table.virtual_hosts[0].routes[0].action else { panic!("a route") };
    assert!(
        matches!(&forward.hash[0].by, HashBy::Header { name, .. } if &**name == "user" && forward.hash[0].terminal)
    );
    assert!(matches!(&forward.hash[1].by, HashBy::Cookie(cookie) if cookie.ttl == Some(Duration::ZERO)));
    assert!(matches!(&forward.hash[2].by, HashBy::SourceIp));
    assert!(matches!(&forward.hash[3].by, HashBy::QueryParameter(name) if &**name == "q"));
    let refused = route("{cluster: a, hash_policy: [{filter_state: {key: k}}]}").unwrap_err();
    assert!(refused.contains("hash_policy[0].filter_state"), "{refused}");
    let table = route(
        "{metadata_match: {filter_metadata: {envoy.lb: {a: 1, b: 2}}}, weighted_clusters: {clusters: [{name: a, weight: \
         1, metadata_match: {filter_metadata: {envoy.lb: {b: 3, c: 4}}}}]}}",
    )
    .unwrap();
    let Action::Forward(forward) = &table.virtual_hosts[0].routes[0].action else { panic!("a route") };
    let model::route::Target::Weighted(weighted) = &forward.target else { panic!("weighted") };
    let pair = |key: &str, value: &str| (key.into(), value.into());
    assert_eq!(*weighted.clusters[0].subset, [pair("a", "1"), pair("b", "3"), pair("c", "4")]);
    assert_eq!(*forward.subset, [pair("a", "1"), pair("b", "2")]);
}
