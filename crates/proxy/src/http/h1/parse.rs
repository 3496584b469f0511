//! Parses request and response heads from complete bytes: what the lines mean for target, body and connection.

use super::lines::{self, Broken, Section};
use engine::{Head, Known, head::Span, head::tokens, info::Protocol};
use model::Refusal;
use model::refusal::BadRequest;

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

/// The request that a response answers, where that decides how long the response is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerTo {
    Head,
    Connect,
    #[default]
    Other,
}

impl AnswerTo {
    pub fn method(method: &[u8]) -> Self {
        match method {
            b"HEAD" => AnswerTo::Head,
            b"CONNECT" => AnswerTo::Connect,
            _ => AnswerTo::Other,
        }
    }
}

/// Position after the empty line that ends the head, if it is there: for heads that come in pieces. A head that ends
/// lines with bare line feeds may never have one: they are refused as soon as they are seen.
pub fn head_end(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, Refusal> {
    for at in memchr::memchr_iter(b'\n', &bytes[*scanned..]) {
        let at = *scanned + at;
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::BadRequest(BadRequest::BareLineFeed));
        }
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
    }
    *scanned = bytes.len();
    Ok(None)
}

/// Reads the request head at the start of `raw` into `head`; `None` while it is incomplete. The length is the head's.
pub fn request(raw: &[u8], head: &mut Head, limits: &Limits) -> Result<Option<(Received, usize)>, Refusal> {
    head.clear();
    match request_lines(raw, head, limits) {
        Ok(Some((line, length))) => {
            head.load(&raw[..length]);
            Ok(Some((understand(head, &line)?, length)))
        }
        Ok(None) => Ok(None),
        Err(refusal) => {
            // For the log.
            head.clear();
            Err(refusal)
        }
    }
}

fn request_lines(raw: &[u8], head: &mut Head, limits: &Limits) -> Result<Option<(lines::RequestLine, usize)>, Refusal> {
    let refused = |error: Broken| {
        Err(Refusal::BadRequest(match error {
            Broken::BareLineFeed => BadRequest::BareLineFeed,
            Broken::Fold => BadRequest::ObsoleteFold,
            Broken::OtherVersion if raw.starts_with(b"PRI ") => BadRequest::BadPreface,
            Broken::OtherVersion => return Err(Refusal::UpgradeRequired),
            Broken::Syntax => BadRequest::Syntax,
            Broken::Incomplete => return Ok(None),
        }))
    };
    let line = match lines::request_line(raw) {
        Ok(line) => line,
        Err(error) => return refused(error),
    };
    head.method = line.method;
    match lines::fields(raw, line.length, limits.fields.min(MOST_FIELDS), head) {
        Ok(Section::Ends(length)) => Ok(Some((line, length))),
        Ok(Section::TooMany) => Err(Refusal::HeadTooLarge),
        Err(error) => refused(error),
    }
}

/// What the lines of a request say.
fn understand(head: &mut Head, line: &lines::RequestLine) -> Result<Received, Refusal> {
    let protocol = line.protocol;
    let absolute = set_target(head, line.target)?;
    let framing = match request_framing(head)? {
        Framing::Length(_) if head.method() == b"CONNECT" => {
            return Err(Refusal::BadRequest(BadRequest::BodyDisallowed));
        }
        Framing::Chunked if head.method() == b"CONNECT" => return Err(Refusal::UnsupportedTransferCoding),
        framing => framing,
    };
    let keep_alive = keep_alive(head, protocol);
    let expects_continue = protocol == Protocol::Http11
        && head.get_known(Known::Expect).is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Ok(Received { protocol, framing, keep_alive, expects_continue, absolute })
}

/// Reads the response head at the start of `raw` into `head`, as [`request`] does.
pub fn response(
    raw: &[u8],
    head: &mut Head,
    limits: &Limits,
    to: AnswerTo,
) -> Result<Option<(Received, usize)>, Refusal> {
    const BAD: Refusal = Refusal::UpstreamProtocolError;
    head.clear();
    let line = match lines::status_line(raw) {
        Ok(line) => line,
        Err(Broken::Incomplete) => return Ok(None),
        Err(_) => return Err(BAD),
    };
    let length = match lines::fields(raw, line.length, limits.fields.min(MOST_FIELDS), head) {
        Ok(Section::Ends(length)) => length,
        Err(Broken::Incomplete) => return Ok(None),
        Ok(Section::TooMany) | Err(_) => return Err(BAD),
    };
    head.load(&raw[..length]);
    head.status = line.status;
    let framing = response_framing(head, line.status, to)?;
    let keep_alive = framing != Framing::Close && keep_alive(head, line.protocol);
    let received = Received { protocol: line.protocol, framing, keep_alive, expects_continue: false, absolute: false };
    Ok(Some((received, length)))
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
        if !is_host_and_port(text) {
            return Err(Refusal::BadRequest(BadRequest::ConnectTarget));
        }
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

/// The form that CONNECT's target has (RFC 9112 section 3.2.3).
fn is_host_and_port(target: &[u8]) -> bool {
    let Some(at) = memchr::memrchr(b':', target).filter(|at| *at > 0) else { return false };
    let port = &target[at + 1..];
    let number = !port.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    number && !target.contains(&b'/')
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

fn response_framing(head: &Head, status: u16, to: AnswerTo) -> Result<Framing, Refusal> {
    // Whatever the fields say, a tunnel begins (RFC 9112 section 6.3).
    if to == AnswerTo::Connect && (200..300).contains(&status) {
        return Ok(Framing::None);
    }
    let chunked = head.count_known(Known::TransferEncoding) > 0;
    if chunked && head.count_known(Known::ContentLength) > 0 {
        return Err(Refusal::UpstreamProtocolError);
    }
    if to == AnswerTo::Head || status == 204 || status == 304 || status < 200 {
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
            if value.is_empty() {
                return Err(());
            }
            let mut length: u64 = 0;
            for &byte in value {
                let digit = byte.wrapping_sub(b'0');
                length = if digit < 10 {
                    length.checked_mul(10).and_then(|tens| tens.checked_add(digit.into()))
                } else {
                    None
                }
                .ok_or(())?;
            }
            Ok(Some(length))
        }
        _ => Err(()),
    }
}

fn keep_alive(head: &Head, protocol: Protocol) -> bool {
    let says = |token: &[u8]| {
        (head.count_known(Known::Connection) > 0 || head.count_known(Known::ProxyConnection) > 0)
            && head
                .fields()
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
