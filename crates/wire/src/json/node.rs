//! YAML (and so JSON) text as a tree that remembers where everything stands.

use crate::problem::{FileError, Position, Problem};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) position: Position,
    pub(super) text: String,
}

impl Value {
    /// For messages: what was found instead of what was wanted.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }
}

/// A text may have as many nodes as it has room for; the limit is there for aliases that multiply.
fn budget(text: &str) -> Option<serde_saphyr::Budget> {
    let room = text.len().max(250_000);
    serde_saphyr::budget! {
        max_events: room.saturating_mul(4),
        max_nodes: room,
        max_documents: room,
        max_total_scalar_bytes: room.saturating_mul(4),
    }
}

/// Parses a document; `file` is named in errors.
pub(super) fn parse(file: &str, text: &str) -> Result<Node, FileError> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true, budget: budget(text) };
    // An empty document is an empty message.
    let node: Option<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let position = error.location().and_then(position);
        let message = match error.location() {
            Some(at) => without_location(&error.to_string(), &at),
            None => error.to_string(),
        };
        FileError { file: file.into(), problems: vec![Problem { path: String::new(), message, position }] }
    })?;
    Ok(node.unwrap_or(Node { position: Position { line: 1, column: 1 }, value: Value::Object(Vec::new()) }))
}

/// The parser repeats the position in its message, which would then stand twice.
fn without_location(message: &str, at: &Location) -> String {
    let (line, column) = (at.line(), at.column());
    let mut message = message.to_string();
    for text in [
        format!(" at line {line}, column {column}"),
        format!(" at line {line} column {column}"),
        format!("error: line {line} column {column}: "),
        format!("line {line} column {column}: "),
    ] {
        message = message.replace(&text, "");
    }
    let first = message.lines().next().unwrap_or_default();
    // What the parser's own options could change is nothing the file's author can.
    first.split(", set ").next().unwrap_or_default().to_string()
}

fn position(at: Location) -> Option<Position> {
    let line = u32::try_from(at.line()).ok().filter(|line| *line > 0)?;
    Some(Position { line, column: u32::try_from(at.column()).unwrap_or(1) })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node {
            position: position(spanned.referenced).unwrap_or(Position { line: 1, column: 1 }),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Key {
            position: position(spanned.referenced).unwrap_or(Position { line: 1, column: 1 }),
            text: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32) -> Position {
        Position { line, column }
    }

    #[test]
    fn remembers_positions() {
        let root = parse("f", "a: 1\nb:\n  - x\n  - {c: 0.25, d: null, e: \"7\"}\n").unwrap();
        let Value::Object(entries) = &root.value else { panic!("{root:?}") };
        assert_eq!(entries[1].0, Key { position: at(2, 1), text: "b".into() });
        let Value::List(items) = &entries[1].1.value else { panic!("{entries:?}") };
        assert_eq!(items[0], Node { position: at(3, 5), value: Value::Text("x".into()) });
        let Value::Object(inner) = &items[1].value else { panic!("{items:?}") };
        let values: Vec<_> = inner.iter().map(|(_, node)| node.value.clone()).collect();
        assert_eq!(values, [Value::Float(0.25), Value::Null, Value::Text("7".into())]);
        assert_eq!(inner[1].1.position, at(4, 18));
    }

    #[test]
    fn json_anchors_and_empty_documents() {
        assert!(parse("f", "{\"a\": [1, true, null, \"\\u00e9\"],\n\t\"b\": {}}").is_ok());
        assert!(parse("f", "x: &x {a: 1}\ny: *x\n").is_ok());
        assert_eq!(parse("f", "").unwrap().value, Value::Object(Vec::new()));
    }

    #[test]
    fn syntax_errors_say_where() {
        let error = parse("mesh.yaml", "a: 1\nb: [1, 2\nc: 3\n").unwrap_err().to_string();
        assert!(error.starts_with("mesh.yaml:"), "{error}");
        let twice = parse("mesh.yaml", "a: 1\na: 2\n").unwrap_err().to_string();
        assert!(twice.starts_with("mesh.yaml:2:1: "), "{twice}");
    }
}
