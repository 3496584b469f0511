//! What several policies have, in the older and the newer messages.

use super::super::{Result, positive, uint};
use crate::pb::envoy::config::core::v3::RuntimeDouble;
use crate::pb::envoy::r#type::v3::Percent;
use crate::pb::google::protobuf::{Duration as PbDuration, UInt32Value, UInt64Value};
use crate::problem::At;
use model::balance::{self, HashFunction, Hashing, Policy, SlowStart};

pub(super) fn least_request(
    at: &At<'_>,
    choices: &Option<UInt32Value>,
    bias: &Option<RuntimeDouble>,
    full_scan: bool,
    slow_start: Option<SlowStart>,
) -> Result<Policy> {
    let choices = uint(choices).unwrap_or(2);
    if choices < 2 {
        return at.field("choice_count").wrong("must be at least 2");
    }
    let bias = bias.as_ref().map_or(1.0, |bias| bias.default_value);
    if bias.is_nan() || bias < 0.0 {
        return at.field("active_request_bias").wrong("must not be negative");
    }
    Ok(Policy::LeastRequest(balance::LeastRequest { choices, bias, full_scan, slow_start }))
}

pub(super) fn slow_start(
    at: &At<'_>,
    window: &Option<PbDuration>,
    aggression: &Option<RuntimeDouble>,
    min_weight: Option<&Percent>,
) -> Result<Option<SlowStart>> {
    let Some(window) = positive(at, "slow_start_window", window)? else { return Ok(None) };
    let aggression = aggression.as_ref().map_or(1.0, |aggression| aggression.default_value);
    if aggression.is_nan() || aggression <= 0.0 {
        return at.field("aggression").wrong("must be greater than 0");
    }
    let min_weight = percent(&at.field("min_weight_percent"), min_weight, 10.0)? / 100.0;
    Ok(Some(SlowStart { window, aggression, min_weight }))
}

pub(super) fn percent(at: &At<'_>, percent: Option<&Percent>, default: f64) -> Result<f64> {
    let value = percent.map_or(default, |percent| percent.value);
    if !(0.0..=100.0).contains(&value) {
        return at.wrong(format!("{value} is not a percentage from 0 to 100"));
    }
    Ok(value)
}

/// The largest ring, of Envoy too.
const LARGEST_RING: u64 = 8 << 20;

pub(super) fn ring_hash(
    at: &At<'_>,
    min: &Option<UInt64Value>,
    max: &Option<UInt64Value>,
    function: HashFunction,
    hashing: Hashing,
) -> Result<Policy> {
    let defaults = balance::RingHash::default();
    let size = |name: &str, given: &Option<UInt64Value>, default: u64| match given.as_ref().map(|size| size.value) {
        Some(size) if size > LARGEST_RING => at.field(name).wrong(format!("must not be greater than {LARGEST_RING}")),
        given => Ok(given.unwrap_or(default)),
    };
    let min_size = size("minimum_ring_size", min, defaults.min_size)?;
    let max_size = size("maximum_ring_size", max, defaults.max_size)?;
    if max_size < min_size {
        return at
            .field("maximum_ring_size")
            .wrong("must not be less than minimum_ring_size, which is 1024 by default");
    }
    Ok(Policy::RingHash(balance::RingHash { min_size, max_size, function, hashing }))
}

pub(super) fn maglev(at: &At<'_>, size: &Option<UInt64Value>, hashing: Hashing) -> Result<Policy> {
    const LARGEST: u64 = 5_000_011;
    let size = size.as_ref().map_or(65_537, |size| size.value);
    if size > LARGEST || !is_prime(size) {
        return at
            .field("table_size")
            .wrong(format!("must be a prime number not greater than {LARGEST}; 65537 is one"));
    }
    Ok(Policy::Maglev(balance::Maglev { table_size: size as u32, hashing }))
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

pub(super) fn hashing(at: &At<'_>, use_hostname: bool, factor: &Option<UInt32Value>) -> Result<Hashing> {
    let balance_factor = uint(factor);
    if balance_factor.is_some_and(|factor| factor < 100) {
        return at.field("hash_balance_factor").wrong("must be at least 100");
    }
    Ok(Hashing { use_hostname, balance_factor })
}
