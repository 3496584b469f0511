//! When a request may be sent again (`route.v3.RetryPolicy`).

use crate::matcher::HeaderMatcher;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct RetryPolicy {
    pub on: RetryOn,
    /// Attempts after the first.
    pub num_retries: u32,
    /// Zero means: the route timeout only.
    pub per_try_timeout: Duration,
    pub per_try_idle_timeout: Duration,
    pub retriable_status_codes: Vec<u16>,
    pub retriable_headers: Vec<HeaderMatcher>,
    pub retriable_request_headers: Vec<HeaderMatcher>,
    pub back_off_base: Duration,
    pub back_off_max: Duration,
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// Prefer endpoints not tried before (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    pub host_selection_attempts: u32,
    /// Prefer endpoints without such metadata (`omit_host_metadata`, `omit_canary_hosts`).
    pub avoid_metadata: Vec<Vec<(Box<str>, Box<str>)>>,
    /// `previous_priorities`: after so many attempts other priorities are preferred; zero disables.
    pub leave_priorities_after: u32,
}

/// The upstream's own word on when to come back (`rate_limited_retry_back_off`).
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimitedBackOff {
    /// Looked at in order.
    pub headers: Vec<(Box<str>, ResetFormat)>,
    /// A longer wait is not believed.
    pub max_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetFormat {
    Seconds,
    UnixTimestamp,
}

/// The conditions of `retry_on`. All but the last are Envoy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    pub server_error: bool,
    pub gateway_error: bool,
    pub reset: bool,
    pub reset_before_request: bool,
    pub connect_failure: bool,
    pub envoy_ratelimited: bool,
    pub retriable_4xx: bool,
    pub refused_stream: bool,
    pub retriable_status_codes: bool,
    pub retriable_headers: bool,
    pub http3_post_connect_failure: bool,
    pub grpc_cancelled: bool,
    pub grpc_deadline_exceeded: bool,
    pub grpc_internal: bool,
    pub grpc_resource_exhausted: bool,
    pub grpc_unavailable: bool,
    /// `reset-if-idempotent`: a reset is retried when the method is idempotent (RFC 9110 section 9.2.2), also one behind
    /// the next proxy, as its `Proxy-Status` tells. Ripstop's own.
    pub reset_if_idempotent: bool,
}

impl RetryOn {
    /// The names of all conditions, in Envoy's spelling.
    pub const NAMES: [&str; 17] = [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
        "reset-if-idempotent",
    ];

    /// Adds the condition called `name`; false when there is none.
    pub fn add(&mut self, name: &str) -> bool {
        let place = match name {
            "5xx" => &mut self.server_error,
            "gateway-error" => &mut self.gateway_error,
            "reset" => &mut self.reset,
            "reset-before-request" => &mut self.reset_before_request,
            "connect-failure" => &mut self.connect_failure,
            "envoy-ratelimited" => &mut self.envoy_ratelimited,
            "retriable-4xx" => &mut self.retriable_4xx,
            "refused-stream" => &mut self.refused_stream,
            "retriable-status-codes" => &mut self.retriable_status_codes,
            "retriable-headers" => &mut self.retriable_headers,
            "http3-post-connect-failure" => &mut self.http3_post_connect_failure,
            "cancelled" => &mut self.grpc_cancelled,
            "deadline-exceeded" => &mut self.grpc_deadline_exceeded,
            "internal" => &mut self.grpc_internal,
            "resource-exhausted" => &mut self.grpc_resource_exhausted,
            "unavailable" => &mut self.grpc_unavailable,
            "reset-if-idempotent" => &mut self.reset_if_idempotent,
            _ => return false,
        };
        *place = true;
        true
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            on: RetryOn::default(),
            num_retries: 1,
            per_try_timeout: Duration::ZERO,
            per_try_idle_timeout: Duration::ZERO,
            retriable_status_codes: Vec::new(),
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
            back_off_base: Duration::from_millis(25),
            back_off_max: Duration::from_millis(250),
            rate_limited_back_off: None,
            avoid_previous_hosts: false,
            host_selection_attempts: 1,
            avoid_metadata: Vec::new(),
            leave_priorities_after: 0,
        }
    }
}
