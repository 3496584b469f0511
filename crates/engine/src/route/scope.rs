//! The scope of a request: a key made of parts of its headers (`ScopedRoutes.ScopeKeyBuilder`).

use super::matching::text_of;
use crate::head::Head;
use memchr::memmem;
use model::scope::{Fragment, Part};

/// Writes the key of a request into `out`; false when a fragment is missing: the request is in no scope.
pub fn key(fragments: &[Fragment], head: &Head, out: &mut Vec<u8>) -> bool {
    out.clear();
    fragments.iter().all(|fragment| {
        let found = text_of(head, &fragment.header).and_then(|value| part(fragment, value));
        found.is_some_and(|text| {
            push(text, out);
            true
        })
    })
}

/// The same for the key that a scope has.
pub fn key_of_scope(fragments: &[Box<str>]) -> Vec<u8> {
    let mut out = Vec::new();
    fragments.iter().for_each(|fragment| push(fragment.as_bytes(), &mut out));
    out
}

/// With its length, so that fragments cannot run into each other.
fn push(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
}

fn part<'v>(fragment: &Fragment, value: &'v [u8]) -> Option<&'v [u8]> {
    let mut elements = split(value, fragment.separator.as_bytes());
    match &fragment.part {
        Part::Index(index) => elements.nth(*index),
        Part::Value { separator, key } => {
            let pairs = elements.map(|element| {
                let at = memmem::find(element, separator.as_bytes());
                at.map_or((element, &[][..]), |at| (&element[..at], &element[at + separator.len()..]))
            });
            let mut wanted = pairs.filter(|(name, _)| *name == key.as_bytes());
            wanted.next().map(|(_, text)| text)
        }
    }
}

/// The parts between separators; without one, the whole.
fn split<'v, 's>(value: &'v [u8], separator: &'s [u8]) -> impl Iterator<Item = &'v [u8]> + use<'v, 's> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let now = rest?;
        let at = (!separator.is_empty()).then(|| memmem::find(now, separator)).flatten();
        rest = at.map(|at| &now[at + separator.len()..]);
        Some(at.map_or(now, |at| &now[..at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(header: &str, separator: &str, part: Part) -> Fragment {
        Fragment { header: header.into(), separator: separator.into(), part }
    }

    fn value(separator: &str, key: &str) -> Part {
        Part::Value { separator: separator.into(), key: key.into() }
    }

    fn head() -> Head {
        let mut head = Head::default();
        head.set_authority(b"shop.example");
        for (name, value) in [("X-One", "a=b;c=d;;c=e"), ("X-One", "z=z"), ("x-empty", ""), ("x-two", "p::q=r::=s=t")] {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn fragments() {
        let table = [
            (fragment("x-one", ";", Part::Index(0)), Some("a=b")),
            (fragment("x-one", ";", Part::Index(2)), Some("")),
            (fragment("x-one", ";", Part::Index(3)), Some("c=e")),
            (fragment("x-one", ";", Part::Index(4)), None),
            (fragment("x-one", "", Part::Index(0)), Some("a=b;c=d;;c=e")),
            (fragment("x-one", ";", value("=", "c")), Some("d")),
            (fragment("x-one", ";", value("=", "z")), None),
            (fragment("x-one", "", value("=", "a")), Some("b;c=d;;c=e")),
            (fragment("x-one", ";", value("-", "a=b")), Some("")),
            (fragment("x-two", "::", value("=", "q")), Some("r")),
            (fragment("x-two", "::", value("=", "")), Some("s=t")),
            (fragment("x-empty", ";", Part::Index(0)), Some("")),
            (fragment("x-empty", ";", value("=", "a")), None),
            (fragment("x-none", "", Part::Index(0)), None),
            (fragment(":authority", ".", Part::Index(1)), Some("example")),
        ];
        let head = head();
        for (fragment, wanted) in table {
            let mut out = Vec::new();
            let found = key(std::slice::from_ref(&fragment), &head, &mut out).then_some(out);
            assert_eq!(found, wanted.map(|text| key_of_scope(&[text.into()])), "{fragment:?}");
        }
    }

    #[test]
    fn all_fragments_count() {
        let both = [fragment("x-one", ";", Part::Index(0)), fragment("x-empty", "", Part::Index(0))];
        let mut out = Vec::new();
        assert!(key(&both, &head(), &mut out));
        assert_eq!(out, key_of_scope(&["a=b".into(), "".into()]));
        assert_ne!(out, key_of_scope(&["a=".into(), "b".into()]));
        let lacking = [both[0].clone(), fragment("x-none", "", Part::Index(0))];
        assert!(!key(&lacking, &head(), &mut out));
    }
}
