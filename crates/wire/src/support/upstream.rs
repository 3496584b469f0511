//! The same for clusters, their endpoints and how those are checked.

use super::table::{CLUSTER_STATS, DESCRIPTIVE, Declared, all, partly, some};

pub(super) const CLUSTER: &[Declared] = &[
    partly(
        "envoy.config.cluster.v3.Cluster",
        "name type eds_cluster_config connect_timeout per_connection_buffer_limit_bytes lb_policy \
         max_requests_per_connection circuit_breakers http_protocol_options http2_protocol_options dns_refresh_rate \
         dns_lookup_family dns_resolvers outlier_detection transport_socket protocol_selection common_lb_config \
         alt_stat_name common_http_protocol_options upstream_connection_options \
         load_assignment typed_extension_protocol_options least_request_lb_config round_robin_lb_config \
         respect_dns_ttl load_balancing_policy transport_socket_matches dns_failure_refresh_rate \
         upstream_http_protocol_options health_checks ignore_health_on_host_removal \
         close_connections_on_host_health_failure wait_for_warm_on_init cluster_type cleanup_interval \
         original_dst_lb_config dns_jitter upstream_bind_config preconnect_policy lb_subset_config ring_hash_lb_config \
         maglev_lb_config typed_dns_resolver_config use_tcp_for_dns_lookups",
        &[("metadata", DESCRIPTIVE), ("track_cluster_stats", CLUSTER_STATS)],
    ),
    all("envoy.config.cluster.v3.Cluster.EdsClusterConfig"),
    partly(
        "envoy.config.cluster.v3.Cluster.CommonLbConfig",
        "healthy_panic_threshold zone_aware_lb_config locality_weighted_lb_config consistent_hashing_lb_config \
         ignore_new_hosts_until_first_hc",
        &[("update_merge_window", "updates are merged by the snapshot anyway")],
    ),
    all("envoy.config.cluster.v3.Cluster.TransportSocketMatch"),
    all("envoy.config.cluster.v3.Cluster.RefreshRate"),
    some("envoy.config.cluster.v3.CircuitBreakers", "thresholds per_host_thresholds"),
    partly(
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
        "priority max_connections max_pending_requests max_requests max_retries retry_budget",
        &[("track_remaining", CLUSTER_STATS), ("max_connection_pools", "pools are bounded by max_connections")],
    ),
    all("envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget"),
    partly(
        "envoy.config.cluster.v3.OutlierDetection",
        "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx \
         enforcing_success_rate consecutive_gateway_failure enforcing_consecutive_gateway_failure \
         split_external_local_origin_errors consecutive_local_origin_failure \
         enforcing_consecutive_local_origin_failure enforcing_local_origin_success_rate enforcing_failure_percentage \
         enforcing_failure_percentage_local_origin max_ejection_time always_eject_one_host \
         success_rate_minimum_hosts success_rate_request_volume success_rate_stdev_factor \
         failure_percentage_threshold failure_percentage_minimum_hosts failure_percentage_request_volume \
         max_ejection_time_jitter monitors",
        &[("successful_active_health_check_uneject_host", "is for health checks, which cannot be configured")],
    ),
    some("envoy.config.cluster.v3.UpstreamConnectionOptions", "tcp_keepalive happy_eyeballs_config"),
    all("envoy.config.cluster.v3.UpstreamConnectionOptions.HappyEyeballsConfig"),
    all("envoy.config.cluster.v3.Cluster.CustomClusterType"),
    some(
        "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
        "use_http_header http_header_name upstream_port_override",
    ),
    some("envoy.config.cluster.v3.Cluster.PreconnectPolicy", "per_upstream_preconnect_ratio"),
    some("envoy.config.core.v3.BindConfig", "source_address extra_source_addresses"),
    some("envoy.config.core.v3.ExtraSourceAddress", "address"),
    all("envoy.extensions.clusters.aggregate.v3.ClusterConfig"),
    some(
        "envoy.extensions.clusters.dns.v3.DnsCluster",
        "dns_refresh_rate dns_failure_refresh_rate respect_dns_ttl dns_jitter dns_lookup_family \
         all_addresses_in_single_endpoint dns_min_refresh_rate typed_dns_resolver_config",
    ),
    some("envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig", "resolvers dns_resolver_options"),
    all("envoy.config.core.v3.DnsResolverOptions"),
    all("envoy.extensions.clusters.dns.v3.DnsCluster.RefreshRate"),
    some(
        "envoy.extensions.clusters.original_dst.v3.OriginalDstCluster",
        "use_http_header http_header_name upstream_port_override",
    ),
    all("envoy.config.cluster.v3.LoadBalancingPolicy"),
    all("envoy.config.cluster.v3.LoadBalancingPolicy.Policy"),
];

pub(super) const HEALTH: &[Declared] = &[
    some(
        "envoy.config.core.v3.HealthCheck",
        "timeout interval initial_jitter interval_jitter interval_jitter_percent unhealthy_threshold healthy_threshold \
         reuse_connection http_health_check tcp_health_check grpc_health_check no_traffic_interval \
         no_traffic_healthy_interval unhealthy_interval unhealthy_edge_interval healthy_edge_interval event_log_path \
         event_logger always_log_health_check_failures always_log_health_check_success tls_options \
         transport_socket_match_criteria",
    ),
    all("envoy.config.core.v3.HealthCheck.Payload"),
    all("envoy.config.core.v3.HealthCheck.HttpHealthCheck"),
    some("envoy.config.core.v3.HealthCheck.TcpHealthCheck", "send receive"),
    all("envoy.config.core.v3.HealthCheck.GrpcHealthCheck"),
    all("envoy.config.core.v3.HealthCheck.TlsOptions"),
    all("envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink"),
];

pub(super) const ENDPOINT: &[Declared] = &[
    some("envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name endpoints policy"),
    some("envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", "overprovisioning_factor"),
    partly(
        "envoy.config.endpoint.v3.LocalityLbEndpoints",
        "locality lb_endpoints load_balancing_weight priority",
        &[("metadata", DESCRIPTIVE), ("proximity", "Envoy does not read it either")],
    ),
    all("envoy.config.endpoint.v3.LbEndpoint"),
    some("envoy.config.endpoint.v3.Endpoint", "address hostname health_check_config additional_addresses"),
    all("envoy.config.endpoint.v3.Endpoint.AdditionalAddress"),
    all("envoy.config.endpoint.v3.Endpoint.HealthCheckConfig"),
];
