//! The same for listeners, for the filters below HTTP and for the overload manager.

use super::table::{DESCRIPTIVE, Declared, all, partly, some};

pub(super) const LISTENER: &[Declared] = &[
    partly(
        "envoy.config.listener.v3.Listener",
        "name address additional_addresses filter_chains default_filter_chain use_original_dst bind_to_port transparent freebind \
         per_connection_buffer_limit_bytes listener_filters listener_filters_timeout access_log tcp_backlog_size \
         stat_prefix enable_reuse_port tcp_keepalive continue_on_listener_filters_timeout \
         ignore_global_conn_limit bypass_overload_manager",
        &[
            ("metadata", DESCRIPTIVE),
            ("traffic_direction", DESCRIPTIVE),
            ("drain_type", "listeners drain on removal, change and shutdown"),
            ("connection_balance_config", "connections are shared out over the workers anyway"),
            ("max_connections_to_accept_per_socket_event", "workers accept what they can serve"),
        ],
    ),
    some("envoy.config.listener.v3.AdditionalAddress", "address"),
    partly(
        "envoy.config.listener.v3.FilterChain",
        "filter_chain_match filters transport_socket name transport_socket_connect_timeout",
        &[("metadata", DESCRIPTIVE)],
    ),
    some(
        "envoy.config.listener.v3.FilterChainMatch",
        "prefix_ranges source_prefix_ranges source_ports destination_port transport_protocol application_protocols \
         server_names source_type direct_source_prefix_ranges",
    ),
    all("envoy.config.listener.v3.Filter"),
    some("envoy.config.listener.v3.ListenerFilter", "name typed_config config_discovery"),
];

/// Listener filters and network filters.
pub(super) const NETWORK_FILTERS: &[Declared] = &[
    partly(
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        "",
        &[
            ("initial_read_buffer_size", "the buffer fits the ClientHello"),
            ("close_connection_on_client_hello_parsing_errors", "the TLS handshake refuses it"),
        ],
    ),
    all("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"),
    all("envoy.extensions.filters.listener.original_dst.v3.OriginalDst"),
    partly(
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        "allow_requests_without_proxy_protocol disallowed_versions",
        &[("stat_prefix", "there are no statistics of this filter alone")],
    ),
    some(
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix max_connections delay runtime_enabled",
    ),
    some(
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix token_bucket runtime_enabled",
    ),
    all("envoy.type.v3.TokenBucket"),
    some(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix cluster weighted_clusters access_log max_connect_attempts idle_timeout \
         max_downstream_connection_duration max_downstream_connection_duration_jitter_percentage backoff_options \
         hash_policy metadata_match tunneling_config on_demand",
    ),
    partly(
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig",
        "hostname use_post headers_to_add post_path",
        &[
            ("propagate_response_headers", "other filters could read them, and there are none"),
            ("propagate_response_trailers", "other filters could read them, and there are none"),
        ],
    ),
    all("envoy.type.v3.HashPolicy"),
    all("envoy.type.v3.HashPolicy.SourceIp"),
    some("envoy.type.v3.HashPolicy.FilterState", ""),
    all("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster"),
    all("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight"),
];

pub(super) const OVERLOAD: &[Declared] = &[
    some("envoy.config.overload.v3.OverloadManager", "refresh_interval resource_monitors actions loadshed_points"),
    some("envoy.config.overload.v3.ResourceMonitor", "name typed_config"),
    some("envoy.config.overload.v3.OverloadAction", "name triggers"),
    all("envoy.config.overload.v3.LoadShedPoint"),
    all("envoy.config.overload.v3.Trigger"),
    all("envoy.config.overload.v3.ThresholdTrigger"),
    all("envoy.config.overload.v3.ScaledTrigger"),
    some("envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes"),
    all("envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig"),
    all("envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"),
];
