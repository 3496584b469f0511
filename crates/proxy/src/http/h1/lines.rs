//! The lines of an HTTP/1 head (RFC 9112 sections 2 to 5), found in one pass. Strict: what two readers could understand
//! differently is refused.

use engine::Head;
use engine::head::{Known, Span};
use engine::info::Protocol;

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The bytes end before the head does.
    Incomplete,
    BareLineFeed,
    /// A field that goes on in the next line (obs-fold).
    Fold,
    /// A well-formed version other than 1.0 and 1.1.
    OtherVersion,
    Syntax,
}

pub struct RequestLine {
    pub method: Span,
    pub target: Span,
    pub protocol: Protocol,
    /// With its CRLF.
    pub length: usize,
}

pub struct StatusLine {
    pub status: u16,
    pub protocol: Protocol,
    /// With its CRLF.
    pub length: usize,
}

/// Token characters (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let more = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < more.len() {
        allowed[more[at] as usize] = true;
        at += 1;
    }
    allowed
};

fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !TOKEN[usize::from(byte)]).unwrap_or(bytes.len())
}

/// The end of the line that begins at `start`: where its CRLF begins. Within a line there is neither CR nor LF.
fn line_end(raw: &[u8], start: usize) -> Result<usize, Broken> {
    let end = start + memchr::memchr2(b'\r', b'\n', &raw[start..]).ok_or(Broken::Incomplete)?;
    match (raw[end], raw.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(end),
        (b'\r', None) => Err(Broken::Incomplete),
        (b'\r', Some(_)) => Err(Broken::Syntax),
        _ => Err(Broken::BareLineFeed),
    }
}

/// `method SP request-target SP HTTP-version`, with single spaces.
pub fn request_line(raw: &[u8]) -> Result<RequestLine, Broken> {
    let end = line_end(raw, 0)?;
    let line = &raw[..end];
    let method = token_length(line);
    let start = method + 1;
    if method == 0 || line.get(method) != Some(&b' ') {
        return Err(Broken::Syntax);
    }
    let target = memchr::memchr(b' ', &line[start..]).ok_or(Broken::Syntax)?;
    let visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    if target == 0 || !line[start..start + target].iter().all(visible) {
        return Err(Broken::Syntax);
    }
    let protocol = version(&line[start + target + 1..])?;
    Ok(RequestLine { method: Span::new(0, method), target: Span::new(start, target), protocol, length: end + 2 })
}

/// `HTTP-version SP status-code SP [ reason-phrase ]`; the last space may be missing.
pub fn status_line(raw: &[u8]) -> Result<StatusLine, Broken> {
    let end = line_end(raw, 0)?;
    let line = &raw[..end];
    let (first, rest) = line.split_at_checked(8).ok_or(Broken::Syntax)?;
    let protocol = version(first)?;
    let [b' ', digits @ ..] = rest else { return Err(Broken::Syntax) };
    let (code, reason) = digits.split_at_checked(3).ok_or(Broken::Syntax)?;
    if !code.iter().all(u8::is_ascii_digit) || code[0] == b'0' || !matches!(reason, [] | [b' ', ..]) || !plain(reason) {
        return Err(Broken::Syntax);
    }
    let status = code.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    Ok(StatusLine { status, protocol, length: end + 2 })
}

fn version(text: &[u8]) -> Result<Protocol, Broken> {
    match text {
        b"HTTP/1.1" => Ok(Protocol::Http11),
        b"HTTP/1.0" => Ok(Protocol::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Broken::OtherVersion),
        _ => Err(Broken::Syntax),
    }
}

/// What a field section comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// It ends before this position, with its empty line.
    Ends(usize),
    TooMany,
}

/// Adds the fields in `raw` from `start` up to the empty line, at most `most`. Their spans are positions in `raw`, which
/// the head takes over afterwards.
pub fn fields(raw: &[u8], start: usize, most: usize, head: &mut Head) -> Result<Section, Broken> {
    let mut at = start;
    let mut count = 0;
    loop {
        let end = line_end(raw, at)?;
        let line = &raw[at..end];
        if line.is_empty() {
            return if plain(&raw[start..at]) { Ok(Section::Ends(end + 2)) } else { Err(Broken::Syntax) };
        }
        let name = token_length(line);
        if name == 0 || line.get(name) != Some(&b':') {
            return Err(if matches!(line[0], b' ' | b'\t') { Broken::Fold } else { Broken::Syntax });
        }
        count += 1;
        if count > most {
            return Ok(Section::TooMany);
        }
        let known = Known::of(&line[..name]);
        let value = trimmed(line, name + 1);
        let value = Span::new(at + value.start as usize, value.len as usize);
        head.push_line(known, Span::new(at, name), value, Span::new(at, line.len() + 2));
        at = end + 2;
    }
}

/// The part of `line` from `start` on without white space around it.
fn trimmed(line: &[u8], start: usize) -> Span {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let (mut start, mut end) = (start, line.len());
    while start < end && blank(line[start]) {
        start += 1;
    }
    while end > start && blank(line[end - 1]) {
        end -= 1;
    }
    Span::new(start, end - start)
}

/// No control characters but tabs and line ends, which were looked at already. Without branches, so that it goes many
/// bytes at a time.
fn plain(text: &[u8]) -> bool {
    let control = |byte: u8| (byte < b' ') & (byte != b'\t') & (byte != b'\r') & (byte != b'\n') | (byte == 0x7f);
    text.iter().fold(0, |found, &byte| found | u8::from(control(byte))) == 0
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
