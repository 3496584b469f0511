//! Header edits (`core.v3.HeaderValueOption` and the `*_headers_to_remove` lists).

use super::{Result, format, known, lower, matcher};
use crate::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action as MutationAction};
use crate::pb::envoy::config::core::v3 as core;
use crate::problem::{At, gather};
use core::header_value_option::HeaderAppendAction;
use model::header::{AddHeader, AppendAction, Edits, HeaderEdits, Mutation};

/// The four lists of one level.
pub(super) struct Lists<'a> {
    pub(super) request_add: &'a [core::HeaderValueOption],
    pub(super) request_remove: &'a [String],
    pub(super) response_add: &'a [core::HeaderValueOption],
    pub(super) response_remove: &'a [String],
}

/// Route table, virtual host, route and weighted cluster call the lists by the same names.
macro_rules! header_lists {
    ($message:expr) => {
        $crate::compile::header::Lists {
            request_add: &$message.request_headers_to_add,
            request_remove: &$message.request_headers_to_remove,
            response_add: &$message.response_headers_to_add,
            response_remove: &$message.response_headers_to_remove,
        }
    };
}
pub(super) use header_lists;

/// `None` where there is nothing to do.
pub(super) fn edits(at: &At<'_>, lists: &Lists<'_>) -> Result<Option<Box<HeaderEdits>>> {
    let edits = HeaderEdits {
        request: Edits {
            remove: remove(at, "request_headers_to_remove", lists.request_remove)?,
            add: add(at, "request_headers_to_add", lists.request_add)?,
        },
        response: Edits {
            remove: remove(at, "response_headers_to_remove", lists.response_remove)?,
            add: add(at, "response_headers_to_add", lists.response_add)?,
        },
    };
    let none = edits.request.is_empty() && edits.response.is_empty();
    Ok((!none).then(|| edits.into()))
}

pub(super) fn remove(at: &At<'_>, field: &str, names: &[String]) -> Result<Vec<Box<str>>> {
    gather(names.iter().enumerate().map(|(index, name)| {
        let at = at.item(field, index);
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            return at.wrong(":-prefixed or host headers may not be removed");
        }
        loose_name(&at, name)
    }))
}

pub(super) fn add(at: &At<'_>, field: &str, options: &[core::HeaderValueOption]) -> Result<Vec<AddHeader>> {
    if options.len() > 1000 {
        return at.field(field).wrong("must not have more than 1000 headers");
    }
    gather(options.iter().enumerate().map(|(index, option)| add_one(&at.item(field, index), option)))
}

fn add_one(at: &At<'_>, option: &core::HeaderValueOption) -> Result<AddHeader> {
    let header = at.required("header", &option.header)?;
    let inner = at.field("header");
    let name = header_name(&inner.field("key"), &header.key)?;
    if name.starts_with(':') || &*name == "host" {
        return inner.field("key").wrong(":-prefixed or host headers may not be modified");
    }
    if !header.value.is_empty() && !header.raw_value.is_empty() {
        return inner.field("raw_value").wrong("cannot be set together with value");
    }
    if header.value.contains(['\0', '\r', '\n']) {
        return inner.field("value").wrong("must not contain line breaks or NUL");
    }
    let value = match header.raw_value.as_slice() {
        [] => format::format(&inner.field("value"), &header.value)?,
        raw => match std::str::from_utf8(raw) {
            Ok(text) => format::format(&inner.field("raw_value"), text)?,
            Err(_) => return inner.field("raw_value").wrong("bytes that are not UTF-8 are not implemented"),
        },
    };
    Ok(AddHeader { name, value, action: action(at, option)?, keep_empty: option.keep_empty_value })
}

/// `mutation_rules.v3.HeaderMutation`, in the order written.
pub(super) fn mutations(at: &At<'_>, field: &str, pb: &[HeaderMutation]) -> Result<Vec<Mutation>> {
    gather(pb.iter().enumerate().map(|(index, one)| {
        let at = at.item(field, index);
        match at.required("action", &one.action)? {
            MutationAction::Remove(name) => {
                let at = at.field("remove");
                if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                    return at.wrong(":-prefixed or host headers may not be removed");
                }
                loose_name(&at, name).map(Mutation::Remove)
            }
            MutationAction::Append(option) => add_one(&at.field("append"), option).map(Mutation::Add),
            MutationAction::RemoveOnMatch(matching) => {
                let at = at.field("remove_on_match");
                let names = at.required("key_matcher", &matching.key_matcher)?;
                matcher::string(&at.field("key_matcher"), names).map(Mutation::RemoveMatching)
            }
        }
    }))
}

/// The deprecated `append` and its successor must not both speak.
fn action(at: &At<'_>, option: &core::HeaderValueOption) -> Result<AppendAction> {
    let action = match known(at, "append_action", option.append_action)? {
        HeaderAppendAction::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
        HeaderAppendAction::AddIfAbsent => AppendAction::AddIfAbsent,
        HeaderAppendAction::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
        HeaderAppendAction::OverwriteIfExists => AppendAction::OverwriteIfExists,
    };
    match super::flag(&option.append) {
        None => Ok(action),
        Some(_) if action != AppendAction::AppendIfExistsOrAdd => {
            at.field("append").wrong("cannot be set together with append_action")
        }
        Some(true) => Ok(AppendAction::AppendIfExistsOrAdd),
        Some(false) => Ok(AppendAction::OverwriteIfExistsOrAdd),
    }
}

/// A name in lower case to look for; one that no message can have finds nothing.
pub(super) fn loose_name(at: &At<'_>, name: &str) -> Result<Box<str>> {
    if name.is_empty() || name.contains(['\0', '\r', '\n']) {
        return at.wrong(format!("`{}` is not a header name", name.escape_debug()));
    }
    Ok(lower(name))
}

/// A name in lower case that can stand in a message.
pub(super) fn header_name(at: &At<'_>, name: &str) -> Result<Box<str>> {
    let bare = name.strip_prefix(':').unwrap_or(name);
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if bare.is_empty() || !bare.bytes().all(token) {
        return at.wrong(format!("`{}` is not a header name", name.escape_debug()));
    }
    Ok(lower(name))
}
