//! Policies that Envoy's API has no message for. They are known by the name of the extension, with a
//! `google.protobuf.Struct` as configuration; an Envoy skips them and takes the next policy of the list.

use super::super::{Result, unpack};
use crate::pb::google::protobuf::value::Kind;
use crate::pb::google::protobuf::{Any, Struct, Value};
use crate::problem::At;
use model::balance::{PeakEwma, Policy};
use std::time::Duration;

/// Ripstop's own policy; it has nothing to configure.
pub(super) const ADAPTIVE: &str = "ripstop.dev/adaptive";
/// Envoy's contrib extension; its fields go by their names in `peak_ewma.v3alpha.PeakEwma`, and `choice_count`.
pub(super) const PEAK_EWMA: &str = "envoy.load_balancing_policies.peak_ewma";

pub(super) fn policy(at: &At<'_>, name: &str, any: &Any) -> Result<Option<Policy>> {
    if name != ADAPTIVE && name != PEAK_EWMA {
        return Ok(None);
    }
    let config: Struct = unpack(at, any)?;
    if name == ADAPTIVE {
        return match config.fields.keys().next() {
            Some(field) => at.field(field).wrong("there is nothing to configure"),
            None => Ok(Some(Policy::Adaptive)),
        };
    }
    let mut policy = PeakEwma::default();
    for (field, value) in &config.fields {
        let at = at.field(field);
        match field.as_str() {
            "decay_time" => policy.decay = seconds(&at, value)?,
            "default_rtt" => policy.default_latency = seconds(&at, value)?,
            "penalty_value" => policy.penalty = number(&at, value, 0.0)?,
            "choice_count" => policy.choices = number(&at, value, 2.0)? as u32,
            "aggregation_interval" | "max_samples_per_host" => {
                return at.wrong("is not needed: every worker learns by itself");
            }
            _ => return at.wrong("is not a field of peak_ewma"),
        }
    }
    Ok(Some(Policy::PeakEwma(policy)))
}

fn number(at: &At<'_>, value: &Value, least: f64) -> Result<f64> {
    match value.kind {
        Some(Kind::NumberValue(number)) if number >= least => Ok(number),
        _ => at.wrong(format!("must be a number not less than {least}")),
    }
}

/// As JSON writes a duration: `10s`, `0.01s`.
fn seconds(at: &At<'_>, value: &Value) -> Result<Duration> {
    let text = match &value.kind {
        Some(Kind::StringValue(text)) => text.strip_suffix('s').and_then(|text| text.parse::<f64>().ok()),
        _ => None,
    };
    match text.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|found| !found.is_zero()) {
        Some(found) => Ok(found),
        None => at.wrong("must be a duration greater than 0 such as 10s"),
    }
}
