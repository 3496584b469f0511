//! Parses request and response heads from complete bytes, on `httparse`, with the checks it leaves out.

use engine::{Head, Known, head::Span, head::tokens, info::Protocol};
use httparse::{EMPTY_HEADER, Header, Status};
use model::Refusal;
use model::refusal::BadRequest;
use std::mem::MaybeUninit;

/// More fields than this are refused whatever the configuration says.
const MOST_FIELDS: usize = 256;

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Until the connection closes; responses only.
    Close,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a head.
    pub head: usize,
    pub fields: usize,
}

/// What a request head says about the connection; the rest is in the `Head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub protocol: Protocol,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// The target was an absolute URL.
    pub absolute: bool,
}

/// Position after the empty line that ends the head, if it is there. Bare line feeds are refused on the way.
pub fn head_end(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, Refusal> {
    let mut from = *scanned;
    while let Some(offset) = memchr::memchr(b'\n', &bytes[from..]) {
        let at = from + offset;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::BadRequest(BadRequest::BareLineFeed));
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
        from = at + 1;
    }
    *scanned = from;
    Ok(None)
}

/// Parses `raw`, a complete request head, into `head`.
pub fn request(raw: &[u8], head: &mut Head, limits: &Limits) -> Result<Received, Refusal> {
    let mut space = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(raw, &mut space) {
        Ok(Status::Complete(length)) if length == raw.len() => {}
        Ok(_) => return Err(Refusal::BadRequest(BadRequest::Syntax)),
        Err(error) => return Err(syntax_error(error, raw)),
    }
    if parsed.headers.len() > limits.fields {
        return Err(Refusal::HeadTooLarge);
    }
    let protocol = match parsed.version {
        Some(0) => Protocol::Http10,
        _ => Protocol::Http11,
    };
    head.load(raw);
    let offset = |text: &[u8]| text.as_ptr() as usize - raw.as_ptr() as usize;
    let span = |text: &str| Span::new(offset(text.as_bytes()), text.len());
    head.method = span(parsed.method.unwrap_or_default());
    let target = span(parsed.path.unwrap_or_default());
    add_fields(head, raw, parsed.headers)?;
    let absolute = set_target(head, target)?;
    let framing = request_framing(head)?;
    let keep_alive = keep_alive(head, protocol);
    let expects_continue = protocol == Protocol::Http11
        && head.get_known(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Ok(Received { protocol, framing, keep_alive, expects_continue, absolute })
}

/// Parses `raw`, a complete response head. `to_head` and `to_connect` tell what was asked.
pub fn response(raw: &[u8], head: &mut Head, limits: &Limits, to_head: bool) -> Result<Received, Refusal> {
    const BAD: Refusal = Refusal::UpstreamProtocolError;
    let mut space = [EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut space);
    match parsed.parse(raw) {
        Ok(Status::Complete(length)) if length == raw.len() => {}
        _ => return Err(BAD),
    }
    if parsed.headers.len() > limits.fields {
        return Err(BAD);
    }
    let protocol = if parsed.version == Some(0) { Protocol::Http10 } else { Protocol::Http11 };
    let status = parsed.code.unwrap_or(0);
    if !(100..=999).contains(&status) {
        return Err(BAD);
    }
    head.load(raw);
    add_fields(head, raw, parsed.headers).map_err(|_| BAD)?;
    head.status = status;
    let framing = response_framing(head, status, to_head)?;
    let keep_alive = framing != Framing::Close && keep_alive(head, protocol);
    Ok(Received { protocol, framing, keep_alive, expects_continue: false, absolute: false })
}

fn syntax_error(error: httparse::Error, raw: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version if raw.starts_with(b"PRI ") => Refusal::BadRequest(BadRequest::BadPreface),
        httparse::Error::Version if other_version(raw) => Refusal::UpgradeRequired,
        httparse::Error::HeaderName
            if raw.windows(3).any(|w| w == b"\n " || w.starts_with(b"\n ") || w.starts_with(b"\n\t")) =>
        {
            Refusal::BadRequest(BadRequest::ObsoleteFold)
        }
        _ => Refusal::BadRequest(BadRequest::Syntax),
    }
}

/// The request line names a version of HTTP that is not served on this connection.
fn other_version(raw: &[u8]) -> bool {
    let line = raw.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let Some(version) = line.len().checked_sub(8).map(|at| &line[at..]) else { return false };
    let digits = version[5].is_ascii_digit() && version[6] == b'.' && version[7].is_ascii_digit();
    version.starts_with(b"HTTP/") && digits && version[5..] > b"1.1"[..]
}

fn add_fields(head: &mut Head, raw: &[u8], fields: &[Header<'_>]) -> Result<(), Refusal> {
    let base = raw.as_ptr() as usize;
    for field in fields {
        let name = Span::new(field.name.as_ptr() as usize - base, field.name.len());
        let value = Span::new(field.value.as_ptr() as usize - base, field.value.len());
        let line_end = memchr::memchr(b'\n', &raw[value.end()..]).map(|at| value.end() + at + 1);
        let Some(line_end) = line_end else { return Err(Refusal::BadRequest(BadRequest::Syntax)) };
        let start = name.start as usize;
        head.push_line(name, value, Span::new(start, line_end - start));
    }
    Ok(())
}

/// Splits the request target (RFC 9112 section 3.2) into authority and path; tells whether it was absolute.
fn set_target(head: &mut Head, target: Span) -> Result<bool, Refusal> {
    const BAD: Refusal = Refusal::BadRequest(BadRequest::BadPath);
    let connect = head.method() == b"CONNECT";
    let hosts = head.count_known(Known::Host);
    if hosts > 1 {
        return Err(Refusal::BadRequest(BadRequest::BadHost));
    }
    let host = head.fields().find(|field| field.known == Known::Host).map(|field| field.value);
    head.authority = host.unwrap_or_default();
    let text = head.slice(target);
    if connect {
        head.authority = target;
        return Ok(false);
    }
    if text == b"*" {
        head.path = target;
        return if head.method() == b"OPTIONS" { Ok(false) } else { Err(BAD) };
    }
    if text.first() == Some(&b'/') {
        head.path = target;
        return Ok(false);
    }
    let Some(scheme_len) = text.windows(3).position(|window| window == b"://") else { return Err(BAD) };
    let scheme = text[..scheme_len].to_ascii_lowercase();
    if scheme != b"http" && scheme != b"https" {
        return Err(BAD);
    }
    let start = scheme_len + 3;
    let slash = memchr::memchr3(b'/', b'?', b'#', &text[start..]).map_or(text.len(), |at| start + at);
    if slash == start {
        return Err(Refusal::BadRequest(BadRequest::BadHost));
    }
    let base = target.start as usize;
    let rest = Span::new(base + slash, text.len() - slash);
    let begins_with_slash = text.get(slash) == Some(&b'/');
    head.authority = Span::new(base + start, slash - start);
    head.scheme = Span::new(base, scheme_len);
    if begins_with_slash {
        head.path = rest;
    } else {
        let path = [b"/", head.slice(rest)].concat();
        head.set_path(&path);
    }
    Ok(true)
}

fn request_framing(head: &Head) -> Result<Framing, Refusal> {
    let codings = head.count_known(Known::TransferEncoding);
    let lengths = head.count_known(Known::ContentLength);
    if codings > 0 {
        if lengths > 0 {
            return Err(Refusal::BadRequest(BadRequest::LengthAndChunked));
        }
        let only_chunked = codings == 1
            && head.get_known(Known::TransferEncoding).is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        return if only_chunked { Ok(Framing::Chunked) } else { Err(Refusal::UnsupportedTransferCoding) };
    }
    match content_length(head) {
        Ok(None | Some(0)) => Ok(Framing::None),
        Ok(Some(length)) => Ok(Framing::Length(length)),
        Err(()) => Err(Refusal::BadRequest(BadRequest::BadLength)),
    }
}

fn response_framing(head: &Head, status: u16, to_head: bool) -> Result<Framing, Refusal> {
    let chunked = head.count_known(Known::TransferEncoding) > 0;
    if chunked && head.count_known(Known::ContentLength) > 0 {
        return Err(Refusal::UpstreamProtocolError);
    }
    if to_head || status == 204 || status == 304 || status < 200 {
        return Ok(Framing::None);
    }
    if chunked {
        let only_chunked = head.count_known(Known::TransferEncoding) == 1
            && head.get_known(Known::TransferEncoding).is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
        return if only_chunked { Ok(Framing::Chunked) } else { Err(Refusal::UpstreamProtocolError) };
    }
    match content_length(head) {
        Ok(None) => Ok(Framing::Close),
        Ok(Some(0)) => Ok(Framing::None),
        Ok(Some(length)) => Ok(Framing::Length(length)),
        Err(()) => Err(Refusal::UpstreamProtocolError),
    }
}

/// One field with decimal digits only; repetition, lists and signs are refused.
fn content_length(head: &Head) -> Result<Option<u64>, ()> {
    match head.count_known(Known::ContentLength) {
        0 => Ok(None),
        1 => {
            let value = head.get_known(Known::ContentLength).unwrap_or_default();
            if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                return Err(());
            }
            std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).map(Some).ok_or(())
        }
        _ => Err(()),
    }
}

fn keep_alive(head: &Head, protocol: Protocol) -> bool {
    let says = |token: &[u8]| {
        head.fields()
            .filter(|field| matches!(field.known, Known::Connection | Known::ProxyConnection))
            .any(|field| tokens(head.slice(field.value)).any(|item| item.eq_ignore_ascii_case(token)))
    };
    match protocol {
        Protocol::Http10 => says(b"keep-alive") && !says(b"close"),
        _ => !says(b"close"),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
