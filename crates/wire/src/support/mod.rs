//! Nothing is silently ignored: finds every field of a message that is set and not implemented.
//!
//! `table` declares what is supported. The declarations are resolved to field numbers once, with the schema; after
//! that messages are checked as they come from the wire, without it.

mod balancing;
mod filters;
mod network;
mod on_demand;
mod table;
mod upstream;

use crate::problem::{At, Problem};
use crate::schema::{schema, type_name};
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;
use std::sync::LazyLock;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub refused: Vec<Problem>,
    /// Set, accepted, and without effect; the message is the reason.
    pub without_effect: Vec<Problem>,
}

/// Checks an encoded message called `name`.
pub fn check(name: &str, bytes: &[u8]) -> Report {
    let mut report = Report::default();
    match REGISTRY.by_name.get(name) {
        Some(message) => walk(*message, bytes, &At::ROOT, &mut report),
        None => report.refused.push(At::ROOT.problem(format!("`{name}` is not implemented"))),
    }
    report
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::build);

struct Registry {
    by_name: HashMap<&'static str, usize>,
    /// Fields sorted by number.
    messages: Vec<Vec<FieldRule>>,
}

struct FieldRule {
    number: u32,
    name: Box<str>,
    repeated: bool,
    rule: Rule,
}

enum Rule {
    Refused,
    WithoutEffect(&'static str),
    /// Scalars, and messages that are data: wrappers, durations, free-form JSON.
    Leaf,
    Message(usize),
    Any,
    /// A choice by the reader: what it does not know, it skips.
    FirstKnown(usize),
    /// A map with text keys; the value's rule.
    Map(Box<Rule>),
}

impl Registry {
    fn build() -> Self {
        let schema = schema();
        let declared: Vec<&table::Declared> = table::TABLE.iter().flat_map(|part| part.iter()).collect();
        let by_name: HashMap<_, _> = declared.iter().enumerate().map(|(index, one)| (one.message, index)).collect();
        let messages = declared.iter().map(|one| {
            let descriptor = schema.message(one.message).unwrap_or_else(|| panic!("no message {}", one.message));
            fields(&descriptor, one, &by_name)
        });
        Registry { messages: messages.collect(), by_name }
    }

    fn field(&self, message: usize, number: u32) -> Option<&FieldRule> {
        let fields = &self.messages[message];
        fields.binary_search_by_key(&number, |field| field.number).ok().map(|index| &fields[index])
    }
}

fn fields(
    descriptor: &MessageDescriptor,
    declared: &table::Declared,
    by_name: &HashMap<&'static str, usize>,
) -> Vec<FieldRule> {
    let names = || declared.supported.split_whitespace().chain(declared.without_effect.iter().map(|(name, _)| *name));
    for name in names().filter(|name| *name != "*") {
        assert!(descriptor.get_field_by_name(name).is_some(), "{} has no field {name}", declared.message);
    }
    let mut fields: Vec<FieldRule> = descriptor
        .fields()
        .map(|field| FieldRule {
            number: field.number(),
            name: field.name().into(),
            repeated: field.is_list(),
            rule: rule(&field, declared, by_name),
        })
        .collect();
    fields.sort_by_key(|field| field.number);
    fields
}

fn rule(field: &FieldDescriptor, declared: &table::Declared, by_name: &HashMap<&'static str, usize>) -> Rule {
    if let Some((_, reason)) = declared.without_effect.iter().find(|(name, _)| *name == field.name()) {
        return Rule::WithoutEffect(reason);
    }
    let supported = declared.supported == "*" || declared.supported.split_whitespace().any(|n| n == field.name());
    match field.kind() {
        _ if !supported => Rule::Refused,
        Kind::Message(entry) if field.is_map() => {
            Rule::Map(Box::new(rule_of_kind(&entry.map_entry_value_field().kind(), by_name)))
        }
        kind => rule_of_kind(&kind, by_name),
    }
}

fn rule_of_kind(kind: &Kind, by_name: &HashMap<&'static str, usize>) -> Rule {
    let Kind::Message(message) = kind else { return Rule::Leaf };
    match message.full_name() {
        "google.protobuf.Any" => Rule::Any,
        name if name.starts_with("google.protobuf.") => Rule::Leaf,
        // Envoy takes the first policy of the list that it knows.
        "envoy.config.cluster.v3.LoadBalancingPolicy.Policy" => Rule::FirstKnown(by_name[message.full_name()]),
        name => by_name.get(name).map_or(Rule::Refused, |index| Rule::Message(*index)),
    }
}

fn walk(message: usize, mut bytes: &[u8], at: &At<'_>, report: &mut Report) {
    let mut counts: Vec<(u32, usize)> = Vec::new();
    while !bytes.is_empty() {
        let Some((number, value)) = take_field(&mut bytes) else {
            report.refused.push(at.problem("is not a well-formed protobuf message"));
            return;
        };
        let Some(field) = REGISTRY.field(message, number) else {
            report.refused.push(at.problem(format!("field number {number} is not known to this version")));
            continue;
        };
        let place = match field.repeated {
            false => at.field(&field.name),
            true => at.item(&field.name, next_index(&mut counts, number)),
        };
        match &field.rule {
            // A map's path names its key, so it starts from the message.
            Rule::Map(inner) => entry(inner, value, at, &field.name, report),
            rule => apply(rule, value, &place, report),
        }
    }
}

fn next_index(counts: &mut Vec<(u32, usize)>, number: u32) -> usize {
    match counts.iter_mut().find(|(seen, _)| *seen == number) {
        Some((_, count)) => {
            *count += 1;
            *count
        }
        None => {
            counts.push((number, 0));
            0
        }
    }
}

fn apply(rule: &Rule, value: &[u8], at: &At<'_>, report: &mut Report) {
    match rule {
        Rule::Leaf | Rule::Map(_) => {}
        Rule::Refused => report.refused.push(at.problem("is not implemented")),
        Rule::WithoutEffect(reason) => report.without_effect.push(at.problem(*reason)),
        Rule::Message(inner) => walk(*inner, value, at, report),
        Rule::Any => any(value, at, report),
        Rule::FirstKnown(inner) => first_known(*inner, value, at, report),
    }
}

/// An extension that is not implemented is passed over; if none is left, compiling says so.
fn first_known(message: usize, value: &[u8], at: &At<'_>, report: &mut Report) {
    let mut own = Report::default();
    walk(message, value, at, &mut own);
    let unknown = |problem: &Problem| problem.message.starts_with(EXTENSION);
    match own.refused.iter().all(unknown) {
        true => report.without_effect.extend(own.refused),
        false => report.refused.extend(own.refused),
    }
    report.without_effect.extend(own.without_effect);
}

/// How problems with unknown extensions begin.
const EXTENSION: &str = "extension `";

fn entry(rule: &Rule, mut bytes: &[u8], at: &At<'_>, name: &str, report: &mut Report) {
    let (mut key, mut value) = (&[][..], &[][..]);
    while !bytes.is_empty() {
        match take_field(&mut bytes) {
            Some((1, found)) => key = found,
            Some((2, found)) => value = found,
            _ => return report.refused.push(at.field(name).problem("is not a well-formed map")),
        }
    }
    apply(rule, value, &at.key(name, &String::from_utf8_lossy(key)), report);
}

fn any(mut bytes: &[u8], at: &At<'_>, report: &mut Report) {
    let (mut url, mut value) = (String::new(), &[][..]);
    while !bytes.is_empty() {
        match take_field(&mut bytes) {
            Some((1, found)) => url = String::from_utf8_lossy(found).into_owned(),
            Some((2, found)) => value = found,
            _ => return report.refused.push(at.problem("is not a well-formed Any")),
        }
    }
    match REGISTRY.by_name.get(type_name(&url)) {
        Some(message) => walk(*message, value, at, report),
        // Free-form: the name beside it tells what it is.
        None if type_name(&url) == "google.protobuf.Struct" => {}
        None => report.refused.push(at.problem(format!("{EXTENSION}{}` is not implemented", type_name(&url)))),
    }
}

/// The next field's number, and its content if it is length-delimited.
fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let (number, wire) = decode_key(bytes).ok()?;
    let length = match wire {
        WireType::Varint => {
            decode_varint(bytes).ok()?;
            0
        }
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::LengthDelimited => usize::try_from(decode_varint(bytes).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((number, content))
}

/// The table as a page of documentation.
pub fn markdown() -> String {
    let schema = schema();
    let mut out = String::from(
        "# Envoy compatibility\n\nFields of Envoy's v3 API that Ripstop carries out. Every field that is not listed \
         is refused, with its path.\n",
    );
    for declared in table::TABLE.iter().flat_map(|part| part.iter()) {
        out.push_str(&format!("\n## `{}`\n\n", declared.message));
        let fields = schema.message(declared.message).map(|message| message.fields().count()).unwrap_or_default();
        match declared.supported {
            "*" if fields == 0 => out.push_str("Supported; it has no fields.\n"),
            "*" => out.push_str("All fields.\n"),
            "" if declared.without_effect.is_empty() => out.push_str("No field can be set.\n"),
            "" => {}
            names => {
                let names: Vec<String> = names.split_whitespace().map(|name| format!("`{name}`")).collect();
                out.push_str(&format!("Supported: {}.\n", names.join(", ")));
            }
        }
        if !declared.without_effect.is_empty() {
            out.push_str("\nAccepted without effect:\n\n");
        }
        for (name, reason) in declared.without_effect {
            out.push_str(&format!("- `{name}`: {reason}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
