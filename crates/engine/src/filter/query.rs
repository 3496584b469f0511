//! Changes of query parameters (`header_mutation`'s `query_parameter_mutations`).

use model::filter::QueryMutation;
use model::format::Format;
use model::header::AppendAction;
use std::collections::BTreeMap;

/// By decoded name, each as it is written.
type Parameters = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// The path with its query changed; parameters come out sorted by name, as Envoy's. `render` evaluates a format.
pub fn mutate(path: &[u8], mutations: &[QueryMutation], render: impl Fn(&Format) -> Vec<u8>) -> Vec<u8> {
    let (only, query) = match memchr::memchr(b'?', path) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &[][..]),
    };
    let mut parameters = parse(query);
    for mutation in mutations {
        match mutation {
            QueryMutation::Remove(name) => {
                parameters.remove(name.as_bytes());
            }
            QueryMutation::Set { name, value, action } => {
                let known = parameters.contains_key(name.as_bytes());
                let values = parameters.entry(name.as_bytes().to_vec()).or_default();
                match (action, known) {
                    (AppendAction::AddIfAbsent, true) => {}
                    (AppendAction::OverwriteIfExists, false) => {
                        parameters.remove(name.as_bytes());
                    }
                    (AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd, _) => {
                        *values = vec![pair(name, &render(value))];
                    }
                    _ => values.push(pair(name, &render(value))),
                }
            }
        }
    }
    let mut out = only.to_vec();
    for (index, pair) in parameters.values().flatten().enumerate() {
        out.push(if index == 0 { b'?' } else { b'&' });
        out.extend_from_slice(pair);
    }
    out
}

fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(name.as_bytes(), &mut out);
    out.push(b'=');
    encode(value, &mut out);
    out
}

fn parse(query: &[u8]) -> Parameters {
    let mut parameters = Parameters::new();
    for pair in query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, written) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], pair.to_vec()),
            None => (pair, [pair, b"="].concat()),
        };
        parameters.entry(decode(name)).or_default().push(written);
    }
    parameters
}

/// What is no valid escape stays as it is.
fn decode(text: &[u8]) -> Vec<u8> {
    let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let escape = match text[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

fn encode(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let set = |name: &str, value: &str, action| QueryMutation::Set {
            name: name.into(),
            value: Format::literal(value),
            action,
        };
        use AppendAction as A;
        for (path, mutation, wanted) in [
            ("/a?x=1", set("x", "2", A::AppendIfExistsOrAdd), "/a?x=1&x=2"),
            ("/a?x=1", set("x", "2", A::AddIfAbsent), "/a?x=1"),
            ("/a?x=1", set("x", "2", A::OverwriteIfExistsOrAdd), "/a?x=2"),
            ("/a", set("x", "2", A::OverwriteIfExists), "/a"),
            ("/a", set("x", "a b", A::AppendIfExistsOrAdd), "/a?x=a%20b"),
            ("/a?x=1&b=%41&x=2&c", QueryMutation::Remove("x".into()), "/a?b=%41&c="),
        ] {
            let found = mutate(path.as_bytes(), &[mutation], |format| format.as_literal().unwrap().into());
            assert_eq!(String::from_utf8(found).unwrap(), wanted, "{path}");
        }
    }
}
