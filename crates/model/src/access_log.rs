//! Access logs: where lines go and how they look.

use crate::format::Format;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    pub sink: Sink,
    pub line: Line,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sink {
    File(PathBuf),
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Text(Format),
    /// `json_format`: keys in the order written.
    Json(Vec<(Box<str>, JsonValue)>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum JsonValue {
    /// A lone operator that yields a number is written as a number.
    Format(Format),
    Object(Vec<(Box<str>, JsonValue)>),
    Number(f64),
    Bool(bool),
    Null,
}
