//! Retry policies (`route.v3.RetryPolicy`).

use super::header::header_name;
use super::{Result, duration, known, matcher, positive, uint};
use crate::pb::envoy::config::route::v3 as route;
use crate::problem::{At, gather, nearest};
use crate::schema::type_name;
use model::retry::{RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};
use route::retry_policy::ResetHeaderFormat;
use route::retry_policy::retry_host_predicate::ConfigType;
use std::time::Duration;

const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

pub(super) fn policy(at: &At<'_>, pb: &route::RetryPolicy) -> Result<RetryPolicy> {
    let defaults = RetryPolicy::default();
    let (back_off_base, back_off_max) = match &pb.retry_back_off {
        None => (defaults.back_off_base, defaults.back_off_max),
        Some(back_off) => back_off_range(&at.field("retry_back_off"), back_off)?,
    };
    let limited = pb.rate_limited_retry_back_off.as_ref();
    let limited = limited.map(|limited| rate_limited(&at.field("rate_limited_retry_back_off"), limited));
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
        rate_limited_back_off: limited.transpose()?,
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

fn retry_on(at: &At<'_>, text: &str) -> Result<RetryOn> {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if !on.add(word) {
            let hint = match nearest(word, RetryOn::NAMES.into_iter()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("it can be {}", RetryOn::NAMES.join(", ")),
            };
            return at.field("retry_on").wrong(format!("`{word}` is not a retry condition; {hint}"));
        }
    }
    Ok(on)
}

/// How the upstream says when to come back.
fn rate_limited(at: &At<'_>, pb: &route::retry_policy::RateLimitedRetryBackOff) -> Result<RateLimitedBackOff> {
    if pb.reset_headers.is_empty() {
        return at.field("reset_headers").wrong("must have at least one header");
    }
    let headers = pb.reset_headers.iter().enumerate().map(|(index, header)| {
        let at = at.item("reset_headers", index);
        let format = match known(&at, "format", header.format)? {
            ResetHeaderFormat::Seconds => ResetFormat::Seconds,
            ResetHeaderFormat::UnixTimestamp => ResetFormat::UnixTimestamp,
        };
        Ok((header_name(&at.field("name"), &header.name)?, format))
    });
    let max = positive(at, "max_interval", &pb.max_interval)?;
    Ok(RateLimitedBackOff { headers: gather(headers)?, max_interval: max.unwrap_or(Duration::from_secs(300)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_known() {
        let all = retry_on(&At::ROOT, &RetryOn::NAMES.join(",")).unwrap();
        assert!(all.server_error && all.grpc_unavailable && all.reset_if_idempotent);
        assert_eq!(retry_on(&At::ROOT, "").unwrap(), RetryOn::default());
        let error = retry_on(&At::ROOT, "5xx, conect-failure").unwrap_err().to_string();
        assert_eq!(error, "retry_on: `conect-failure` is not a retry condition; did you mean connect-failure?");
    }
}
