//! YAML (and so JSON) as a tree that remembers where everything stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::problem::{Place, Problem};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Value {
    /// For messages: what was found instead of what was wanted.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Int(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(value) => format!("the string {value:?}"),
            Self::List(_) => "a list".into(),
            Self::Object(_) => "an object".into(),
        }
    }
}

impl Node {
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Object(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where `spec.ports[1].port` stands, or the nearest ancestor that is there.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        for step in path.split(['.', '[']) {
            let next = match step.strip_suffix(']').map(str::parse::<usize>) {
                Some(Ok(index)) => match &node.value {
                    Value::List(items) => items.get(index),
                    _ => None,
                },
                _ => node.get(step),
            };
            match next {
                Some(child) => node = child,
                None => break,
            }
        }
        node.place
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

/// All documents of a text; empty ones are skipped.
pub(crate) fn parse_documents(text: &str) -> Result<Vec<Node>, Problem> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true, budget: budget(text) };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let at = error.location();
        let message = without_location(&error.to_string(), at);
        Problem { place: at.and_then(place), path: String::new(), message }
    })
}

/// The parser repeats the place in its message, where it would stand twice.
fn without_location(message: &str, at: Option<Location>) -> String {
    let mut message = message.lines().next().unwrap_or_default().to_owned();
    if let Some(at) = at {
        let (line, column) = (at.line(), at.column());
        for text in [
            format!(" at line {line}, column {column}"),
            format!(" at line {line} column {column}"),
            format!("error: line {line} column {column}: "),
            format!("line {line} column {column}: "),
        ] {
            message = message.replace(&text, "");
        }
    }
    message
}

fn place(at: Location) -> Option<Place> {
    let line = u32::try_from(at.line()).ok().filter(|line| *line > 0)?;
    Some(Place { line, column: u32::try_from(at.column()).unwrap_or(1) })
}

const START: Place = Place { line: 1, column: 1 };

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { place: place(spanned.referenced).unwrap_or(START), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { place: place(spanned.referenced).unwrap_or(START), text: spanned.value })
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
        Ok(Value::Text(value.to_owned()))
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
