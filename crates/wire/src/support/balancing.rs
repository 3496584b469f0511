//! What of Envoy's API is implemented of load balancing; a part of `table`.

use super::table::{Declared, all, partly, some};

pub(super) const BALANCING: &[Declared] = &[
    all("envoy.config.route.v3.RouteAction.HashPolicy"),
    all("envoy.config.route.v3.RouteAction.HashPolicy.Header"),
    all("envoy.config.route.v3.RouteAction.HashPolicy.Cookie"),
    all("envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute"),
    all("envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties"),
    all("envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter"),
    some("envoy.config.route.v3.RouteAction.HashPolicy.FilterState", ""),
    all("envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig"),
    all("envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig"),
    all("envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig"),
    all("envoy.config.cluster.v3.Cluster.LeastRequestLbConfig"),
    all("envoy.config.cluster.v3.Cluster.RoundRobinLbConfig"),
    all("envoy.config.cluster.v3.Cluster.RingHashLbConfig"),
    all("envoy.config.cluster.v3.Cluster.MaglevLbConfig"),
    all("envoy.config.cluster.v3.Cluster.SlowStartConfig"),
    some(
        "envoy.config.cluster.v3.Cluster.LbSubsetConfig",
        "fallback_policy default_subset subset_selectors locality_weight_aware scale_locality_weight panic_mode_any \
         list_as_any metadata_fallback_policy",
    ),
    all("envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector"),
    all("envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"),
    all("envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"),
    all("envoy.extensions.load_balancing_policies.random.v3.Random"),
    all("envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"),
    all("envoy.extensions.load_balancing_policies.maglev.v3.Maglev"),
    all("envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality"),
    partly(
        "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        "enable_oob_load_report blackout_period weight_expiration_period weight_update_period \
         error_utilization_penalty metric_names_for_computing_utilization slow_start_config",
        &[("oob_reporting_period", "is for reports out of band, which cannot be enabled")],
    ),
    some(
        "envoy.extensions.load_balancing_policies.subset.v3.Subset",
        "fallback_policy default_subset subset_selectors locality_weight_aware scale_locality_weight panic_mode_any \
         list_as_any metadata_fallback_policy subset_lb_policy",
    ),
    all("envoy.extensions.load_balancing_policies.subset.v3.Subset.LbSubsetSelector"),
    all("envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig"),
    some(
        "envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.ZoneAwareLbConfig",
        "routing_enabled min_cluster_size fail_traffic_on_panic force_locality_direct_routing",
    ),
    all("envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig.LocalityWeightedLbConfig"),
    all("envoy.extensions.load_balancing_policies.common.v3.SlowStartConfig"),
    some(
        "envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig",
        "use_hostname_for_hashing hash_balance_factor",
    ),
];
