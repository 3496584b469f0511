//! Messages to JSON, with the field names of the `.proto` files.

use crate::schema::{Schema, type_name};
use base64::Engine;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

/// The message called `name`, encoded in `bytes`, as JSON. What the schema does not know is shown as base64.
pub fn view(schema: &Schema, name: &str, bytes: &[u8]) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let decoded = schema.message(name).and_then(|descriptor| DynamicMessage::decode(descriptor, bytes).ok());
    let value = decoded.and_then(|m| m.serialize_with_options(serde_json::value::Serializer, &options).ok());
    value.unwrap_or_else(|| json!({ "value": base64::engine::general_purpose::STANDARD.encode(bytes) }))
}

/// The payload of an `Any`, with its `@type` first.
pub fn view_any(schema: &Schema, type_url: &str, bytes: &[u8]) -> Value {
    let mut out = serde_json::Map::new();
    out.insert("@type".into(), type_url.into());
    match view(schema, type_name(type_url), bytes) {
        Value::Object(fields) => out.extend(fields),
        other => _ = out.insert("value".into(), other),
    }
    Value::Object(out)
}
