//! Messages to JSON, with the field names of the `.proto` files.

use crate::schema::{Schema, type_name, whole};
use base64::Engine;
use prost_reflect::{DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

/// The message called `name`, encoded in `bytes`, as JSON. What the schema does not know is looked up in the whole
/// API; what nobody knows is shown as base64.
pub fn view(schema: &Schema, name: &str, bytes: &[u8]) -> Value {
    let value = try_view(schema, name, bytes).or_else(|| try_view(&whole(), name, bytes));
    value.unwrap_or_else(|| json!({ "value": base64::engine::general_purpose::STANDARD.encode(bytes) }))
}

fn try_view(schema: &Schema, name: &str, bytes: &[u8]) -> Option<Value> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let message = DynamicMessage::decode(schema.message(name)?, bytes).ok()?;
    message.serialize_with_options(serde_json::value::Serializer, &options).ok()
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
