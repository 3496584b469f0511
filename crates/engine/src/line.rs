//! Lines of logs and bodies of the proxy's own answers: text, or JSON with a value per field.

use crate::format::{Context, operand, render as text};
use model::access_log::{JsonValue, Line};
use model::format::{Operator, Part};

/// Appends `line`; what is missing is `-` in text. JSON ends with a line break.
pub fn render(line: &Line, context: &Context<'_>, out: &mut Vec<u8>) {
    match line {
        Line::Text(format) => text(format, context, "-", out),
        Line::Json(fields) => {
            object(fields, context, out);
            out.push(b'\n');
        }
    }
}

fn object(fields: &[(Box<str>, JsonValue)], context: &Context<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(name.as_bytes(), out);
        out.push(b':');
        json(value, context, out);
    }
    out.push(b'}');
}

fn json(value: &JsonValue, context: &Context<'_>, out: &mut Vec<u8>) {
    match value {
        JsonValue::Object(fields) => object(fields, context, out),
        JsonValue::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        JsonValue::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        JsonValue::Null => out.extend_from_slice(b"null"),
        JsonValue::Format(format) => match format.parts.as_slice() {
            [Part::Operator { operator, max_len }] => operator_value(operator, *max_len, context, out),
            _ => quoted(out, |out| text(format, context, "-", out)),
        },
    }
}

/// A number where the operator gives one, else a string; `null` when there is no value.
fn operator_value(operator: &Operator, max_len: Option<usize>, context: &Context<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut found = false;
    let mut value = |out: &mut Vec<u8>| {
        let begin = out.len();
        found = operand(operator, context, out);
        out.truncate(max_len.map_or(out.len(), |max| out.len().min(begin + max)));
    };
    if numeric(operator) {
        value(out);
    } else {
        quoted(out, value);
    }
    if !found {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

fn numeric(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::ResponseCode
            | Operator::BytesReceived
            | Operator::BytesSent
            | Operator::Duration
            | Operator::RequestDuration
            | Operator::ResponseDuration
            | Operator::UpstreamRequestAttemptCount
            | Operator::DownstreamLocalPort
            | Operator::ConnectionId
    )
}

/// A JSON string (RFC 8259 section 7) of what `write` appends. What needs no escape, nearly everything, is not copied.
fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    let begin = out.len();
    write(out);
    let plain = |byte: &u8| (b' '..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\';
    if !out[begin..].iter().all(plain) {
        let text = out.split_off(begin);
        escape(&text, out);
    }
    out.push(b'"');
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    quoted(out, |out| out.extend_from_slice(text));
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if (c as u32) < 0x20 => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
