//! Every message of Envoy's API, with every field set, goes to JSON and comes back the same.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};
use std::collections::HashMap;
use wire::json::{Document, view};
use wire::schema::{Schema, whole};

/// How far messages inside messages are filled.
const DEPTH: usize = 3;

/// Sets `wanted` in its oneof, and every field outside of oneofs.
fn sample(descriptor: &MessageDescriptor, wanted: Option<&FieldDescriptor>, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let chosen = match field.containing_oneof() {
            Some(oneof) => match wanted.filter(|wanted| wanted.containing_oneof() == Some(oneof.clone())) {
                Some(wanted) => wanted.number() == field.number(),
                None => oneof.fields().next().is_some_and(|first| first.number() == field.number()),
            },
            None => true,
        };
        if let Some(value) = chosen.then(|| field_value(&field, depth)).flatten() {
            message.set_field(&field, value);
        }
    }
    message
}

fn field_value(field: &FieldDescriptor, depth: usize) -> Option<Value> {
    let kind = field.kind();
    if field.is_map() {
        let entry = kind.as_message()?;
        let key = match entry.map_entry_key_field().kind() {
            Kind::String => MapKey::String("a \"key\"".into()),
            Kind::Uint32 => MapKey::U32(7),
            Kind::Uint64 => MapKey::U64(7),
            Kind::Int32 => MapKey::I32(-7),
            Kind::Int64 => MapKey::I64(-7),
            Kind::Bool => MapKey::Bool(true),
            other => panic!("no sample for a key of kind {other:?}"),
        };
        return Some(Value::Map(HashMap::from([(key, value(&entry.map_entry_value_field().kind(), depth)?)])));
    }
    let one = value(&kind, depth)?;
    Some(if field.is_list() { Value::List(vec![one.clone(), one]) } else { one })
}

fn value(kind: &Kind, depth: usize) -> Option<Value> {
    Some(match kind {
        Kind::Double => Value::F64(0.25),
        Kind::Float => Value::F32(1.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-3),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::MIN),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::MAX),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::MAX),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String("é: \"x\"\n- y".into()),
        Kind::Bytes => Value::Bytes(vec![0, 0xff, 7].into()),
        Kind::Enum(descriptor) => Value::EnumNumber(descriptor.values().last()?.number()),
        Kind::Message(descriptor) => Value::Message(message(descriptor, depth)?),
    })
}

fn message(descriptor: &MessageDescriptor, depth: usize) -> Option<DynamicMessage> {
    let mut out = DynamicMessage::new(descriptor.clone());
    match descriptor.full_name() {
        "google.protobuf.Any" => {
            let inner = prost_types::Duration { seconds: 1, nanos: 0 };
            out.set_field_by_name("type_url", Value::String("type.googleapis.com/google.protobuf.Duration".into()));
            out.set_field_by_name("value", Value::Bytes(inner.encode_to_vec().into()));
        }
        "google.protobuf.Duration" => {
            out.set_field_by_name("seconds", Value::I64(-3));
            out.set_field_by_name("nanos", Value::I32(-250_000_000));
        }
        "google.protobuf.Timestamp" => out.set_field_by_name("seconds", Value::I64(1_700_000_000)),
        "google.protobuf.FieldMask" => {
            out.set_field_by_name("paths", Value::List(vec![Value::String("a_b.c".into()), Value::String("d".into())]));
        }
        "google.protobuf.Value" => out.set_field_by_name("string_value", Value::String("v".into())),
        "google.protobuf.Struct" | "google.protobuf.ListValue" => {}
        _ if depth == 0 => return None,
        _ => out = sample(descriptor, None, depth - 1),
    }
    Some(out)
}

fn check(schema: &Schema, message: &DynamicMessage) {
    let name = message.descriptor().full_name().to_string();
    let json = view(schema, &name, &message.encode_to_vec()).to_string();
    let document = Document::parse("f", &json).unwrap_or_else(|error| panic!("{name}: {error}\n{json}"));
    let again = document.read_dynamic(&message.descriptor()).unwrap_or_else(|error| panic!("{name}: {error}\n{json}"));
    let second = view(schema, &name, &again.encode_to_vec()).to_string();
    assert!(again.encode_to_vec() == message.encode_to_vec(), "{name}:\n{json}\n{second}");
}

#[test]
fn every_field_of_the_api_survives() {
    let schema = whole();
    let mut checked = 0;
    for descriptor in schema.pool().all_messages() {
        let envoy = ["envoy.", "xds.", "udpa."].iter().any(|start| descriptor.full_name().starts_with(start));
        if !envoy || descriptor.is_map_entry() {
            continue;
        }
        check(&schema, &sample(&descriptor, None, DEPTH));
        // Each alternative of a oneof has its turn.
        for field in descriptor.oneofs().flat_map(|oneof| oneof.fields().skip(1).collect::<Vec<_>>()) {
            check(&schema, &sample(&descriptor, Some(&field), 1));
        }
        checked += 1;
    }
    assert!(checked > 1300, "{checked} messages");
}
