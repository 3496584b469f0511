//! Header edits as configured (`core.v3.HeaderValueOption` and the `*_headers_to_remove` lists).

use crate::format::Format;
use crate::matcher::StringMatcher;

/// The edits of one level (route, virtual host, route table or weighted cluster).
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    pub request: Edits,
    pub response: Edits,
}

#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Lower case. Removal runs before addition, as in Envoy.
    pub remove: Vec<Box<str>>,
    pub add: Vec<AddHeader>,
}

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

#[derive(Clone, Debug)]
pub struct AddHeader {
    /// Lower case.
    pub name: Box<str>,
    pub value: Format,
    pub action: AppendAction,
    /// Without it, a header whose value comes out empty is not added.
    pub keep_empty: bool,
}

/// `core.v3.HeaderValueOption.HeaderAppendAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAction {
    AppendIfExistsOrAdd,
    AddIfAbsent,
    OverwriteIfExistsOrAdd,
    OverwriteIfExists,
}

/// `mutation_rules.v3.HeaderMutation`: one step of a sequence.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Lower case.
    Remove(Box<str>),
    RemoveMatching(StringMatcher),
    Add(AddHeader),
}
