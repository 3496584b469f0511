//! The same for HTTP filters and for the filters of access logs and local replies.

use super::table::{Declared, NO_RUNTIME, all, partly, some};

pub(super) const FILTERS: &[Declared] = &[
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
    all("envoy.type.v3.TokenBucket"),
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
    partly("envoy.config.core.v3.RuntimeFeatureFlag", "default_value", &[("runtime_key", NO_RUNTIME)]),
    partly("envoy.config.core.v3.RuntimePercent", "default_value", &[("runtime_key", NO_RUNTIME)]),
    some(
        "envoy.config.accesslog.v3.AccessLogFilter",
        "status_code_filter duration_filter runtime_filter and_filter or_filter header_filter response_flag_filter \
         grpc_status_filter",
    ),
    all("envoy.config.accesslog.v3.StatusCodeFilter"),
    all("envoy.config.accesslog.v3.DurationFilter"),
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
