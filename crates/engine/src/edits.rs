//! Applies configured header edits to a head (`headers_to_add`, `headers_to_remove`).

use crate::head::Head;
use model::format::Format;
use model::header::{AddHeader, AppendAction, Edits, Mutation};

/// Removes, then adds. `render` evaluates a format against the head as it stands at that moment.
pub fn apply(edits: &Edits, head: &mut Head, render: impl Fn(&Head, &Format, &mut Vec<u8>), scratch: &mut Vec<u8>) {
    for name in &edits.remove {
        head.remove(name.as_bytes());
    }
    for add in &edits.add {
        evaluate(add, head, &render, scratch);
    }
}

/// Adds without removing.
pub fn add_all(list: &[AddHeader], head: &mut Head, render: impl Fn(&Head, &Format, &mut Vec<u8>)) {
    let mut scratch = Vec::new();
    for add in list {
        evaluate(add, head, &render, &mut scratch);
    }
}

/// Applies `mutations` one after the other.
pub fn mutate(mutations: &[Mutation], head: &mut Head, render: impl Fn(&Head, &Format, &mut Vec<u8>)) {
    let mut scratch = Vec::new();
    for mutation in mutations {
        match mutation {
            Mutation::Remove(name) => {
                head.remove(name.as_bytes());
            }
            Mutation::RemoveMatching(names) => {
                head.remove_if(|name, _| names.matches(&name.to_ascii_lowercase()));
            }
            Mutation::Add(add) => evaluate(add, head, &render, &mut scratch),
        }
    }
}

fn evaluate(add: &AddHeader, head: &mut Head, render: impl Fn(&Head, &Format, &mut Vec<u8>), scratch: &mut Vec<u8>) {
    scratch.clear();
    match add.value.as_literal() {
        Some(text) => scratch.extend_from_slice(text.as_bytes()),
        None => render(head, &add.value, scratch),
    }
    add_one(add, head, scratch);
}

/// Adds with a value that is known.
pub fn add_value(add: &AddHeader, head: &mut Head, value: &[u8]) {
    add_one(add, head, value);
}

fn add_one(add: &AddHeader, head: &mut Head, value: &[u8]) {
    if value.is_empty() && !add.keep_empty {
        return;
    }
    let name = add.name.as_bytes();
    let exists = head.get(name).is_some();
    match add.action {
        AppendAction::AppendIfExistsOrAdd => head.push(name, value),
        AppendAction::AddIfAbsent if exists => {}
        AppendAction::AddIfAbsent => head.push(name, value),
        AppendAction::OverwriteIfExistsOrAdd => head.set(name, value),
        AppendAction::OverwriteIfExists if exists => head.set(name, value),
        AppendAction::OverwriteIfExists => {}
    }
}
