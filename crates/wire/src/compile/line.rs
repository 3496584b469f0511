//! Lines of logs and bodies of answers: a format string, or JSON of format strings, which becomes one flat list.

use super::{Result, data, format};
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::google::protobuf::Struct;
use crate::problem::{At, gather};
use core::substitution_format_string::Format as Specifier;
use model::format::{Operator, Part};
use model::line::{Form, Line, Piece};
use model::local_reply::BodyFormat;
use serde_json::{Map, Value};

/// `core.v3.SubstitutionFormatString`.
pub(super) fn line(at: &At<'_>, pb: &core::SubstitutionFormatString) -> Result<Line> {
    match at.required("format", &pb.format)? {
        Specifier::TextFormat(text) => Ok(Line::Text(format::format(&at.field("text_format"), text)?)),
        Specifier::TextFormatSource(source) => {
            let at = at.field("text_format_source");
            Ok(Line::Text(format::format(&at, &data::text(&at, source)?)?))
        }
        Specifier::JsonFormat(fields) => json(&at.field("json_format"), fields),
    }
}

/// As `line`, for the body of an answer.
pub(super) fn body(at: &At<'_>, pb: &core::SubstitutionFormatString) -> Result<BodyFormat> {
    let line = line(at, pb)?;
    let usual = match line {
        Line::Text(_) => "text/plain",
        Line::Json(_) => "application/json",
    };
    let content_type = if pb.content_type.is_empty() { usual } else { &pb.content_type };
    if content_type.contains(['\0', '\r', '\n']) {
        return at.field("content_type").wrong("must not contain line breaks or NUL");
    }
    Ok(BodyFormat { line, content_type: content_type.into() })
}

/// A `json_format`.
pub(super) fn json(at: &At<'_>, fields: &Struct) -> Result<Line> {
    let mut writer = Writer::default();
    writer.object(at, &data::object(fields))?;
    writer.literal.push('\n');
    writer.end_literal();
    Ok(Line::Json(writer.pieces))
}

/// Writes JSON; what is literal is gathered up to the next value.
#[derive(Default)]
struct Writer {
    pieces: Vec<Piece>,
    literal: String,
}

impl Writer {
    fn object(&mut self, at: &At<'_>, fields: &Map<String, Value>) -> Result<()> {
        self.literal.push('{');
        gather(fields.iter().enumerate().map(|(index, (key, value))| {
            if index > 0 {
                self.literal.push(',');
            }
            self.literal.push_str(&quoted(key));
            self.literal.push(':');
            self.value(&at.field(key), value)
        }))?;
        self.literal.push('}');
        Ok(())
    }

    fn value(&mut self, at: &At<'_>, value: &Value) -> Result<()> {
        match value {
            Value::Null => self.literal.push_str("null"),
            Value::Bool(value) => self.literal.push_str(&value.to_string()),
            Value::Number(number) => self.literal.push_str(&number.as_f64().unwrap_or_default().to_string()),
            Value::String(text) => self.text(format::format(at, text)?.parts),
            Value::Object(fields) => self.object(at, fields)?,
            Value::Array(_) => return at.wrong("lists are not implemented in json_format"),
        }
        Ok(())
    }

    /// An operator that stands alone keeps its type; among text it is text.
    fn text(&mut self, parts: Vec<Part>) {
        let alone = matches!(parts[..], [Part::Operator { .. }]);
        let quote = if alone { "" } else { "\"" };
        self.literal.push_str(quote);
        for part in parts {
            match part {
                Part::Literal(text) => {
                    let quoted = quoted(&text);
                    self.literal.push_str(&quoted[1..quoted.len() - 1]);
                }
                Part::Operator { operator, max_len } => {
                    let form = match alone {
                        true if is_number(&operator) => Form::Number,
                        true => Form::String,
                        false => Form::Inside,
                    };
                    self.end_literal();
                    self.pieces.push(Piece::Value { operator, max_len, form });
                }
            }
        }
        self.literal.push_str(quote);
    }

    fn end_literal(&mut self) {
        if !self.literal.is_empty() {
            self.pieces.push(Piece::Literal(std::mem::take(&mut self.literal).into()));
        }
    }
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn is_number(operator: &Operator) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use engine::format::{Context, render, value};
    use engine::info::{ConnectionFacts, StreamInfo};
    use engine::{Head, line};
    use proptest::prelude::*;
    use std::time::Duration;

    fn written(fields: &Map<String, Value>, context: &Context<'_>) -> String {
        let mut writer = Writer::default();
        writer.object(&At::ROOT, fields).unwrap();
        writer.end_literal();
        let mut out = Vec::new();
        line::render(&Line::Json(writer.pieces), context, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// What is to be written, built field by field.
    fn wanted(of: &Value, context: &Context<'_>) -> Value {
        let text = match of {
            Value::String(text) => text,
            Value::Object(fields) => {
                return fields.iter().map(|(key, of)| (key.clone(), wanted(of, context))).collect();
            }
            other => return other.clone(),
        };
        let format = format::format(&At::ROOT, text).unwrap();
        let mut out = Vec::new();
        if let [Part::Operator { operator, max_len }] = &format.parts[..] {
            if !value(operator, *max_len, context, &mut out) {
                return Value::Null;
            }
            if is_number(operator) {
                return serde_json::from_slice(&out).unwrap();
            }
        } else {
            render(&format, context, "-", &mut out);
        }
        String::from_utf8_lossy(&out).into()
    }

    fn check(fields: Value, a: &[u8], b: &[u8]) {
        let mut request = Head::default();
        request.set_method(b"GET");
        request.push(b"x-a", a);
        request.push(b"x-b", b);
        let info = StreamInfo {
            status: 200,
            start_unix_micros: 1_795_392_645_007_089,
            duration: Some(Duration::from_millis(12)),
            remote: "192.0.2.10:65535".parse().ok(),
            ..StreamInfo::default()
        };
        let connection =
            ConnectionFacts { id: u64::MAX, peer: "[2001:db8::1]:80".parse().ok(), ..ConnectionFacts::default() };
        let context = Context::new(&request, &info, &connection);
        let wanted = wanted(&fields, &context).to_string();
        assert_eq!(written(fields.as_object().unwrap(), &context), wanted);
    }

    #[test]
    fn values_keep_their_types() {
        let fields = serde_json::json!({
            "b": "%RESPONSE_CODE%", "a": { "none": "%UPSTREAM_HOST%", "no number": "%RESPONSE_DURATION%", "empty": {} },
            "text": "%RESPONSE_CODE% %UPSTREAM_HOST%", "constants": { "yes": true, "none": null, "number": 1.5 },
        });
        check(fields.clone(), b"", b"");
        let line = r#"{"b":200,"a":{"none":null,"no number":null,"empty":{}},"text":"200 -","constants":{"yes":true,"none":null,"number":1.5}}"#;
        let (head, info) = (Head::default(), StreamInfo { status: 200, ..StreamInfo::default() });
        assert_eq!(
            written(fields.as_object().unwrap(), &Context::new(&head, &info, &ConnectionFacts::default())),
            line
        );
    }

    #[test]
    fn one_piece_between_values() {
        let mut writer = Writer::default();
        let fields = serde_json::json!({ "a": { "b": 1, "c": "<%PROTOCOL%\">" }, "d": "%PROTOCOL%", "e": "x" });
        writer.object(&At::ROOT, fields.as_object().unwrap()).unwrap();
        writer.end_literal();
        let literals = writer.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(&**text),
            Piece::Value { .. } => None,
        });
        assert_eq!(literals.collect::<Vec<_>>(), [r#"{"a":{"b":1,"c":"<"#, r#"\">"},"d":"#, r#","e":"x"}"#]);
    }

    fn fields() -> impl Strategy<Value = Value> {
        const FORMATS: [&str; 15] = [
            "%REQ(x-a)%",
            "<%REQ(x-a)%> %REQ(x-b)%",
            "%REQ(x-b):3%",
            "%REQ(x-none)%",
            "%REQ(x-none?x-b)%",
            "%REQ(:METHOD)%",
            "%START_TIME%",
            "%RESPONSE_CODE%",
            "%DURATION%",
            "%REQUEST_DURATION%",
            "%CONNECTION_ID%",
            "%DOWNSTREAM_REMOTE_ADDRESS%",
            "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
            "%DOWNSTREAM_LOCAL_PORT%",
            "%PROTOCOL% %RESPONSE_FLAGS%",
        ];
        let leaf = prop_oneof![
            prop::sample::select(&FORMATS[..]).prop_map(Value::from),
            "[^%]{0,10}".prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        let object = |fields: Vec<(String, Value)>| Value::Object(fields.into_iter().collect());
        let nested = leaf.prop_recursive(3, 20, 6, move |inner| {
            prop::collection::vec((any::<String>(), inner), 0..6).prop_map(object)
        });
        prop::collection::vec((any::<String>(), nested), 0..6).prop_map(object)
    }

    proptest! {
        #[test]
        fn lines_are_what_serde_json_writes(fields in fields(), a in "\\PC{0,40}", b in prop::collection::vec(any::<u8>(), 0..40)) {
            check(fields, a.as_bytes(), &b);
        }
    }
}
