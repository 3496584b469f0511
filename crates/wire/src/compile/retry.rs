//! Retry policies (`route.v3.RetryPolicy`).

use super::header::header_name;
use super::{Result, data, duration, known, matcher, positive, uint, unpack};
use crate::pb::envoy::config::route::v3 as route;
use crate::pb::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use crate::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use crate::problem::{At, gather, nearest};
use crate::schema::type_name;
use model::retry::{RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};
use route::retry_policy::ResetHeaderFormat;
use route::retry_policy::retry_host_predicate::ConfigType;
use route::retry_policy::retry_priority::ConfigType as PriorityConfig;
use std::time::Duration;

const CANARIES: &str = "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate";
const HOST_METADATA: &str = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig";
const PREVIOUS_PRIORITIES: &str = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig";
const PREVIOUS_HOSTS: &str = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

pub(super) fn policy(at: &At<'_>, pb: &route::RetryPolicy) -> Result<RetryPolicy> {
    let defaults = RetryPolicy::default();
    let (back_off_base, back_off_max) = match &pb.retry_back_off {
        None => (defaults.back_off_base, defaults.back_off_max),
        Some(back_off) => back_off_range(&at.field("retry_back_off"), back_off)?,
    };
    let limited = pb.rate_limited_retry_back_off.as_ref();
    let limited = limited.map(|limited| rate_limited(&at.field("rate_limited_retry_back_off"), limited));
    let avoid = avoid(at, pb)?;
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
        avoid_previous_hosts: avoid.previous,
        avoid_metadata: avoid.metadata,
        leave_priorities_after: leave_priorities(at, pb)?,
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

/// Which hosts a retry would rather not meet.
#[derive(Default)]
struct Avoid {
    previous: bool,
    metadata: Vec<Vec<(Box<str>, Box<str>)>>,
}

fn avoid(at: &At<'_>, pb: &route::RetryPolicy) -> Result<Avoid> {
    let mut avoid = Avoid::default();
    for (index, predicate) in pb.retry_host_predicate.iter().enumerate() {
        let at = at.item("retry_host_predicate", index);
        let kind = match &predicate.config_type {
            None => predicate.name.as_str(),
            Some(ConfigType::TypedConfig(any)) => type_name(&any.type_url),
        };
        match (kind, &predicate.config_type) {
            ("envoy.retry_host_predicates.previous_hosts" | PREVIOUS_HOSTS, _) => avoid.previous = true,
            ("envoy.retry_host_predicates.omit_canary_hosts" | CANARIES, _) => {
                avoid.metadata.push(vec![("canary".into(), "true".into())]);
            }
            (HOST_METADATA, Some(ConfigType::TypedConfig(any))) => {
                let config: OmitHostMetadataConfig = unpack(&at.field("typed_config"), any)?;
                let metadata = config.metadata_match.as_ref().and_then(|all| all.filter_metadata.get("envoy.lb"));
                // Envoy omits no host where nothing is asked for.
                avoid.metadata.extend(metadata.map(data::pairs).filter(|pairs| !pairs.is_empty()));
            }
            _ => {
                let text = format!(
                    "`{}` is not implemented; previous_hosts, omit_host_metadata and omit_canary_hosts are",
                    predicate.name
                );
                return at.wrong(text);
            }
        }
    }
    Ok(avoid)
}

/// `previous_priorities`; zero without.
fn leave_priorities(at: &At<'_>, pb: &route::RetryPolicy) -> Result<u32> {
    let Some(priority) = &pb.retry_priority else { return Ok(0) };
    let at = at.field("retry_priority");
    let Some(PriorityConfig::TypedConfig(any)) = &priority.config_type else {
        return at.field("typed_config").wrong("is required");
    };
    let at = at.field("typed_config");
    if type_name(&any.type_url) != PREVIOUS_PRIORITIES {
        return at.wrong(format!("`{}` is not implemented; previous_priorities is", priority.name));
    }
    let config: PreviousPrioritiesConfig = unpack(&at, any)?;
    match config.update_frequency {
        1.. => Ok(config.update_frequency as u32),
        _ => at.field("update_frequency").wrong("must be greater than 0"),
    }
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
