//! Policies that Envoy's API has no message for. They are known by the name of the extension, with a
//! `google.protobuf.Struct` as configuration; an Envoy skips them and takes the next policy of the list.

use super::super::{Result, data, unpack};
use crate::pb::google::protobuf::{Any, Struct};
use crate::problem::At;
use model::balance::{PeakEwma, Policy};

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
            "decay_time" => policy.decay = data::seconds(&at, value)?,
            "default_rtt" => policy.default_latency = data::seconds(&at, value)?,
            "penalty_value" => policy.penalty = data::number(&at, value, 0.0..=f64::MAX)?,
            "choice_count" => policy.choices = data::number(&at, value, 2.0..=1e6)? as u32,
            "aggregation_interval" | "max_samples_per_host" => {
                return at.wrong("is not needed: every worker learns by itself");
            }
            _ => return at.wrong("is not a field of peak_ewma"),
        }
    }
    Ok(Some(Policy::PeakEwma(policy)))
}
