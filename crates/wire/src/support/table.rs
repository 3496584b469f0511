//! What of Envoy's API is implemented, message by message. A field that is named nowhere here is refused.

use super::filters::FILTERS;
use super::{network, upstream};

pub(super) struct Declared {
    pub(super) message: &'static str,
    /// Names of fields, or `*` for all.
    pub(super) supported: &'static str,
    /// Accepted, though nothing follows from it; and why that is right.
    pub(super) without_effect: &'static [(&'static str, &'static str)],
}

pub(super) const fn all(message: &'static str) -> Declared {
    Declared { message, supported: "*", without_effect: &[] }
}

pub(super) const fn some(message: &'static str, supported: &'static str) -> Declared {
    Declared { message, supported, without_effect: &[] }
}

pub(super) const fn partly(
    message: &'static str,
    supported: &'static str,
    without_effect: &'static [(&'static str, &'static str)],
) -> Declared {
    Declared { message, supported, without_effect }
}

pub(super) const DESCRIPTIVE: &str = "describes; nothing reads it";
const FILES_ARE_WATCHED: &str = "the files themselves are watched";
pub(super) const NO_RUNTIME: &str = "there is no runtime to look it up in; defaults apply";
pub(super) const CLUSTER_STATS: &str = "the statistics are always there";
const PARSER: &str = "there is one parser";

pub(super) const TABLE: &[&[Declared]] = &[
    BOOTSTRAP,
    CORE,
    network::LISTENER,
    HTTP,
    ROUTE,
    upstream::CLUSTER,
    upstream::HEALTH,
    network::OVERLOAD,
    upstream::ENDPOINT,
    TLS,
    network::NETWORK_FILTERS,
    EXTENSIONS,
    FILTERS,
    super::balancing::BALANCING,
    super::on_demand::ON_DEMAND,
];

const BOOTSTRAP: &[Declared] = &[
    partly(
        "envoy.config.bootstrap.v3.Bootstrap",
        "node static_resources dynamic_resources admin cluster_manager overload_manager",
        &[
            ("layered_runtime", NO_RUNTIME),
            ("flags_path", "is obsolete in Envoy too"),
            ("stats_flush_interval", "statistics are read when they are asked for"),
            ("stats_flush_on_admin", "statistics are read when they are asked for"),
            ("enable_dispatcher_stats", "there is no dispatcher"),
            ("watchdog", "there is none"),
            ("watchdogs", "there is none"),
            ("node_context_params", "only xdstp names need it"),
            ("default_socket_interface", "there is one"),
            ("memory_allocator_manager", "the allocator returns memory by itself"),
            ("deferred_stat_options", "statistics are always created when first used"),
        ],
    ),
    all("envoy.config.bootstrap.v3.Bootstrap.StaticResources"),
    partly(
        "envoy.config.bootstrap.v3.ClusterManager",
        "local_cluster_name",
        &[("enable_deferred_cluster_creation", "a cluster costs a worker nothing until it is used")],
    ),
    some("envoy.config.bootstrap.v3.Bootstrap.DynamicResources", "lds_config cds_config ads_config"),
    partly(
        "envoy.config.bootstrap.v3.Admin",
        "address",
        &[
            ("access_log", "requests to the admin address are not logged"),
            ("access_log_path", "requests to the admin address are not logged"),
            ("profile_path", "there is no built-in profiler"),
            ("ignore_global_conn_limit", "connections to the admin address are never counted"),
        ],
    ),
];

const CORE: &[Declared] = &[
    all("envoy.config.core.v3.Node"),
    all("envoy.config.core.v3.BuildVersion"),
    all("envoy.config.core.v3.Extension"),
    all("envoy.type.v3.SemanticVersion"),
    all("envoy.config.core.v3.Locality"),
    partly(
        "envoy.config.core.v3.ConfigSource",
        "path path_config_source api_config_source ads self resource_api_version",
        &[("initial_fetch_timeout", "what has not arrived stays warming, and what ran keeps running")],
    ),
    partly(
        "envoy.config.core.v3.ApiConfigSource",
        "api_type grpc_services transport_api_version",
        &[
            ("set_node_on_first_message_only", "the node is always sent with the first message only"),
            ("refresh_delay", "is for REST"),
            ("request_timeout", "is for REST"),
        ],
    ),
    all("envoy.config.core.v3.AggregatedConfigSource"),
    some("envoy.config.core.v3.SelfConfigSource", "transport_api_version"),
    partly(
        "envoy.config.core.v3.PathConfigSource",
        "path",
        &[("watched_directory", FILES_ARE_WATCHED), ("poll_interval", FILES_ARE_WATCHED)],
    ),
    partly(
        "envoy.config.core.v3.GrpcService",
        "envoy_grpc google_grpc initial_metadata",
        &[("timeout", "streams have no deadline")],
    ),
    partly(
        "envoy.config.core.v3.GrpcService.EnvoyGrpc",
        "cluster_name",
        &[("skip_envoy_headers", "no such headers are sent")],
    ),
    some("envoy.config.core.v3.GrpcService.GoogleGrpc", ""),
    all("envoy.config.core.v3.Address"),
    some("envoy.config.core.v3.SocketAddress", "protocol address port_value named_port"),
    some("envoy.config.core.v3.EnvoyInternalAddress", ""),
    some("envoy.config.core.v3.Pipe", "path"),
    all("envoy.config.core.v3.CidrRange"),
    partly(
        "envoy.config.core.v3.DataSource",
        "filename inline_bytes inline_string environment_variable",
        &[("watched_directory", FILES_ARE_WATCHED)],
    ),
    partly("envoy.config.core.v3.Metadata", "filter_metadata", &[("typed_filter_metadata", DESCRIPTIVE)]),
    partly("envoy.config.core.v3.RuntimeFractionalPercent", "default_value", &[("runtime_key", NO_RUNTIME)]),
    partly("envoy.config.core.v3.RuntimeDouble", "default_value", &[("runtime_key", NO_RUNTIME)]),
    partly("envoy.config.core.v3.RuntimeFeatureFlag", "default_value", &[("runtime_key", NO_RUNTIME)]),
    all("envoy.type.v3.FractionalPercent"),
    all("envoy.type.v3.Percent"),
    all("envoy.type.v3.Int64Range"),
    all("envoy.config.core.v3.HeaderValueOption"),
    all("envoy.config.core.v3.HeaderValue"),
    partly(
        "envoy.config.core.v3.SubstitutionFormatString",
        "text_format json_format text_format_source content_type",
        &[("json_format_options", "keys are always sorted")],
    ),
    all("envoy.config.core.v3.TypedExtensionConfig"),
    all("envoy.config.core.v3.TransportSocket"),
    all("envoy.config.core.v3.TcpKeepalive"),
    all("envoy.config.core.v3.BackoffStrategy"),
    some("envoy.config.core.v3.ExtensionConfigSource", ""),
    some(
        "envoy.config.core.v3.HttpProtocolOptions",
        "idle_timeout max_headers_count max_connection_duration max_stream_duration headers_with_underscores_action \
         max_requests_per_connection max_connection_duration_jitter",
    ),
    partly(
        "envoy.config.core.v3.Http1ProtocolOptions",
        "allow_absolute_url accept_http_10 default_host_for_http_10 header_key_format enable_trailers",
        &[
            ("use_balsa_parser", PARSER),
            ("allow_custom_methods", "every method that is a token is allowed"),
            ("override_stream_error_on_invalid_http_message", "an invalid message always ends the connection"),
        ],
    ),
    all("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat"),
    all("envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat.ProperCaseWords"),
    partly(
        "envoy.config.core.v3.Http2ProtocolOptions",
        "max_concurrent_streams initial_stream_window_size initial_connection_window_size allow_connect \
         connection_keepalive",
        &[
            ("hpack_table_size", "the decoder's default of 4096 bytes is kept"),
            ("max_outbound_frames", "the codec bounds its queues by itself"),
            ("max_outbound_control_frames", "the codec bounds its queues by itself"),
            ("max_consecutive_inbound_frames_with_empty_payload", "the codec defends itself against floods"),
            ("max_inbound_priority_frames_per_stream", "the codec defends itself against floods"),
            ("max_inbound_window_update_frames_per_data_frame_sent", "the codec defends itself against floods"),
            ("stream_error_on_invalid_http_messaging", "an invalid message always resets its stream only"),
            ("override_stream_error_on_invalid_http_message", "an invalid message always resets its stream only"),
            ("use_oghttp2_codec", PARSER),
            ("enable_huffman_encoding", "strings are sent as they are; Huffman's code is understood"),
        ],
    ),
    partly(
        "envoy.config.core.v3.KeepaliveSettings",
        "interval timeout",
        &[("interval_jitter", "pings of different connections start at different times anyway")],
    ),
    some("envoy.config.core.v3.UpstreamHttpProtocolOptions", "auto_sni auto_san_validation"),
    all("envoy.type.matcher.v3.StringMatcher"),
    some("xds.core.v3.TypedExtensionConfig", ""),
    partly("envoy.type.matcher.v3.RegexMatcher", "regex", &[("google_re2", "is the only engine in Envoy too")]),
    all("envoy.type.matcher.v3.RegexMatchAndSubstitute"),
];

const HTTP: &[Declared] = &[
    partly(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "codec_type stat_prefix rds route_config scoped_routes http_filters http_protocol_options \
         http2_protocol_options server_name drain_timeout access_log use_remote_address generate_request_id \
         forward_client_cert_details set_current_client_cert_details xff_num_trusted_hops skip_xff_append via \
         upgrade_configs stream_idle_timeout request_timeout max_request_headers_kb normalize_path \
         preserve_external_request_id merge_slashes server_header_transformation common_http_protocol_options \
         always_set_request_id_in_response local_reply_config strip_matching_host_port \
         stream_error_on_invalid_http_message request_headers_timeout strip_any_host_port \
         path_with_escaped_slashes_action strip_trailing_host_dot proxy_status_config \
         internal_address_config early_header_mutation_extensions original_ip_detection_extensions \
         append_x_forwarded_port scheme_header_transformation add_user_agent append_local_overload \
         request_id_extension",
        &[
            ("delayed_close_timeout", "a connection is closed when the peer has what was sent to it"),
            ("http1_safe_max_connection_duration", "connections always end between requests"),
        ],
    ),
    partly(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
        "cidr_ranges",
        &[("unix_sockets", "a client on a Unix socket has no address and counts as external")],
    ),
    all("envoy.extensions.filters.network.http_connection_manager.v3.Rds"),
    partly(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        "name typed_config config_discovery disabled",
        &[("is_optional", "an unknown filter is always an error")],
    ),
    all("envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension"),
    partly(
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
        "",
        &[
            ("pack_trace_reason", "requests are not traced"),
            ("use_request_id_for_trace_sampling", "requests are not traced"),
        ],
    ),
    some(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
        "upgrade_type enabled",
    ),
    some(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
        "subject cert chain dns uri",
    ),
    all("envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper"),
    some("envoy.config.core.v3.SchemeHeaderTransformation", "scheme_to_overwrite"),
    all("envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"),
    all("envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"),
    all("envoy.extensions.http.original_ip_detection.xff.v3.XffTrustedCidrs"),
    all("envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"),
    all("envoy.type.v3.HttpStatus"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ProxyStatusConfig"),
];

const ROUTE: &[Declared] = &[
    partly(
        "envoy.config.route.v3.RouteConfiguration",
        "name virtual_hosts response_headers_to_add response_headers_to_remove request_headers_to_add \
         request_headers_to_remove validate_clusters most_specific_header_mutations_wins \
         max_direct_response_body_size_bytes ignore_port_in_host_matching typed_per_filter_config \
         internal_only_headers request_mirror_policies vhds vhost_header ignore_path_parameters_in_path_matching",
        &[("metadata", DESCRIPTIVE)],
    ),
    partly(
        "envoy.config.route.v3.VirtualHost",
        "name domains routes require_tls request_headers_to_add response_headers_to_add response_headers_to_remove \
         request_headers_to_remove include_request_attempt_count retry_policy include_attempt_count_in_response \
         typed_per_filter_config virtual_clusters hedge_policy include_is_timeout_retry_header \
         per_request_buffer_limit_bytes request_body_buffer_limit request_mirror_policies",
        &[("metadata", DESCRIPTIVE)],
    ),
    partly(
        "envoy.config.route.v3.Route",
        "match route redirect direct_response non_forwarding_action filter_action request_headers_to_add \
         response_headers_to_add response_headers_to_remove request_headers_to_remove name typed_per_filter_config \
         per_request_buffer_limit_bytes request_body_buffer_limit stat_prefix",
        &[("metadata", DESCRIPTIVE), ("decorator", "names spans, and tracing cannot be configured")],
    ),
    some(
        "envoy.config.route.v3.RouteMatch",
        "prefix path case_sensitive headers query_parameters grpc runtime_fraction safe_regex connect_matcher \
         path_separated_prefix path_match_policy cookies tls_context",
    ),
    all("envoy.config.route.v3.RouteMatch.TlsContextMatchOptions"),
    all("envoy.config.route.v3.CookieMatcher"),
    all("envoy.config.route.v3.VirtualCluster"),
    all("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"),
    all("envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"),
    all("envoy.config.route.v3.RouteMatch.ConnectMatcher"),
    all("envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions"),
    partly(
        "envoy.config.route.v3.RouteAction",
        "cluster cluster_header weighted_clusters prefix_rewrite host_rewrite_literal auto_host_rewrite timeout \
         retry_policy priority cluster_not_found_response_code idle_timeout upgrade_configs host_rewrite_header \
         regex_rewrite host_rewrite_path_regex append_x_forwarded_host max_stream_duration max_grpc_timeout \
         grpc_timeout_offset hedge_policy request_mirror_policies internal_redirect_policy internal_redirect_action \
         max_internal_redirects path_rewrite path_rewrite_policy hash_policy metadata_match",
        &[("early_data_policy", "no request is taken from, or sent as, TLS early data")],
    ),
    all("envoy.config.route.v3.InternalRedirectPolicy"),
    all("envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig"),
    all("envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig"),
    all("envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig"),
    all("envoy.config.common.mutation_rules.v3.HeaderMutation"),
    all("envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch"),
    all("envoy.config.route.v3.RouteAction.MaxStreamDuration"),
    some("envoy.config.route.v3.HedgePolicy", "hedge_on_per_try_timeout"),
    partly(
        "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
        "cluster cluster_header runtime_fraction disable_shadow_host_suffix_append request_headers_mutations \
         host_rewrite_literal",
        &[("trace_sampled", "requests are not traced")],
    ),
    all("envoy.config.route.v3.RouteAction.UpgradeConfig"),
    all("envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig"),
    some(
        "envoy.config.route.v3.RedirectAction",
        "host_redirect path_redirect response_code https_redirect prefix_rewrite strip_query scheme_redirect \
         port_redirect regex_rewrite path_rewrite",
    ),
    all("envoy.config.route.v3.DirectResponseAction"),
    all("envoy.config.route.v3.NonForwardingAction"),
    some("envoy.config.route.v3.FilterAction", ""),
    partly(
        "envoy.config.route.v3.WeightedCluster",
        "clusters header_name use_hash_policy",
        &[("runtime_key_prefix", NO_RUNTIME), ("total_weight", "the weights are added up, in Envoy too")],
    ),
    some(
        "envoy.config.route.v3.WeightedCluster.ClusterWeight",
        "name cluster_header weight request_headers_to_add response_headers_to_add response_headers_to_remove \
         request_headers_to_remove host_rewrite_literal typed_per_filter_config metadata_match",
    ),
    partly(
        "envoy.config.route.v3.FilterConfig",
        "config disabled",
        &[("is_optional", "an unknown filter is always an error")],
    ),
    all("envoy.config.route.v3.HeaderMatcher"),
    all("envoy.config.route.v3.QueryParameterMatcher"),
    some(
        "envoy.config.route.v3.RetryPolicy",
        "retry_on num_retries per_try_timeout retry_host_predicate host_selection_retry_max_attempts \
         retriable_status_codes retry_back_off retriable_headers retriable_request_headers per_try_idle_timeout \
         rate_limited_retry_back_off retry_priority",
    ),
    all("envoy.config.route.v3.RetryPolicy.RetryPriority"),
    all("envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff"),
    all("envoy.config.route.v3.RetryPolicy.ResetHeader"),
    all("envoy.config.route.v3.RetryPolicy.RetryHostPredicate"),
    all("envoy.config.route.v3.RetryPolicy.RetryBackOff"),
];

const TLS: &[Declared] = &[
    some(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context require_client_certificate",
    ),
    partly(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context sni auto_sni_san_validation",
        &[("max_session_keys", "sessions are remembered by the TLS library")],
    ),
    some(
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
        "tls_params tls_certificates validation_context alpn_protocols tls_certificate_sds_secret_configs \
         validation_context_sds_secret_config combined_validation_context",
    ),
    some(
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
        "default_validation_context validation_context_sds_secret_config",
    ),
    some(
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
        "tls_minimum_protocol_version tls_maximum_protocol_version",
    ),
    partly(
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
        "certificate_chain private_key",
        &[("watched_directory", FILES_ARE_WATCHED)],
    ),
    partly(
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        "trusted_ca crl match_subject_alt_names trust_chain_verification match_typed_subject_alt_names",
        &[("watched_directory", FILES_ARE_WATCHED)],
    ),
    some("envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher", "san_type matcher"),
    all("envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig"),
    some("envoy.extensions.transport_sockets.tls.v3.Secret", "name tls_certificate validation_context"),
];

const EXTENSIONS: &[Declared] = &[
    some("envoy.config.accesslog.v3.AccessLog", "name typed_config filter"),
    all("envoy.extensions.access_loggers.file.v3.FileAccessLog"),
    all("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"),
    all("envoy.extensions.access_loggers.stream.v3.StderrAccessLog"),
    some("envoy.config.core.v3.ProxyProtocolConfig", "version"),
    some(
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        "config transport_socket",
    ),
    all("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
    all("envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig"),
    all("envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"),
    all("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"),
    all("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"),
    some(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options upstream_http_protocol_options explicit_http_config \
         use_downstream_protocol_config auto_config",
    ),
    some(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
        "http_protocol_options http2_protocol_options",
    ),
    some(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
        "http_protocol_options http2_protocol_options",
    ),
    some(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig",
        "http_protocol_options http2_protocol_options",
    ),
];
