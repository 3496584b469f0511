//! Lines of logs and bodies of the proxy's own answers: text, or JSON with a value per field.

use crate::format::{Context, render as text, value};
use model::line::{Form, Line, Piece};
use std::io::Write;

/// Appends `line`; what is missing is `-` in text.
pub fn render(line: &Line, context: &Context<'_>, out: &mut Vec<u8>) {
    let pieces = match line {
        Line::Text(format) => return text(format, context, "-", out),
        Line::Json(pieces) => pieces,
    };
    for piece in pieces {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Value { operator, max_len, form } => {
                json(*form, out, |out| value(operator, *max_len, context, out));
            }
        }
    }
}

/// Appends what `value` does, as JSON wants it; it returns false when it has nothing.
fn json(form: Form, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>) -> bool) {
    let start = out.len();
    if form == Form::String {
        out.push(b'"');
    }
    let begin = out.len();
    if !value(out) {
        out.truncate(start);
        return out.extend_from_slice(if form == Form::Inside { b"-" } else { b"null" });
    }
    if form != Form::Number && !out[begin..].iter().all(is_plain) {
        escape(begin, out);
    }
    if form == Form::String {
        out.push(b'"');
    }
}

/// A character that stands for itself in a JSON string. So do those above ASCII, if they are UTF-8.
fn is_plain(byte: &u8) -> bool {
    (b' '..0x80).contains(byte) && *byte != b'"' && *byte != b'\\'
}

/// Escapes what stands in `out` from `begin` on (RFC 8259 section 7); what is not UTF-8 becomes U+FFFD.
fn escape(begin: usize, out: &mut Vec<u8>) {
    if std::str::from_utf8(&out[begin..]).is_err() {
        let text = String::from_utf8_lossy(&out[begin..]).into_owned();
        out.truncate(begin);
        out.extend_from_slice(text.as_bytes());
    }
    let end = out.len();
    for at in begin..end {
        match out[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            // Writing to a Vec cannot fail.
            byte @ 0..0x20 => drop(write!(out, "\\u{byte:04x}")),
            byte => out.push(byte),
        }
    }
    out.drain(begin..end);
}
