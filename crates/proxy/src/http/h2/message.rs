//! Heads as header blocks carry them (RFC 9113 section 8).

use super::hpack::{Decoder, Encoder, Malformed};
use crate::http::h1::Framing;
use crate::http::heads;
use engine::head::{Head, Known};

/// Bounds on a head that is received.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of names and values.
    pub bytes: usize,
    pub fields: usize,
}

/// What a header block may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `extended`: CONNECT may say which protocol follows (RFC 8441).
    Request {
        extended: bool,
    },
    Response,
    Trailers,
}

/// A header block that was decoded.
pub struct Received {
    pub head: Head,
    /// It breaks the rules of section 8: its stream is reset.
    pub malformed: bool,
    /// It exceeds the limits; the head holds what came before.
    pub too_large: bool,
    pub length: Option<u64>,
}

impl Received {
    /// The whole block is decoded, whatever it holds: it changes the decoder's state.
    pub fn decode(decoder: &mut Decoder, block: &[u8], kind: Kind, limits: Limits) -> Result<Received, Malformed> {
        let mut head = Head::default();
        heads::lend(&mut head);
        head.clear();
        let received = Received { head, malformed: false, too_large: false, length: None };
        let mut reading = Reading {
            received,
            kind,
            limits,
            bytes: 0,
            fields: 0,
            pseudo: 0,
            regular: false,
            protocol: Vec::new(),
            cookies: Vec::new(),
        };
        decoder.decode(block, |name, value| reading.field(name, value))?;
        Ok(reading.finish())
    }
}

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const PATH: u8 = 4;
const AUTHORITY: u8 = 8;
const STATUS: u8 = 16;
const PROTOCOL: u8 = 32;

struct Reading {
    received: Received,
    kind: Kind,
    limits: Limits,
    bytes: usize,
    fields: usize,
    /// Pseudo-header fields that were there.
    pseudo: u8,
    regular: bool,
    /// What follows an extended CONNECT.
    protocol: Vec<u8>,
    /// Crumbs of the cookie, which become one field again (section 8.2.3).
    cookies: Vec<u8>,
}

impl Reading {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.bytes += name.len() + value.len();
        self.fields += 1;
        if self.bytes > self.limits.bytes || self.fields > self.limits.fields {
            self.received.too_large = true;
            return;
        }
        let good = if name.first() == Some(&b':') { self.pseudo(name, value) } else { self.regular(name, value) };
        self.received.malformed |= good.is_none();
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let bit = match (name, self.kind) {
            (b":method", Kind::Request { .. }) => METHOD,
            (b":scheme", Kind::Request { .. }) => SCHEME,
            (b":path", Kind::Request { .. }) => PATH,
            (b":authority", Kind::Request { .. }) => AUTHORITY,
            (b":protocol", Kind::Request { extended: true }) => PROTOCOL,
            (b":status", Kind::Response) => STATUS,
            _ => return None,
        };
        if self.regular || self.pseudo & bit != 0 {
            return None;
        }
        self.pseudo |= bit;
        let head = &mut self.received.head;
        match bit {
            METHOD if is_token(value) => head.set_method(value),
            SCHEME if is_scheme(value) => head.set_scheme(value),
            PATH if is_target(value) => head.set_path(value),
            AUTHORITY if is_authority(value) => head.set_authority(value),
            PROTOCOL if is_token(value) => self.protocol.extend_from_slice(value),
            STATUS => head.status = status(value)?,
            _ => return None,
        }
        Some(())
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.regular = true;
        if !is_field_name(name) || !is_field_value(value) {
            return None;
        }
        match Known::of(name) {
            // The head's own fields describe the stream, not the connection (section 8.2.2).
            Known::Connection
            | Known::ProxyConnection
            | Known::KeepAlive
            | Known::TransferEncoding
            | Known::Upgrade => {
                return None;
            }
            Known::Te if value != b"trailers" => return None,
            Known::Host => {
                if self.pseudo & AUTHORITY == 0 && matches!(self.kind, Kind::Request { .. }) {
                    if self.received.head.authority().is_empty() && is_authority(value) {
                        self.received.head.set_authority(value);
                    } else {
                        return None;
                    }
                }
                return Some(());
            }
            Known::ContentLength => {
                let length = length(value)?;
                if self.received.length.replace(length).is_some_and(|before| before != length) {
                    return None;
                }
            }
            Known::Other if name == b"cookie" => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                return Some(());
            }
            _ => {}
        }
        self.received.head.push(name, value);
        Some(())
    }

    fn finish(mut self) -> Received {
        if !self.cookies.is_empty() {
            self.received.head.push(b"cookie", &self.cookies);
        }
        let complete = match self.kind {
            Kind::Trailers => true,
            Kind::Response => self.pseudo == STATUS,
            Kind::Request { .. } if self.pseudo & PROTOCOL != 0 => self.upgrade(),
            // Of CONNECT only the authority is said (section 8.5).
            Kind::Request { .. } if self.received.head.method() == b"CONNECT" => self.pseudo == METHOD | AUTHORITY,
            Kind::Request { .. } => self.pseudo & !AUTHORITY == METHOD | SCHEME | PATH && self.path_fits(),
        };
        self.received.malformed |= !complete && !self.received.too_large;
        self.received
    }

    /// An extended CONNECT has the form of HTTP/1.1 from here on: a GET that asks for an upgrade.
    fn upgrade(&mut self) -> bool {
        let head = &mut self.received.head;
        let complete = head.method() == b"CONNECT" && self.pseudo == METHOD | SCHEME | PATH | AUTHORITY | PROTOCOL;
        head.set_method(b"GET");
        head.push(b"upgrade", &self.protocol);
        head.push(b"connection", b"upgrade");
        complete
    }

    /// `*` is for OPTIONS only (section 8.3.1).
    fn path_fits(&self) -> bool {
        let head = &self.received.head;
        head.path() != b"*" || head.method() == b"OPTIONS"
    }
}

/// HTTP/2 can carry the request.
pub fn can_carry(head: &Head) -> bool {
    is_authority(head.authority()) && (head.path().is_empty() || is_target(head.path()))
}

/// Encodes a request head. With `framing` comes the length of the body, when it is known. `upgrade`: what HTTP/1.1 asks
/// for with `Upgrade` becomes an extended CONNECT (RFC 8441 section 5).
pub fn request(head: &Head, framing: Framing, upgrade: bool, encoder: &mut Encoder, out: &mut Vec<u8>) {
    let protocol = head.get_known(Known::Upgrade).filter(|_| upgrade);
    encoder.start(out);
    encoder.method(if protocol.is_some() { b"CONNECT" } else { head.method() }, out);
    if protocol.is_some() || head.method() != b"CONNECT" {
        encoder.scheme(if head.scheme().is_empty() { b"http" } else { head.scheme() }, out);
        encoder.path(if head.path().is_empty() { b"/" } else { head.path() }, out);
    }
    if !head.authority().is_empty() {
        encoder.field(b":authority", head.authority(), out);
    }
    if let Some(protocol) = protocol {
        encoder.field(b":protocol", protocol, out);
    }
    let length = match framing {
        Framing::Length(length) => Some(length),
        _ => None,
    };
    for field in head.fields() {
        match field.known {
            Known::Host | Known::Expect => {}
            Known::ContentLength if length.is_some() => {}
            Known::Te => {
                if head.has_token(Known::Te, b"trailers") {
                    encoder.field(b"te", b"trailers", out);
                }
            }
            known if known.hop_by_hop() => {}
            _ => encoder.field(head.slice(field.name), head.slice(field.value), out),
        }
    }
    if let Some(length) = length {
        encoder.field(b"content-length", itoa::Buffer::new().format(length).as_bytes(), out);
    }
}

/// Encodes a response head. A switch of protocols is agreed to by 200 (RFC 8441 section 5).
pub fn response(head: &Head, encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.start(out);
    encoder.status(if head.status == 101 { 200 } else { head.status }, out);
    trailers(head, encoder, out);
}

/// Encodes the fields alone.
pub fn trailers(head: &Head, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for field in head.fields() {
        if !field.known.hop_by_hop() && field.known != Known::Host {
            encoder.field(head.slice(field.name), head.slice(field.value), out);
        }
    }
}

/// Bits per byte: what it may be part of.
const TOKEN: u8 = 1;
const NAME: u8 = 2;
const VALUE: u8 = 4;
const TARGET: u8 = 8;
const HOST: u8 = 16;

const BYTES: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() {
            table[at] |= TOKEN | HOST;
        }
        if byte.is_ascii_alphanumeric() && !byte.is_ascii_uppercase() {
            table[at] |= NAME;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            table[at] |= VALUE;
        }
        if byte > b' ' && byte != 0x7f {
            table[at] |= TARGET;
        }
        at += 1;
    }
    let token = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < token.len() {
        table[token[at] as usize] |= TOKEN | NAME;
        at += 1;
    }
    let host = b"-._~%!$&'()*+,;=:[]@";
    let mut at = 0;
    while at < host.len() {
        table[host[at] as usize] |= HOST;
        at += 1;
    }
    table
};

/// All bytes have the bit. Without branches per byte: this is asked of every byte of every head.
fn all(text: &[u8], bit: u8) -> bool {
    text.iter().fold(0xff, |bits, &byte| bits & BYTES[usize::from(byte)]) & bit != 0
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, TOKEN)
}

fn is_field_name(text: &[u8]) -> bool {
    !text.is_empty() && all(text, NAME)
}

/// No control characters, no white space at either end (section 8.2.1).
fn is_field_value(text: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    all(text, VALUE) && !blank(text.first()) && !blank(text.last())
}

fn is_scheme(text: &[u8]) -> bool {
    text == b"http" || text == b"https"
}

/// A path, or `*`. Beyond ASCII only UTF-8 is let through, as over HTTP/1.
fn is_target(text: &[u8]) -> bool {
    let begins = text.first() == Some(&b'/') || text == b"*";
    begins && all(text, TARGET) && (text.is_ascii() || std::str::from_utf8(text).is_ok())
}

fn is_authority(text: &[u8]) -> bool {
    all(text, HOST)
}

fn status(text: &[u8]) -> Option<u16> {
    match *text {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some([a, b, c].iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
        }
        _ => None,
    }
}

fn length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 1000, fields: 20 };
    const REQUEST: Kind = Kind::Request { extended: true };

    /// Decodes fields that were sent as literals.
    fn received(kind: Kind, fields: &[(&str, &str)]) -> Received {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.extend([0, name.len() as u8]);
            block.extend_from_slice(name.as_bytes());
            block.push(value.len() as u8);
            block.extend_from_slice(value.as_bytes());
        }
        Received::decode(&mut Decoder::default(), &block, kind, LIMITS).unwrap()
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "shop")];

    fn get(more: &[(&'static str, &'static str)]) -> Received {
        received(REQUEST, &[&GET[..], more].concat())
    }

    #[test]
    fn a_request_is_read() {
        let read =
            get(&[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("content-length", "7"), ("te", "trailers")]);
        let head = &read.head;
        assert!(!read.malformed && !read.too_large);
        assert_eq!((head.method(), head.scheme(), head.path()), (&b"GET"[..], &b"https"[..], &b"/a?b"[..]));
        assert_eq!((head.authority(), head.get(b"cookie")), (&b"shop"[..], Some(&b"a=1; b=2"[..])));
        assert_eq!((read.length, head.get(b"x-a")), (Some(7), Some(&b"1"[..])));
        let host = received(REQUEST, &[&GET[..3], &[("host", "inn")]].concat());
        assert!(!host.malformed && host.head.authority() == b"inn" && host.head.get(b"host").is_none());
        let connect = received(REQUEST, &[(":method", "CONNECT"), (":authority", "a:1")]);
        assert!(!connect.malformed);
        let options = received(REQUEST, &[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")]);
        assert!(!options.malformed);
    }

    #[test]
    fn malformed_requests() {
        for more in [
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("X-Upper", "1"),
            ("", "1"),
            ("a b", "1"),
            ("x-a", " 1"),
            ("x-a", "1\t"),
            ("x-a", "1\r\nx: y"),
            ("x-a", "\0"),
            ("content-length", "+1"),
            ("content-length", ""),
            (":path", "/again"),
            (":status", "200"),
            (":other", "1"),
        ] {
            assert!(get(&[more]).malformed, "{more:?}");
        }
        assert!(get(&[("content-length", "1"), ("content-length", "2")]).malformed);
        for (at, (name, _)) in GET.iter().enumerate().take(3) {
            let mut without = GET.to_vec();
            without.remove(at);
            assert!(received(REQUEST, &without).malformed, "without {name}");
            let mut late = GET.to_vec();
            late.insert(0, ("x-early", "1"));
            assert!(received(REQUEST, &late).malformed);
        }
        for (name, value) in [
            (":path", ""),
            (":path", "a"),
            (":path", "*"),
            (":path", "/a b"),
            (":scheme", "ftp"),
            (":authority", "a/b"),
        ] {
            let changed = GET.map(|(n, v)| if n == name { (n, value) } else { (n, v) });
            assert!(received(REQUEST, &changed).malformed, "{name}: {value}");
        }
        assert!(received(Kind::Trailers, &[(":path", "/")]).malformed);
        assert!(received(Kind::Response, &[("x", "y")]).malformed);
        assert!(received(Kind::Response, &[(":status", "20")]).malformed);
    }

    #[test]
    fn an_extended_connect_is_an_upgrade() {
        let fields = [
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":path", "/chat"),
            (":authority", "a"),
            (":protocol", "websocket"),
        ];
        let read = received(REQUEST, &fields);
        let head = &read.head;
        assert!(!read.malformed);
        assert_eq!(
            (head.method(), head.path(), head.get(b"upgrade")),
            (&b"GET"[..], &b"/chat"[..], Some(&b"websocket"[..]))
        );
        assert_eq!(head.get(b"connection"), Some(&b"upgrade"[..]));
        let mut block = Vec::new();
        request(head, Framing::None, true, &mut Encoder::default(), &mut block);
        let mut seen = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Decoder::default().decode(&block, |name, value| seen.push((text(name), text(value)))).unwrap();
        assert_eq!(seen.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>(), fields);
        assert!(received(Kind::Request { extended: false }, &fields).malformed, "it was not offered");
        assert!(received(REQUEST, &fields[1..]).malformed);
        assert!(get(&[(":protocol", "websocket")]).malformed);
        assert!(received(REQUEST, &[&GET[..], &fields[4..]].concat()).malformed, "a GET says no protocol");
    }

    #[test]
    fn limits_hold() {
        assert!(get(&[("x-a", "1"); 17]).too_large);
        let long: &'static str = "v".repeat(100).leak();
        assert!(get(&[("x-a", long); 10]).too_large);
        assert!(!get(&[("x-a", long); 8]).too_large);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut read = get(&[("x-a", "1"), ("te", "trailers")]);
        read.head.push(b"Connection", b"close");
        read.head.push(b"X-Mixed-Case", b"2");
        read.head.push(b"Host", b"other");
        let mut block = Vec::new();
        request(&read.head, Framing::Length(5), false, &mut Encoder::default(), &mut block);
        let again = Received::decode(&mut Decoder::default(), &block, REQUEST, LIMITS).unwrap();
        assert!(!again.malformed);
        assert_eq!((again.length, again.head.authority()), (Some(5), &b"shop"[..]));
        assert_eq!(again.head.get(b"x-mixed-case"), Some(&b"2"[..]));
        assert!(again.head.get(b"connection").is_none() && again.head.get(b"host").is_none());

        let mut answer = Head::default();
        answer.status = 503;
        answer.push(b"Server", b"envoy");
        let mut block = Vec::new();
        response(&answer, &mut Encoder::default(), &mut block);
        let again = Received::decode(&mut Decoder::default(), &block, Kind::Response, LIMITS).unwrap();
        assert_eq!((again.malformed, again.head.status, again.head.get(b"server")), (false, 503, Some(&b"envoy"[..])));
    }
}
