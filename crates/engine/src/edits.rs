//! Applies configured header edits to a head (`headers_to_add`, `headers_to_remove`).

use crate::head::Head;
use model::format::Format;
use model::header::{AddHeader, AppendAction, Edits, Mutation};

/// Removes, then adds. `render` evaluates a format against the head as it stands after the removals.
pub fn apply(edits: &Edits, head: &mut Head, render: impl Fn(&Head, &Format, &mut Vec<u8>), scratch: &mut Vec<u8>) {
    for name in &edits.remove {
        head.remove(name.as_bytes());
    }
    match edits.add.as_slice() {
        [] => {}
        [one] => evaluate(one, head, &render, scratch),
        all => together(all, head, &render, scratch),
    }
}

/// Adds without removing.
pub fn add_all(list: &[AddHeader], head: &mut Head, render: impl Fn(&Head, &Format, &mut Vec<u8>)) {
    together(list, head, &render, &mut Vec::new());
}

/// As in Envoy, no addition of a list sees another: all are evaluated and judged first, then those that overwrite are
/// made, then the others.
fn together(
    list: &[AddHeader],
    head: &mut Head,
    render: &impl Fn(&Head, &Format, &mut Vec<u8>),
    scratch: &mut Vec<u8>,
) {
    scratch.clear();
    let mut due: Vec<(&AddHeader, std::ops::Range<usize>)> = Vec::with_capacity(list.len());
    for add in list {
        let start = scratch.len();
        match add.value.as_literal() {
            Some(text) => scratch.extend_from_slice(text.as_bytes()),
            None => render(head, &add.value, scratch),
        }
        let exists = head.get(add.name.as_bytes()).is_some();
        let wanted = match add.action {
            AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
            AppendAction::AddIfAbsent => !exists,
            AppendAction::OverwriteIfExists => exists,
        };
        if wanted && (add.keep_empty || scratch.len() > start) {
            due.push((add, start..scratch.len()));
        }
    }
    let overwrites =
        |add: &AddHeader| matches!(add.action, AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd);
    for (add, value) in due.iter().filter(|(add, _)| overwrites(add)) {
        head.set(add.name.as_bytes(), &scratch[value.clone()]);
    }
    for (add, value) in due.iter().filter(|(add, _)| !overwrites(add)) {
        head.push(add.name.as_bytes(), &scratch[value.clone()]);
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

fn evaluate(add: &AddHeader, head: &mut Head, render: &impl Fn(&Head, &Format, &mut Vec<u8>), scratch: &mut Vec<u8>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use AppendAction as A;

    fn add(name: &str, value: &str, action: A) -> AddHeader {
        AddHeader { name: name.into(), value: Format::literal(value), action, keep_empty: false }
    }

    #[test]
    fn no_addition_sees_another() {
        let edit = |list: Vec<AddHeader>, before: &[&str]| {
            let mut head = Head::default();
            before.iter().for_each(|value| head.push(b"x", value.as_bytes()));
            let edits = Edits { remove: vec![], add: list };
            apply(&edits, &mut head, |_, _, _| {}, &mut Vec::new());
            head.all(b"x").map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>().join(" ")
        };
        let append = || add("x", "a", A::AppendIfExistsOrAdd);
        for (second, before, wanted) in [
            (add("x", "b", A::AddIfAbsent), &[][..], "a b"),
            (add("x", "b", A::AddIfAbsent), &["0"], "0 a"),
            (add("x", "b", A::OverwriteIfExistsOrAdd), &["0"], "b a"),
            (add("x", "b", A::OverwriteIfExists), &[], "a"),
            (add("x", "", A::AppendIfExistsOrAdd), &[], "a"),
        ] {
            assert_eq!(edit(vec![append(), second.clone()], before), wanted, "{second:?}");
        }
    }
}
