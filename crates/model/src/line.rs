//! Lines of logs and bodies of the proxy's own answers (`core.v3.SubstitutionFormatString`).

use crate::format::{Format, Operator};

#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    Text(Format),
    /// `json_format`, flat: what is always the same, and the values between. A line break is its end.
    Json(Vec<Piece>),
}

/// A stretch of a JSON text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Punctuation, keys and constants, as JSON writes them.
    Literal(Box<str>),
    Value {
        operator: Operator,
        max_len: Option<usize>,
        form: Form,
    },
}

/// How JSON writes the value of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is; `null` when there is none.
    Number,
    /// In quotes; `null` when there is none.
    String,
    /// Within a string, whose quotes are literals; `-` when there is none.
    Inside,
}
