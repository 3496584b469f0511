//! Access logs: lines are gathered per worker and written in batches with one `write` each.

use engine::format::{Context, operand, render};
use model::access_log::{AccessLog, JsonValue, Line, Sink};
use model::format::{Operator, Part};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes gathered before a batch is written at once; otherwise the worker's timer does it.
const BATCH: usize = 64 * 1024;

/// One log of one worker.
pub struct AccessLogger {
    config: Arc<AccessLog>,
    output: Rc<Output>,
}

/// An open file, shared by all loggers of a worker that write to it.
pub struct Output {
    sink: Sink,
    state: RefCell<State>,
}

struct State {
    pending: Vec<u8>,
    file: Option<File>,
}

impl Output {
    /// Files are created and appended to.
    pub fn open(sink: &Sink) -> std::io::Result<Output> {
        let file = match sink {
            Sink::File(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            Sink::Stdout | Sink::Stderr => None,
        };
        Ok(Output { sink: sink.clone(), state: RefCell::new(State { pending: Vec::new(), file }) })
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        if state.pending.is_empty() {
            return;
        }
        let State { pending, file } = &mut *state;
        // A full disk must not stop traffic; the lines are lost.
        let _ = match (&self.sink, file) {
            (Sink::Stdout, _) => std::io::stdout().write_all(pending),
            (Sink::Stderr, _) => std::io::stderr().write_all(pending),
            (Sink::File(_), Some(file)) => file.write_all(pending),
            (Sink::File(_), None) => Ok(()),
        };
        pending.clear();
    }
}

impl AccessLogger {
    pub fn new(config: Arc<AccessLog>, output: Rc<Output>) -> Self {
        AccessLogger { config, output }
    }

    /// Adds one line.
    pub fn log(&self, context: &Context<'_>) {
        let mut state = self.output.state.borrow_mut();
        let pending = &mut state.pending;
        match &self.config.line {
            Line::Text(format) => render(format, context, "-", pending),
            Line::Json(fields) => {
                object(fields, context, pending);
                pending.push(b'\n');
            }
        }
        let full = pending.len() >= BATCH;
        drop(state);
        if full {
            self.output.flush();
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
            _ => quoted(out, |out| render(format, context, "-", out)),
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
