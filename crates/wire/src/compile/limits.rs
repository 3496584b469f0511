//! Filters that limit requests: local rate limits, admission control, adaptive concurrency.

use super::{Result, duration, flag, header, matcher, not_empty, uint};
use crate::pb::envoy::config::core::v3::{RuntimeFeatureFlag, RuntimePercent};
use crate::pb::envoy::extensions::filters::http::adaptive_concurrency::v3 as concurrency;
use crate::pb::envoy::extensions::filters::http::admission_control::v3 as admission;
use crate::pb::envoy::extensions::filters::http::local_ratelimit::v3 as ratelimit;
use crate::pb::envoy::r#type::v3::{HttpStatus, Percent, TokenBucket as PbTokenBucket};
use crate::problem::{At, gather};
use admission::admission_control::EvaluationCriteria;
use concurrency::adaptive_concurrency::ConcurrencyControllerConfig;
use concurrency::gradient_controller_config::MinimumRttCalculationParams;
use kit::TokenBucket;
use model::filter::{AdaptiveConcurrency, AdmissionControl, IdealLatency, LocalRateLimit};
use std::sync::Arc;
use std::time::Duration;

/// OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION,
/// OUT_OF_RANGE, UNIMPLEMENTED, UNAUTHENTICATED: sending less would not change them.
const GRPC_SUCCESS: [u8; 11] = [0, 1, 2, 3, 5, 6, 7, 9, 11, 12, 16];

pub(super) fn rate_limit(at: &At<'_>, pb: &ratelimit::LocalRateLimit) -> Result<LocalRateLimit> {
    let enabled = pb.filter_enabled.as_ref().map(|share| matcher::fraction(&at.field("filter_enabled"), share));
    let enforced = pb.filter_enforced.as_ref().map(|share| matcher::fraction(&at.field("filter_enforced"), share));
    if pb.request_headers_to_add_when_not_enforced.len() > 10 {
        return at.field("request_headers_to_add_when_not_enforced").wrong("must not have more than 10 headers");
    }
    if pb.response_headers_to_add.len() > 10 {
        return at.field("response_headers_to_add").wrong("must not have more than 10 headers");
    }
    let added = &pb.request_headers_to_add_when_not_enforced;
    Ok(LocalRateLimit {
        stat_prefix: not_empty(at, "stat_prefix", &pb.stat_prefix)?.into(),
        status: error_status(&pb.status, 429),
        bucket: pb.token_bucket.as_ref().map(|one| bucket(&at.field("token_bucket"), one)).transpose()?.map(Arc::new),
        enabled_ppm: enabled.transpose()?.unwrap_or(0),
        enforced_ppm: enforced.transpose()?.unwrap_or(0),
        request_headers: header::add(at, "request_headers_to_add_when_not_enforced", added)?,
        response_headers: header::add(at, "response_headers_to_add", &pb.response_headers_to_add)?,
        resource_exhausted: pb.rate_limited_as_resource_exhausted,
        retry_after: pb.enable_retry_after_header,
    })
}

fn bucket(at: &At<'_>, pb: &PbTokenBucket) -> Result<TokenBucket> {
    let interval = duration(at, "fill_interval", &pb.fill_interval)?;
    let interval = interval.ok_or_else(|| at.field("fill_interval").problem("is required"))?;
    if interval < Duration::from_millis(50) {
        return at.field("fill_interval").wrong("must be at least 50 ms");
    }
    let tokens = uint(&pb.tokens_per_fill).unwrap_or(1);
    if tokens == 0 {
        return at.field("tokens_per_fill").wrong("must be at least 1");
    }
    Ok(TokenBucket::new(pb.max_tokens, interval / tokens))
}

/// A status below 400 means the usual one, as in Envoy.
fn error_status(pb: &Option<HttpStatus>, usual: u16) -> u16 {
    let given = pb.as_ref().and_then(|status| u16::try_from(status.code).ok());
    given.filter(|code| (400..600).contains(code)).unwrap_or(usual)
}

fn enabled(pb: &Option<RuntimeFeatureFlag>) -> bool {
    pb.as_ref().is_none_or(|one| flag(&one.default_value).unwrap_or(false))
}

/// 0 to 1.
fn share(at: &At<'_>, name: &str, pb: Option<&Percent>, usual: f64) -> Result<f64> {
    match pb.map_or(usual * 100.0, |percent| percent.value) {
        percent if (0.0..=100.0).contains(&percent) => Ok(percent / 100.0),
        percent => at.field(name).wrong(format!("{percent} is not from 0 to 100")),
    }
}

pub(super) fn admission(at: &At<'_>, pb: &admission::AdmissionControl) -> Result<AdmissionControl> {
    let Some(EvaluationCriteria::SuccessCriteria(criteria)) = &pb.evaluation_criteria else {
        return at.field("success_criteria").wrong("is required");
    };
    let inner = at.field("success_criteria");
    let http_success = match &criteria.http_criteria {
        None => vec![(100, 500)],
        Some(http) => {
            let inner = inner.field("http_criteria");
            gather(http.http_success_status.iter().enumerate().map(|(index, range)| {
                let status = |number: i32| u16::try_from(number).ok().filter(|code| (100..=600).contains(code));
                match (status(range.start), status(range.end)) {
                    (Some(start), Some(end)) if start < 600 && start <= end => Ok((start, end)),
                    _ => inner.item("http_success_status", index).wrong("is not a range within 100 to 600"),
                }
            }))?
        }
    };
    let grpc_success = match &criteria.grpc_criteria {
        None => GRPC_SUCCESS.to_vec(),
        Some(grpc) => {
            let inner = inner.field("grpc_criteria");
            gather(grpc.grpc_success_status.iter().enumerate().map(|(index, status)| match u8::try_from(*status) {
                Ok(status @ 0..=16) => Ok(status),
                _ => inner.item("grpc_success_status", index).wrong(format!("{status} is not a gRPC status")),
            }))?
        }
    };
    let window = duration(at, "sampling_window", &pb.sampling_window)?.unwrap_or(Duration::from_secs(30));
    let percent = |percent: &Option<RuntimePercent>| percent.as_ref().and_then(|one| one.default_value);
    let threshold = share(at, "sr_threshold", percent(&pb.sr_threshold).as_ref(), 0.95)?;
    if threshold < 0.01 {
        return at.field("sr_threshold").wrong("must be at least 1 %");
    }
    Ok(AdmissionControl {
        enabled: enabled(&pb.enabled),
        http_success,
        grpc_success,
        window: Duration::from_secs(window.as_secs_f64().round().max(1.0) as u64),
        aggression: pb.aggression.as_ref().map_or(1.0, |one| one.default_value).max(1.0),
        success_threshold: threshold,
        least_rate: pb.rps_threshold.as_ref().map_or(0, |one| one.default_value),
        most_refused: share(at, "max_rejection_probability", percent(&pb.max_rejection_probability).as_ref(), 0.8)?,
    })
}

pub(super) fn concurrency(at: &At<'_>, pb: &concurrency::AdaptiveConcurrency) -> Result<AdaptiveConcurrency> {
    let controller = at.required("concurrency_controller_config", &pb.concurrency_controller_config)?;
    let ConcurrencyControllerConfig::GradientControllerConfig(gradient) = controller;
    let at = at.field("gradient_controller_config");
    let limits = at.required("concurrency_limit_params", &gradient.concurrency_limit_params)?;
    let latency = at.required("min_rtt_calc_params", &gradient.min_rtt_calc_params)?;
    let place = at.field("concurrency_limit_params");
    let update = super::positive(&place, "concurrency_update_interval", &limits.concurrency_update_interval)?;
    let update = update.ok_or_else(|| place.field("concurrency_update_interval").problem("is required"))?;
    let inner = at.field("min_rtt_calc_params");
    let concurrency = at_least_one(&inner, "min_concurrency", uint(&latency.min_concurrency).unwrap_or(3))?;
    let least = uint(&limits.min_concurrency_limit).unwrap_or(concurrency);
    let most = at_least_one(&place, "max_concurrency_limit", uint(&limits.max_concurrency_limit).unwrap_or(1000))?;
    if least > most {
        return place.field("min_concurrency_limit").wrong(format!("must not exceed max_concurrency_limit, {most}"));
    }
    Ok(AdaptiveConcurrency {
        enabled: enabled(&pb.enabled),
        status: error_status(&pb.concurrency_limit_exceeded_status, 503),
        percentile: share(&at, "sample_aggregate_percentile", gradient.sample_aggregate_percentile.as_ref(), 0.5)?,
        most,
        least: at_least_one(&place, "min_concurrency_limit", least)?,
        update_interval: update,
        ideal: ideal(&inner, latency, concurrency)?,
        buffer: share(&inner, "buffer", latency.buffer.as_ref(), 0.25)?,
    })
}

fn at_least_one(at: &At<'_>, name: &str, value: u32) -> Result<u32> {
    if value == 0 { at.field(name).wrong("must be at least 1") } else { Ok(value) }
}

fn ideal(at: &At<'_>, pb: &MinimumRttCalculationParams, concurrency: u32) -> Result<IdealLatency> {
    let interval = duration(at, "interval", &pb.interval)?.filter(|interval| !interval.is_zero());
    match (interval, super::positive(at, "fixed_value", &pb.fixed_value)?) {
        (Some(_), Some(_)) => at.field("fixed_value").wrong("cannot be set together with interval"),
        (None, None) => at.field("fixed_value").wrong("is required without interval"),
        (None, Some(fixed)) => Ok(IdealLatency::Fixed(fixed)),
        (Some(interval), None) if interval < Duration::from_millis(1) => {
            at.field("interval").wrong("must be at least 1 ms")
        }
        (Some(interval), None) => Ok(IdealLatency::Measured {
            interval,
            requests: at_least_one(at, "request_count", uint(&pb.request_count).unwrap_or(50))?,
            jitter: share(at, "jitter", pb.jitter.as_ref(), 0.15)?,
            concurrency,
        }),
    }
}
