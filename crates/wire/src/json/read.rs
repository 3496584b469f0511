//! Text to messages, directed by descriptors: the protobuf JSON mapping with errors that name field and position.

use super::node::{Key, Node, Value};
use crate::problem::{At, Position, Problem, nearest};
use crate::schema::{find, type_name};
use base64::Engine;
use prost::Message;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value as Field,
};
use std::collections::HashMap;

/// Reads on after an error, so that all of them are reported together.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    fn report(&mut self, at: &At<'_>, position: Position, message: impl Into<String>) {
        self.problems.push(Problem { position: Some(position), ..at.problem(message) });
    }

    fn mismatch(&mut self, at: &At<'_>, node: &Node, wanted: &str) {
        self.report(at, node.position, format!("is {}; it must be {wanted}", node.value.kind()));
    }

    pub(super) fn message(&mut self, descriptor: &MessageDescriptor, node: &Node, at: &At<'_>) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Any" => self.any(&mut message, node, at),
            "google.protobuf.Duration" => self.duration(&mut message, node, at),
            "google.protobuf.Timestamp" => self.timestamp(&mut message, node, at),
            "google.protobuf.FieldMask" => self.field_mask(&mut message, node, at),
            "google.protobuf.Struct" => self.structure(&mut message, node, at),
            "google.protobuf.Value" => transcode(&mut message, &json_value(node)),
            "google.protobuf.ListValue" => self.list_value(&mut message, node, at),
            name if is_wrapper(name) => {
                let value = descriptor.get_field_by_name("value").expect("wrappers hold a value");
                if let Some(read) = self.single(&value.kind(), node, at) {
                    message.set_field(&value, read);
                }
            }
            _ => match &node.value {
                Value::Object(entries) => self.fields(&mut message, entries, at),
                _ => self.mismatch(at, node, "an object"),
            },
        }
        message
    }

    fn fields(&mut self, message: &mut DynamicMessage, entries: &[(Key, Node)], at: &At<'_>) {
        let descriptor = message.descriptor();
        for (key, node) in entries {
            let found =
                descriptor.get_field_by_name(&key.text).or_else(|| descriptor.get_field_by_json_name(&key.text));
            let Some(field) = found else {
                self.unknown(&descriptor, key, at);
                continue;
            };
            if node.value == Value::Null && !takes_null(&field.kind()) {
                continue;
            }
            if message.has_field(&field) {
                self.report(&at.field(field.name()), key.position, "is written twice");
                continue;
            }
            let rival = field.containing_oneof().and_then(|one| one.fields().find(|other| message.has_field(other)));
            if let Some(rival) = rival {
                let text = format!("cannot be set together with {}; choose one", rival.name());
                self.report(&at.field(field.name()), key.position, text);
                continue;
            }
            if let Some(value) = self.field(&field, node, at) {
                message.set_field(&field, value);
            }
        }
    }

    fn unknown(&mut self, descriptor: &MessageDescriptor, key: &Key, at: &At<'_>) {
        let names: Vec<String> = descriptor.fields().map(|field| field.name().to_string()).collect();
        let text = match nearest(&key.text, names.iter().map(String::as_str)) {
            Some(name) => format!("unknown field; did you mean {name}?"),
            None => format!("unknown field of {}", descriptor.full_name()),
        };
        self.report(&at.field(&key.text), key.position, text);
    }

    fn field(&mut self, field: &FieldDescriptor, node: &Node, at: &At<'_>) -> Option<Field> {
        if field.is_map() {
            return self.map(field, node, at);
        }
        if !field.is_list() {
            return self.single(&field.kind(), node, &at.field(field.name()));
        }
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            // Envoy takes a value alone for a list of one.
            _ => std::slice::from_ref(node),
        };
        let kind = field.kind();
        let values = items.iter().enumerate();
        let read = values.filter_map(|(index, item)| self.single(&kind, item, &at.item(field.name(), index)));
        Some(Field::List(read.collect()))
    }

    fn map(&mut self, field: &FieldDescriptor, node: &Node, at: &At<'_>) -> Option<Field> {
        let Value::Object(entries) = &node.value else {
            self.mismatch(&at.field(field.name()), node, "an object");
            return None;
        };
        let kind = field.kind();
        let entry = kind.as_message().expect("a map is a list of entry messages");
        let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut map = HashMap::new();
        for (key, node) in entries {
            let at = at.key(field.name(), &key.text);
            match (map_key(&key_kind, &key.text), self.single(&value_kind, node, &at)) {
                (Some(key), Some(value)) => _ = map.insert(key, value),
                (None, _) => self.report(&at, key.position, format!("`{}` cannot be a key here", key.text)),
                (_, None) => {}
            }
        }
        Some(Field::Map(map))
    }

    fn single(&mut self, kind: &Kind, node: &Node, at: &At<'_>) -> Option<Field> {
        let wanted = match (kind, &node.value) {
            (Kind::Message(descriptor), _) => return Some(Field::Message(self.message(descriptor, node, at))),
            (Kind::Enum(descriptor), _) => return self.enumeration(descriptor, node, at),
            (Kind::Bool, Value::Bool(value)) => return Some(Field::Bool(*value)),
            (Kind::Bool, _) => "true or false",
            (Kind::String, Value::Text(text)) => return Some(Field::String(text.clone())),
            (Kind::String, _) => "a string; quote it",
            (Kind::Bytes, Value::Text(text)) => return self.bytes(text, node, at),
            (Kind::Bytes, _) => "bytes as base64 text",
            (Kind::Float | Kind::Double, value) => match number(value) {
                Some(number) if *kind == Kind::Float => return Some(Field::F32(number as f32)),
                Some(number) => return Some(Field::F64(number)),
                None => "a number",
            },
            (kind, value) => match integer(value).and_then(|number| fit(kind, number)) {
                Some(field) => return Some(field),
                None => range(kind),
            },
        };
        self.mismatch(at, node, wanted);
        None
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor, node: &Node, at: &At<'_>) -> Option<Field> {
        let names: Vec<String> = descriptor.values().map(|value| value.name().to_string()).collect();
        let found = match &node.value {
            Value::Null if takes_null(&Kind::Enum(descriptor.clone())) => Some(0),
            // Envoy reads enums without case.
            Value::Text(name) => {
                descriptor.values().find(|value| value.name().eq_ignore_ascii_case(name)).map(|value| value.number())
            }
            Value::Int(number) => i32::try_from(*number).ok().filter(|n| descriptor.get_value(*n).is_some()),
            _ => None,
        };
        if found.is_none() {
            let hint = match &node.value {
                Value::Text(name) => nearest(name, names.iter().map(String::as_str)),
                _ => None,
            };
            let text = match hint {
                Some(name) => format!("is not a value of {}; did you mean {name}?", descriptor.name()),
                None => format!("is not a value of {}; it can be {}", descriptor.name(), names.join(", ")),
            };
            self.report(at, node.position, text);
        }
        found.map(Field::EnumNumber)
    }

    fn bytes(&mut self, text: &str, node: &Node, at: &At<'_>) -> Option<Field> {
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
        let decoded = [STANDARD, URL_SAFE, STANDARD_NO_PAD, URL_SAFE_NO_PAD].iter().find_map(|e| e.decode(text).ok());
        if decoded.is_none() {
            self.report(at, node.position, "is not base64");
        }
        decoded.map(|bytes| Field::Bytes(bytes.into()))
    }

    /// `{"@type": URL, fields...}`; well-known types stand under `value`.
    fn any(&mut self, message: &mut DynamicMessage, node: &Node, at: &At<'_>) {
        let Value::Object(entries) = &node.value else {
            return self.mismatch(at, node, "an object with \"@type\"");
        };
        let Some((_, kind)) = entries.iter().find(|(key, _)| key.text == "@type") else {
            return self.report(at, node.position, "\"@type\" is missing: it says which message this is");
        };
        let Value::Text(url) = &kind.value else {
            return self.mismatch(
                &at.field("@type"),
                kind,
                "a type URL such as type.googleapis.com/google.protobuf.Struct",
            );
        };
        let pool = message.descriptor().parent_pool().clone();
        let known = pool.get_message_by_name(type_name(url)).or_else(|| find(type_name(url)));
        let Some(descriptor) = known else {
            let text = format!("unknown type `{}`", type_name(url));
            return self.report(&at.field("@type"), kind.position, text);
        };
        let rest: Vec<(Key, Node)> = entries.iter().filter(|(key, _)| key.text != "@type").cloned().collect();
        let payload = if descriptor.full_name().starts_with("google.protobuf.") && descriptor.name() != "Empty" {
            match rest.iter().find(|(key, _)| key.text == "value") {
                Some((_, value)) => self.message(&descriptor, value, at),
                None => return self.report(at, node.position, "\"value\" is missing"),
            }
        } else {
            self.message(&descriptor, &Node { position: node.position, value: Value::Object(rest) }, at)
        };
        message.set_field_by_name("type_url", Field::String(format!("type.googleapis.com/{}", descriptor.full_name())));
        message.set_field_by_name("value", Field::Bytes(payload.encode_to_vec().into()));
    }

    fn duration(&mut self, message: &mut DynamicMessage, node: &Node, at: &At<'_>) {
        let parsed = match &node.value {
            Value::Text(text) => duration(text),
            _ => None,
        };
        let Some((seconds, nanos)) = parsed else {
            return self.mismatch(at, node, "a duration in seconds such as 0.25s");
        };
        message.set_field_by_name("seconds", Field::I64(seconds));
        message.set_field_by_name("nanos", Field::I32(nanos));
    }

    fn timestamp(&mut self, message: &mut DynamicMessage, node: &Node, at: &At<'_>) {
        let parsed = match &node.value {
            Value::Text(text) => text.parse::<prost_types::Timestamp>().ok(),
            _ => None,
        };
        match parsed {
            Some(time) => transcode(message, &time),
            None => self.mismatch(at, node, "a time such as 2026-01-31T12:00:00Z"),
        }
    }

    /// Paths in camel case, separated by commas.
    fn field_mask(&mut self, message: &mut DynamicMessage, node: &Node, at: &At<'_>) {
        let Value::Text(text) = &node.value else {
            return self.mismatch(at, node, "field names separated by commas");
        };
        let paths = text.split(',').filter(|path| !path.is_empty()).map(super::snake_case).collect();
        transcode(message, &prost_types::FieldMask { paths });
    }

    fn structure(&mut self, message: &mut DynamicMessage, node: &Node, at: &At<'_>) {
        match json_value(node).kind {
            Some(prost_types::value::Kind::StructValue(value)) => transcode(message, &value),
            _ => self.mismatch(at, node, "an object"),
        }
    }

    fn list_value(&mut self, message: &mut DynamicMessage, node: &Node, at: &At<'_>) {
        match json_value(node).kind {
            Some(prost_types::value::Kind::ListValue(value)) => transcode(message, &value),
            _ => self.mismatch(at, node, "a list"),
        }
    }
}

/// Elsewhere null is the same as leaving the field out.
fn takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(values) => values.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

fn transcode(message: &mut DynamicMessage, from: &impl Message) {
    message.merge(from.encode_to_vec().as_slice()).expect("the same message in two Rust types");
}

fn is_wrapper(name: &str) -> bool {
    name.strip_prefix("google.protobuf.").is_some_and(|short| short.ends_with("Value") && short != "EnumValue")
}

/// `-1.5s`: seconds with up to nine decimals.
fn duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds = whole.parse::<i64>().ok().filter(|seconds| *seconds <= 315_576_000_000)?;
    let nanos = format!("{fraction:0<9}").parse::<i32>().ok()?;
    Some(if negative { (-seconds, -nanos) } else { (seconds, nanos) })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e18 => Some(*number as i128),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn fit(kind: &Kind, number: i128) -> Option<Field> {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number.try_into().ok().map(Field::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number.try_into().ok().map(Field::I64),
        Kind::Uint32 | Kind::Fixed32 => number.try_into().ok().map(Field::U32),
        Kind::Uint64 | Kind::Fixed64 => number.try_into().ok().map(Field::U64),
        _ => None,
    }
}

fn range(kind: &Kind) -> &'static str {
    match kind {
        Kind::Uint32 | Kind::Fixed32 => "an integer from 0 to 4294967295",
        Kind::Uint64 | Kind::Fixed64 => "an integer from 0 to 18446744073709551615",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "an integer from -2147483648 to 2147483647",
        _ => "an integer of 64 bits",
    }
}

fn map_key(kind: &Kind, text: &str) -> Option<MapKey> {
    match kind {
        Kind::String => Some(MapKey::String(text.to_string())),
        Kind::Bool => text.parse().ok().map(MapKey::Bool),
        Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(MapKey::U32),
        Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(MapKey::U64),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(MapKey::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(MapKey::I64),
        _ => None,
    }
}

/// Free-form JSON as `google.protobuf.Value`.
fn json_value(node: &Node) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match &node.value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Int(value) => Kind::NumberValue(*value as f64),
        Value::Float(value) => Kind::NumberValue(*value),
        Value::Text(value) => Kind::StringValue(value.clone()),
        Value::List(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(json_value).collect() })
        }
        Value::Object(entries) => Kind::StructValue(prost_types::Struct {
            fields: entries.iter().map(|(key, node)| (key.text.clone(), json_value(node))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}
