//! Outlier detection (`cluster.v3.OutlierDetection`).

use super::{Result, data, duration, flag, positive, uint, unpack};
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::pb::google::protobuf::{Struct, UInt32Value};
use crate::problem::{At, gather};
use model::cluster::{Cause, FailurePercentage, OutlierDetection, SuccessRate, WindowedSuccessRate};
use std::time::Duration;

pub(super) fn detection(at: &At<'_>, pb: &pb::OutlierDetection) -> Result<OutlierDetection> {
    let defaults = OutlierDetection::default();
    let percent = |name: &str, value: &Option<UInt32Value>, default: u32| match uint(value) {
        Some(value) if value > 100 => at.field(name).wrong("must not be greater than 100"),
        value => Ok(value.unwrap_or(default)),
    };
    let base = positive(at, "base_ejection_time", &pb.base_ejection_time)?.unwrap_or(defaults.base_ejection_time);
    let longest = positive(at, "max_ejection_time", &pb.max_ejection_time)?;
    if longest.is_some_and(|longest| longest < base) {
        return at.field("max_ejection_time").wrong("must not be less than base_ejection_time");
    }
    let enforcing = Cause::ALL.map(|cause| {
        let (name, given) = match cause {
            Cause::Consecutive5xx => ("enforcing_consecutive_5xx", &pb.enforcing_consecutive_5xx),
            Cause::ConsecutiveGatewayFailure => {
                ("enforcing_consecutive_gateway_failure", &pb.enforcing_consecutive_gateway_failure)
            }
            Cause::ConsecutiveLocalOriginFailure => {
                ("enforcing_consecutive_local_origin_failure", &pb.enforcing_consecutive_local_origin_failure)
            }
            Cause::SuccessRate => ("enforcing_success_rate", &pb.enforcing_success_rate),
            Cause::LocalOriginSuccessRate => {
                ("enforcing_local_origin_success_rate", &pb.enforcing_local_origin_success_rate)
            }
            Cause::FailurePercentage => ("enforcing_failure_percentage", &pb.enforcing_failure_percentage),
            Cause::WindowedSuccessRate => ("monitors", &None),
            Cause::LocalOriginFailurePercentage => {
                ("enforcing_failure_percentage_local_origin", &pb.enforcing_failure_percentage_local_origin)
            }
        };
        percent(name, given, defaults.enforcing[cause as usize])
    });
    let enforcing = gather(enforcing)?.try_into().expect("as many as there were");
    let factor = uint(&pb.success_rate_stdev_factor);
    let rate = &defaults.success_rate;
    let percentage = &defaults.failure_percentage;
    let threshold = percent("failure_percentage_threshold", &pb.failure_percentage_threshold, percentage.threshold)?;
    let windowed = windowed(at, pb)?;
    Ok(OutlierDetection {
        windowed,
        consecutive_5xx: uint(&pb.consecutive_5xx).unwrap_or(defaults.consecutive_5xx),
        consecutive_gateway_failure: uint(&pb.consecutive_gateway_failure)
            .unwrap_or(defaults.consecutive_gateway_failure),
        consecutive_local_origin_failure: uint(&pb.consecutive_local_origin_failure)
            .unwrap_or(defaults.consecutive_local_origin_failure),
        split_external_local_origin_errors: pb.split_external_local_origin_errors,
        success_rate: SuccessRate {
            minimum_hosts: uint(&pb.success_rate_minimum_hosts).unwrap_or(rate.minimum_hosts),
            request_volume: uint(&pb.success_rate_request_volume).unwrap_or(rate.request_volume),
            stdev_factor: factor.map_or(rate.stdev_factor, |factor| f64::from(factor) / 1000.0),
        },
        failure_percentage: FailurePercentage {
            threshold,
            minimum_hosts: uint(&pb.failure_percentage_minimum_hosts).unwrap_or(percentage.minimum_hosts),
            request_volume: uint(&pb.failure_percentage_request_volume).unwrap_or(percentage.request_volume),
        },
        enforcing,
        interval: positive(at, "interval", &pb.interval)?.unwrap_or(defaults.interval),
        base_ejection_time: base,
        max_ejection_time: longest.unwrap_or(base.max(defaults.max_ejection_time)),
        max_ejection_time_jitter: duration(at, "max_ejection_time_jitter", &pb.max_ejection_time_jitter)?
            .unwrap_or_default(),
        max_ejection_percent: percent("max_ejection_percent", &pb.max_ejection_percent, defaults.max_ejection_percent)?,
        always_eject_one_host: flag(&pb.always_eject_one_host).unwrap_or(false),
    })
}

/// Ripstop's own monitor. Envoy's API has no message for it: it is known by its name.
const SUCCESS_RATE: &str = "ripstop.dev/success_rate";

fn windowed(at: &At<'_>, pb: &pb::OutlierDetection) -> Result<Option<WindowedSuccessRate>> {
    let Some(monitor) = pb.monitors.first() else { return Ok(None) };
    if pb.monitors.len() > 1 {
        return at.field("monitors").wrong("must not have more than one entry");
    }
    let at = at.item("monitors", 0);
    if monitor.name != SUCCESS_RATE {
        return at.field("name").wrong(format!("`{}` is not implemented; {SUCCESS_RATE} is", monitor.name));
    }
    let mut found = WindowedSuccessRate { threshold: 80.0, window: Duration::from_secs(10), minimum_requests: 10 };
    let Some(any) = &monitor.typed_config else { return Ok(Some(found)) };
    let at = at.field("typed_config");
    let config: Struct = unpack(&at, any)?;
    for (field, value) in &config.fields {
        let at = at.field(field);
        match field.as_str() {
            "threshold" => found.threshold = data::number(&at, value, 0.0..=100.0)?,
            "window" => found.window = data::seconds(&at, value)?,
            "minimum_requests" => found.minimum_requests = data::number(&at, value, 1.0..=1e9)? as u32,
            _ => return at.wrong(format!("is not a field of {SUCCESS_RATE}; threshold, window, minimum_requests are")),
        }
    }
    Ok(Some(found))
}
