//! The same for HTTP filters and for the filters of access logs and local replies.

use super::table::{CLUSTER_STATS, Declared, NO_RUNTIME, all, partly, some};

pub(super) const FILTERS: &[Declared] = &[
    partly(
        "envoy.extensions.filters.http.router.v3.Router",
        "start_child_span suppress_envoy_headers respect_expected_rq_timeout",
        &[("dynamic_stats", CLUSTER_STATS), ("suppress_grpc_request_failure_code_stats", CLUSTER_STATS)],
    ),
    all("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"),
    all("envoy.extensions.filters.http.health_check.v3.HealthCheck"),
    all("envoy.extensions.filters.http.cors.v3.Cors"),
    some(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match allow_methods allow_headers expose_headers max_age allow_credentials filter_enabled \
         allow_private_network_access forward_not_matching_preflights",
    ),
    partly(
        "envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay abort upstream_cluster headers downstream_nodes response_rate_limit max_active_faults",
        &[
            ("delay_percent_runtime", NO_RUNTIME),
            ("abort_percent_runtime", NO_RUNTIME),
            ("delay_duration_runtime", NO_RUNTIME),
            ("abort_http_status_runtime", NO_RUNTIME),
            ("max_active_faults_runtime", NO_RUNTIME),
            ("response_rate_limit_percent_runtime", NO_RUNTIME),
            ("abort_grpc_status_runtime", NO_RUNTIME),
            ("disable_downstream_cluster_stats", "there are no such statistics"),
        ],
    ),
    some("envoy.extensions.filters.http.fault.v3.FaultAbort", "http_status grpc_status header_abort percentage"),
    all("envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort"),
    some("envoy.extensions.filters.common.fault.v3.FaultDelay", "fixed_delay header_delay percentage"),
    all("envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay"),
    all("envoy.extensions.filters.common.fault.v3.FaultRateLimit"),
    all("envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit"),
    all("envoy.extensions.filters.common.fault.v3.FaultRateLimit.HeaderLimit"),
    all("envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"),
    all("envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"),
    some(
        "envoy.extensions.filters.http.header_mutation.v3.Mutations",
        "request_mutations response_mutations query_parameter_mutations",
    ),
    all("envoy.config.core.v3.KeyValueMutation"),
    some("envoy.config.core.v3.KeyValueAppend", "record action"),
    all("envoy.config.core.v3.KeyValuePair"),
    all("envoy.extensions.filters.http.buffer.v3.Buffer"),
    all("envoy.extensions.filters.http.buffer.v3.BufferPerRoute"),
    partly(
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix status token_bucket filter_enabled filter_enforced request_headers_to_add_when_not_enforced \
         response_headers_to_add rate_limited_as_resource_exhausted enable_retry_after_header",
        &[
            ("stage", "only descriptors have stages, and none can be configured"),
            ("vh_rate_limits", "only descriptors read it, and none can be configured"),
            ("always_consume_default_token_bucket", "there is only the default one"),
            ("max_dynamic_descriptors", "only descriptors read it, and none can be configured"),
        ],
    ),
    all("envoy.extensions.filters.http.admission_control.v3.AdmissionControl"),
    all("envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria"),
    all("envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria.HttpCriteria"),
    all("envoy.extensions.filters.http.admission_control.v3.AdmissionControl.SuccessCriteria.GrpcCriteria"),
    all("envoy.type.v3.Int32Range"),
    all("envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency"),
    all("envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig"),
    all("envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig.\
         ConcurrencyLimitCalculationParams"),
    all("envoy.extensions.filters.http.adaptive_concurrency.v3.GradientControllerConfig.MinimumRTTCalculationParams"),
    partly("envoy.config.core.v3.RuntimePercent", "default_value", &[("runtime_key", NO_RUNTIME)]),
    some(
        "envoy.config.accesslog.v3.AccessLogFilter",
        "status_code_filter duration_filter not_health_check_filter runtime_filter and_filter or_filter header_filter response_flag_filter \
         grpc_status_filter",
    ),
    all("envoy.config.accesslog.v3.StatusCodeFilter"),
    all("envoy.config.accesslog.v3.DurationFilter"),
    all("envoy.config.accesslog.v3.NotHealthCheckFilter"),
    partly(
        "envoy.config.accesslog.v3.RuntimeFilter",
        "percent_sampled",
        &[("runtime_key", NO_RUNTIME), ("use_independent_randomness", "randomness is always independent")],
    ),
    all("envoy.config.accesslog.v3.AndFilter"),
    all("envoy.config.accesslog.v3.OrFilter"),
    all("envoy.config.accesslog.v3.HeaderFilter"),
    all("envoy.config.accesslog.v3.ResponseFlagFilter"),
    all("envoy.config.accesslog.v3.GrpcStatusFilter"),
    all("envoy.config.accesslog.v3.ComparisonFilter"),
    partly("envoy.config.core.v3.RuntimeUInt32", "default_value", &[("runtime_key", NO_RUNTIME)]),
];
