//! Bytes given in place, in a file or in the environment (`core.v3.DataSource`), and free-form JSON.

use super::Result;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::google::protobuf as pb;
use crate::problem::At;
use core::data_source::Specifier;
use model::tls::DataSource;
use serde_json::Value;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Kept as a file name, so that replaced files are noticed.
pub(super) fn source(at: &At<'_>, pb: &core::DataSource) -> Result<DataSource> {
    Ok(match at.required("specifier", &pb.specifier)? {
        Specifier::Filename(path) => DataSource::File(path.into()),
        Specifier::InlineBytes(bytes) => DataSource::Inline(bytes.as_slice().into()),
        Specifier::InlineString(text) => DataSource::Inline(text.as_bytes().into()),
        Specifier::EnvironmentVariable(name) => DataSource::Inline(environment(at, name)?.into_bytes().into()),
    })
}

/// Read now.
pub(super) fn bytes(at: &At<'_>, pb: &core::DataSource) -> Result<Vec<u8>> {
    match source(at, pb)? {
        DataSource::Inline(bytes) => Ok(bytes.to_vec()),
        DataSource::File(path) => std::fs::read(&path)
            .map_err(|error| at.field("filename").problem(format!("cannot read {}: {error}", path.display())).into()),
    }
}

pub(super) fn text(at: &At<'_>, pb: &core::DataSource) -> Result<String> {
    String::from_utf8(bytes(at, pb)?).map_err(|_| at.problem("is not UTF-8 text").into())
}

fn environment(at: &At<'_>, name: &str) -> Result<String> {
    let wrong = |_| at.field("environment_variable").problem(format!("`{name}` is not set in the environment")).into();
    std::env::var(name).map_err(wrong)
}

pub fn json(value: &pb::Value) -> Value {
    use pb::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        // Whole numbers without a fraction, as JSON writers have it.
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < 1e15 => Value::from(*value as i64),
        Some(Kind::NumberValue(value)) => Value::from(*value),
        Some(Kind::StringValue(value)) => Value::from(value.as_str()),
        Some(Kind::StructValue(value)) => Value::Object(object(value)),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(json).collect()),
    }
}

/// The wire knows no order of keys: sorted.
pub fn object(value: &pb::Struct) -> serde_json::Map<String, Value> {
    let mut keys: Vec<&String> = value.fields.keys().collect();
    keys.sort();
    keys.into_iter().map(|key| (key.clone(), json(&value.fields[key]))).collect()
}

/// Key and JSON text, sorted by key: how the model carries metadata.
pub(super) fn pairs(value: &pb::Struct) -> Vec<(Box<str>, Box<str>)> {
    object(value).into_iter().map(|(key, value)| (key.into(), value.to_string().into())).collect()
}

/// A number within `range` in free-form JSON.
pub(super) fn number(at: &At<'_>, value: &pb::Value, range: RangeInclusive<f64>) -> Result<f64> {
    match value.kind {
        Some(pb::value::Kind::NumberValue(number)) if range.contains(&number) => Ok(number),
        _ if *range.end() == f64::MAX => at.wrong(format!("must be a number not less than {}", range.start())),
        _ => at.wrong(format!("must be a number from {} to {}", range.start(), range.end())),
    }
}

/// A duration in free-form JSON, as JSON writes it: `10s`, `0.01s`.
pub(super) fn seconds(at: &At<'_>, value: &pb::Value) -> Result<Duration> {
    let text = match &value.kind {
        Some(pb::value::Kind::StringValue(text)) => text.strip_suffix('s').and_then(|text| text.parse::<f64>().ok()),
        _ => None,
    };
    match text.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).filter(|found| !found.is_zero()) {
        Some(found) => Ok(found),
        None => at.wrong("must be a duration greater than 0 such as 10s"),
    }
}
