//! Retry policies (`route.v3.RetryPolicy`).

use super::{Result, duration, matcher, positive, uint};
use crate::pb::envoy::config::route::v3 as route;
use crate::problem::{At, gather, nearest};
use crate::schema::type_name;
use model::retry::{RetryOn, RetryPolicy};
use route::retry_policy::retry_host_predicate::ConfigType;
use std::time::Duration;

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

pub(super) fn policy(at: &At<'_>, pb: &route::RetryPolicy) -> Result<RetryPolicy> {
    let defaults = RetryPolicy::default();
    let (back_off_base, back_off_max) = match &pb.retry_back_off {
        None => (defaults.back_off_base, defaults.back_off_max),
        Some(back_off) => back_off_range(&at.field("retry_back_off"), back_off)?,
    };
    let codes = pb.retriable_status_codes.iter().enumerate().map(|(index, code)| {
        let wrong = |_| at.item("retriable_status_codes", index).problem(format!("{code} is not a status")).into();
        u16::try_from(*code).map_err(wrong)
    });
    Ok(RetryPolicy {
        on: retry_on(at, &pb.retry_on)?,
        num_retries: uint(&pb.num_retries).unwrap_or(defaults.num_retries),
        per_try_timeout: duration(at, "per_try_timeout", &pb.per_try_timeout)?.unwrap_or_default(),
        per_try_idle_timeout: duration(at, "per_try_idle_timeout", &pb.per_try_idle_timeout)?.unwrap_or_default(),
        retriable_status_codes: gather(codes)?,
        retriable_headers: matcher::headers(at, "retriable_headers", &pb.retriable_headers)?,
        retriable_request_headers: matcher::headers(at, "retriable_request_headers", &pb.retriable_request_headers)?,
        back_off_base,
        back_off_max,
        avoid_previous_hosts: avoid_previous_hosts(at, pb)?,
        host_selection_attempts: u32::try_from(pb.host_selection_retry_max_attempts).unwrap_or(0).max(1),
    })
}

/// The ceiling is ten times the base unless configured.
fn back_off_range(at: &At<'_>, pb: &route::retry_policy::RetryBackOff) -> Result<(Duration, Duration)> {
    let base = positive(at, "base_interval", &pb.base_interval)?;
    let base = base.ok_or_else(|| at.field("base_interval").problem("is required"))?;
    let max = positive(at, "max_interval", &pb.max_interval)?.unwrap_or(base * 10);
    if max < base {
        return at.field("max_interval").wrong("must not be less than base_interval");
    }
    Ok((base, max))
}

fn avoid_previous_hosts(at: &At<'_>, pb: &route::RetryPolicy) -> Result<bool> {
    for (index, predicate) in pb.retry_host_predicate.iter().enumerate() {
        let known = match &predicate.config_type {
            None => predicate.name == "envoy.retry_host_predicates.previous_hosts",
            Some(ConfigType::TypedConfig(any)) => type_name(&any.type_url) == PREVIOUS_HOSTS,
        };
        if !known {
            let text = format!("`{}` is not implemented; previous_hosts is", predicate.name);
            return at.item("retry_host_predicate", index).wrong(text);
        }
    }
    Ok(!pb.retry_host_predicate.is_empty())
}

const CONDITIONS: [&str; 17] = [
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

fn retry_on(at: &At<'_>, text: &str) -> Result<RetryOn> {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let place = match word {
            "5xx" => &mut on.server_error,
            "gateway-error" => &mut on.gateway_error,
            "reset" => &mut on.reset,
            "reset-before-request" => &mut on.reset_before_request,
            "connect-failure" => &mut on.connect_failure,
            "envoy-ratelimited" => &mut on.envoy_ratelimited,
            "retriable-4xx" => &mut on.retriable_4xx,
            "refused-stream" => &mut on.refused_stream,
            "retriable-status-codes" => &mut on.retriable_status_codes,
            "retriable-headers" => &mut on.retriable_headers,
            "http3-post-connect-failure" => &mut on.http3_post_connect_failure,
            "cancelled" => &mut on.grpc_cancelled,
            "deadline-exceeded" => &mut on.grpc_deadline_exceeded,
            "internal" => &mut on.grpc_internal,
            "resource-exhausted" => &mut on.grpc_resource_exhausted,
            "unavailable" => &mut on.grpc_unavailable,
            "reset-if-idempotent" => &mut on.reset_if_idempotent,
            _ => {
                let hint = match nearest(word, CONDITIONS.into_iter()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("it can be {}", CONDITIONS.join(", ")),
                };
                return at.field("retry_on").wrong(format!("`{word}` is not a retry condition; {hint}"));
            }
        };
        *place = true;
    }
    Ok(on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_known() {
        let all = retry_on(&At::ROOT, &CONDITIONS.join(",")).unwrap();
        assert!(all.server_error && all.grpc_unavailable && all.reset_if_idempotent);
        assert_eq!(retry_on(&At::ROOT, "").unwrap(), RetryOn::default());
        let error = retry_on(&At::ROOT, "5xx, conect-failure").unwrap_err().to_string();
        assert_eq!(error, "retry_on: `conect-failure` is not a retry condition; did you mean connect-failure?");
    }
}
