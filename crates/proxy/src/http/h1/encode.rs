//! Writes heads in HTTP/1 form. Lines that nobody touched are copied as they came, in runs.

use super::parse::Framing;
use engine::head::{Field, Head, Known};

/// A request head for the upstream. `upgrade` keeps `Connection: upgrade`.
pub fn request(head: &Head, framing: Framing, upgrade: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    if head.path().is_empty() {
        out.extend_from_slice(head.authority());
    } else {
        out.extend_from_slice(head.path());
    }
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(head.authority());
    out.extend_from_slice(b"\r\n");
    fields(head, out, |field| match field.known {
        Known::Host | Known::TransferEncoding | Known::Expect => false,
        Known::ContentLength => false,
        Known::Connection | Known::Upgrade => upgrade,
        known => !known.hop_by_hop() || (known == Known::Te && !field.removed),
    });
    match framing {
        Framing::Length(length) => length_line(length, out),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None if keeps_zero_length(head) => length_line(0, out),
        Framing::None | Framing::Close => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// A request without a body says so when its method may have one (RFC 9110 section 8.6).
fn keeps_zero_length(head: &Head) -> bool {
    if head.method() == b"CONNECT" {
        return false;
    }
    head.get_known(Known::ContentLength).is_some() || matches!(head.method(), b"POST" | b"PUT" | b"PATCH" | b"OPTIONS")
}

/// What a response head says about the connection.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOptions {
    pub framing: Framing,
    pub close: bool,
    /// The client speaks HTTP/1.0 and asked for keep-alive: it must be told that it gets it.
    pub say_keep_alive: bool,
    /// 101: `Connection` and `Upgrade` stay.
    pub upgraded: bool,
    /// The response has no body but keeps the length it would have had (HEAD, 304).
    pub keep_length: bool,
    /// A response to HEAD whose body would have been chunked.
    pub unknown_length: bool,
}

/// A response head for the downstream.
pub fn response(head: &Head, options: &ResponseOptions, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(head.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    fields(head, out, |field| match field.known {
        Known::TransferEncoding => false,
        Known::ContentLength => options.keep_length,
        Known::Connection | Known::Upgrade => options.upgraded,
        known => !known.hop_by_hop(),
    });
    match options.framing {
        Framing::Length(length) => length_line(length, out),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::None if options.unknown_length && may_have_body(head.status) => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        Framing::None if !options.keep_length && may_have_body(head.status) => length_line(0, out),
        Framing::None | Framing::Close => {}
    }
    if options.close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if options.say_keep_alive {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn may_have_body(status: u16) -> bool {
    !(status < 200 || status == 204 || status == 304)
}

fn length_line(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Copies the fields that `keep` admits; neighbouring untouched lines in one go.
fn fields(head: &Head, out: &mut Vec<u8>, keep: impl Fn(&Field) -> bool) {
    let mut run = engine::head::Span::default();
    for field in head.fields().filter(|field| keep(field)) {
        if field.line.len > 0 && field.line.start as usize == run.end() && run.len > 0 {
            run.len += field.line.len;
            continue;
        }
        out.extend_from_slice(head.slice(run));
        run = field.line;
        if field.line.len == 0 {
            out.extend_from_slice(head.slice(field.name));
            out.extend_from_slice(b": ");
            out.extend_from_slice(head.slice(field.value));
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(head.slice(run));
}

/// The reason phrases of RFC 9110 and its registry; unknown codes get `Unknown`, as in Envoy.
pub fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::parse::{self, Limits};

    #[test]
    fn untouched_lines_keep_their_bytes() {
        let raw = b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent:  curl \r\nX-A: 1\r\nConnection: close\r\nX-B: 2\r\n\r\n";
        let mut head = Head::default();
        let limits = Limits { head: 60_000, fields: 100 };
        parse::request(raw, &mut head, &limits).unwrap();
        head.set(b"x-a", b"9");
        head.push(b"x-c", b"3");
        let mut out = Vec::new();
        request(&head, Framing::None, false, &mut out);
        let wanted = "GET /a HTTP/1.1\r\nhost: x\r\nUser-Agent:  curl \r\nX-A: 9\r\nX-B: 2\r\nx-c: 3\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn framing_lines() {
        let mut head = Head::default();
        head.status = 200;
        head.push(b"content-length", b"9");
        let encode = |framing, keep_length, close| {
            let mut out = Vec::new();
            let options = ResponseOptions {
                framing,
                close,
                say_keep_alive: false,
                upgraded: false,
                keep_length,
                unknown_length: false,
            };
            response(&head, &options, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encode(Framing::Chunked, false, false), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(encode(Framing::None, true, false), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
        assert_eq!(
            encode(Framing::None, false, true),
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }
}
