//! One file's text to objects, or to everything that is wrong with it.

use serde::de::DeserializeOwned;

use crate::kinds::Checker;
use crate::object::{Kind, Meta, Object, Spec};
use crate::problem::{FileError, Problem, suggest};
use crate::text::{Node, Value, decode, parse_documents};

/// Parses YAML (several documents, if need be) or JSON. `file` is the name to use in errors.
pub fn parse_file(file: &str, text: &str) -> Result<Vec<Object>, FileError> {
    let error = |problems| FileError { file: file.to_owned(), problems };
    let documents = parse_documents(text).map_err(|problem| error(vec![problem]))?;
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    for document in &documents {
        parse_document(document, &mut objects, &mut problems);
    }
    if problems.is_empty() { Ok(objects) } else { Err(error(problems)) }
}

/// One object, or the items of a `List`.
fn parse_document(node: &Node, objects: &mut Vec<Object>, problems: &mut Vec<Problem>) {
    if node.get("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List")) {
        match node.get("items").map(|items| &items.value) {
            Some(Value::List(items)) => items.iter().for_each(|item| parse_document(item, objects, problems)),
            _ => problems.push(problem(node, "items", "a List needs a list of items")),
        }
        return;
    }
    match parse_object(node) {
        Ok(object) => objects.push(object),
        Err(more) => problems.extend(more),
    }
}

fn parse_object(node: &Node) -> Result<Object, Vec<Problem>> {
    let kind = kind_of(node).map_err(|problem| vec![problem])?;
    let mut problems = unknown_fields(node, kind);
    let meta = section::<Meta>(node, "metadata", &mut problems);
    let spec = parse_spec(node, kind, &mut problems);
    let (Some(meta), Some(spec)) = (meta, spec) else { return Err(problems) };
    let object = Object { meta, spec, place: node.place };
    let mut check = Checker::default();
    check_meta(&object.meta, &mut check);
    check_spec(&object, &mut check);
    problems.extend(check.problems.into_iter().map(|(path, message)| problem(node, &path, &message)));
    if problems.is_empty() { Ok(object) } else { Err(problems) }
}

fn kind_of(node: &Node) -> Result<Kind, Problem> {
    if !matches!(node.value, Value::Object(_)) {
        let found = node.value.describe();
        return Err(problem(node, "", &format!("expected an object with apiVersion and kind, found {found}")));
    }
    let names = Kind::ALL.map(Kind::name);
    let Some(name) = node.get("kind").and_then(Node::text) else {
        return Err(problem(node, "kind", "is required and says what this object is, for instance Service"));
    };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) else {
        return Err(problem(
            node,
            "kind",
            &format!("{name:?} is not a kind that is read here{}", suggest(name, &names)),
        ));
    };
    let versions = kind.api_versions();
    match node.get("apiVersion").and_then(Node::text) {
        Some(version) if versions.contains(&version) => Ok(kind),
        Some(version) => {
            let message = format!("{version:?} is not the version of {name}; write {}", versions[0]);
            Err(problem(node, "apiVersion", &message))
        }
        None => Err(problem(node, "apiVersion", &format!("is required; write {}", versions[0]))),
    }
}

/// Fields beside `metadata` and `spec`; an EndpointSlice has no `spec`, its fields are told apart by decoding.
fn unknown_fields(node: &Node, kind: Kind) -> Vec<Problem> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let Value::Object(entries) = &node.value else { return Vec::new() };
    if kind == Kind::EndpointSlice {
        return Vec::new();
    }
    let unknown = entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str()));
    unknown
        .map(|(key, _)| Problem {
            place: Some(key.place),
            path: key.text.clone(),
            message: format!("unknown field{}", suggest(&key.text, &known)),
        })
        .collect()
}

fn section<T: DeserializeOwned>(node: &Node, name: &str, problems: &mut Vec<Problem>) -> Option<T> {
    let Some(child) = node.get(name) else {
        problems.push(problem(node, name, "is required"));
        return None;
    };
    decode(child, name).map_err(|more| problems.extend(more)).ok()
}

fn parse_spec(node: &Node, kind: Kind, problems: &mut Vec<Problem>) -> Option<Spec> {
    match kind {
        Kind::Service => section(node, "spec", problems).map(Spec::Service),
        Kind::ServiceEntry => section(node, "spec", problems).map(Spec::ServiceEntry),
        Kind::WorkloadEntry => section(node, "spec", problems).map(Spec::WorkloadEntry),
        Kind::Sidecar => section(node, "spec", problems).map(Spec::Sidecar),
        Kind::HttpRoute => section(node, "spec", problems).map(Spec::HttpRoute),
        Kind::EndpointSlice => {
            let own = without_header(node);
            decode(&own, "").map_err(|more| problems.extend(more)).ok().map(Spec::EndpointSlice)
        }
    }
}

fn without_header(node: &Node) -> Node {
    let mut own = node.clone();
    if let Value::Object(entries) = &mut own.value {
        entries.retain(|(key, _)| !["apiVersion", "kind", "metadata"].contains(&key.text.as_str()));
    }
    own
}

fn check_meta(meta: &Meta, check: &mut Checker) {
    for (path, name, dots) in [("metadata.name", &meta.name, true), ("metadata.namespace", &meta.namespace, false)] {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let fits = name.chars().all(allowed) && ends(name.chars().next()) && ends(name.chars().last());
        check.require(fits, path, format!("{name:?} is not a name; use lower-case letters, digits and -"));
    }
}

fn check_spec(object: &Object, check: &mut Checker) {
    match &object.spec {
        Spec::Service(spec) => spec.check(check),
        Spec::EndpointSlice(spec) => {
            let label = crate::kinds::endpoint_slice::SERVICE_NAME_LABEL;
            let named = object.meta.labels.contains_key(label);
            check.require(named, "metadata.labels", format!("{label} must name the Service of these endpoints"));
            spec.check(check);
        }
        Spec::ServiceEntry(spec) => spec.check(check),
        Spec::WorkloadEntry(spec) => spec.check("spec", false, check),
        Spec::Sidecar(spec) => spec.check(check),
        Spec::HttpRoute(spec) => spec.check(&object.meta.namespace, check),
    }
}

fn problem(node: &Node, path: &str, message: &str) -> Problem {
    Problem { place: Some(node.place_of(path)), path: path.to_owned(), message: message.to_owned() }
}
