//! A serde deserializer over [`Node`]: every error knows its path and place, unknown fields of a struct are all
//! collected and never ignored.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::node::{Key, Node, Value};
use crate::kinds::NOT_IMPLEMENTED;
use crate::problem::{Place, Problem, suggest};

/// Fills `T` from `node`, whose own path is `path`.
pub(crate) fn decode<T: DeserializeOwned>(node: &Node, path: &str) -> Result<T, Vec<Problem>> {
    let problems = RefCell::new(Vec::new());
    let result = T::deserialize(Decoder { node, path: path.to_owned(), problems: &problems });
    let mut problems = problems.into_inner();
    match result {
        Ok(value) if problems.is_empty() => Ok(value),
        Ok(_) => Err(problems),
        Err(error) => {
            problems.push(error.located(path, node.place));
            Err(problems)
        }
    }
}

/// An error on its way up, until somebody who knows the place has added it.
#[derive(Debug)]
struct Error {
    message: String,
    at: Option<(String, Place)>,
}

impl Error {
    fn at(mut self, path: &str, place: Place) -> Self {
        self.at.get_or_insert_with(|| (path.to_owned(), place));
        self
    }

    fn located(self, path: &str, place: Place) -> Problem {
        let (path, place) = self.at.unwrap_or_else(|| (path.to_owned(), place));
        Problem { place: Some(place), path, message: self.message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), at: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("the field `{field}` is required"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format_args!("`{variant}` is not possible here{}", suggest(variant, expected)))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("{unexpected} is not {expected}"))
    }
}

#[derive(Clone)]
struct Decoder<'a> {
    node: &'a Node,
    path: String,
    problems: &'a RefCell<Vec<Problem>>,
}

impl<'a> Decoder<'a> {
    fn child(&self, node: &'a Node, path: String) -> Self {
        Self { node, path, problems: self.problems }
    }

    fn wrong<V>(&self, expected: impl fmt::Display) -> Result<V, Error> {
        Err(de::Error::custom(format_args!("expected {expected}, found {}", self.node.value.describe())))
    }

    /// Fields that the struct does not have: collected, then left out.
    fn known_fields(&self, name: &str, fields: &[&str], entries: &'a [(Key, Node)]) -> Vec<&'a (Key, Node)> {
        let refused = NOT_IMPLEMENTED.iter().find(|(owner, _)| *owner == name).map_or(&[][..], |(_, list)| list);
        let mut known = Vec::new();
        for entry in entries {
            let field = entry.0.text.as_str();
            if fields.contains(&field) {
                known.push(entry);
                continue;
            }
            let message = if refused.contains(&field) {
                "is not implemented; remove it".to_owned()
            } else {
                format!("unknown field{}", suggest(field, fields))
            };
            let path = join(&self.path, field);
            self.problems.borrow_mut().push(Problem { place: Some(entry.0.place), path, message });
        }
        known
    }
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => match i64::try_from(*value) {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => self.wrong("a smaller number"),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => self.wrong("a string (put it in quotes)"),
            _ => self.wrong("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => self.wrong("true or false"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items { owner: self.clone(), items: items.iter(), index: 0 }),
            _ => self.wrong("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Object(entries) => visitor.visit_map(Entries::new(&self, entries.iter().collect())),
            _ => self.wrong("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Object(entries) => {
                let known = self.known_fields(name, fields, entries);
                visitor.visit_map(Entries::new(&self, known))
            }
            _ => self.wrong(format_args!("an object with {}", fields.join(", "))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Text(text) => {
                let variant: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
                visitor.visit_enum(variant)
            }
            _ => self.wrong(format_args!("one of {}", variants.join(", "))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

struct Items<'a> {
    owner: Decoder<'a>,
    items: std::slice::Iter<'a, Node>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(node) = self.items.next() else { return Ok(None) };
        let path = format!("{}[{}]", self.owner.path, self.index);
        self.index += 1;
        let value = seed.deserialize(self.owner.child(node, path.clone()));
        value.map(Some).map_err(|e| e.at(&path, node.place))
    }
}

struct Entries<'a> {
    owner: Decoder<'a>,
    entries: std::vec::IntoIter<&'a (Key, Node)>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'a> Entries<'a> {
    fn new(owner: &Decoder<'a>, entries: Vec<&'a (Key, Node)>) -> Self {
        Self { owner: owner.clone(), entries: entries.into_iter(), value: None }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some((&key.text, node));
        let name: StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|e| e.at(&join(&self.owner.path, &key.text), key.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, node) = self.value.take().ok_or_else(|| de::Error::custom("a value without its key"))?;
        let path = join(&self.owner.path, name);
        seed.deserialize(self.owner.child(node, path.clone())).map_err(|e| e.at(&path, node.place))
    }
}
