//! The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.1/doc/proxy-protocol.txt): reads and writes headers.

use model::listener::ProxyVersion;
use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest version 1 header, line end included, and one byte.
const LONGEST_V1: usize = 108;
const V2_HEAD: usize = 16;

/// Source and destination of the connection that the sender speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: ProxyVersion,
    /// Bytes it takes.
    pub length: usize,
    /// `None`: the sender speaks for itself (`UNKNOWN`, `LOCAL`).
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The bytes so far may become a header.
    Partial,
    /// They begin with something else.
    Other,
    Header(Header),
}

/// Begins as a header and is none; the text says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PROXY protocol: {}", self.0)
    }
}

/// Reads what stands at the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Found, Malformed> {
    let begins = |signature: &[u8]| {
        let known = bytes.len().min(signature.len());
        bytes[..known] == signature[..known]
    };
    if begins(V2) {
        return if bytes.len() < V2_HEAD { v2_head(bytes) } else { v2(bytes) };
    }
    if begins(V1) {
        return if bytes.len() < V1.len() { Ok(Found::Partial) } else { v1(bytes) };
    }
    Ok(Found::Other)
}

fn v1(bytes: &[u8]) -> Result<Found, Malformed> {
    let window = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= LONGEST_V1 { Err(Malformed("the line does not end")) } else { Ok(Found::Partial) };
    };
    let line = std::str::from_utf8(&bytes[V1.len()..end]).map_err(|_| Malformed("the line is not text"))?;
    let header = |origin| Ok(Found::Header(Header { version: ProxyVersion::V1, length: end + 2, origin }));
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return header(None);
    }
    let parts: Vec<&str> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = parts.as_slice() else {
        return Err(Malformed("the line has not five parts"));
    };
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        let wrong = |_| Malformed("an address is none of its family");
        match *family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(wrong),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(wrong),
            _ => Err(Malformed("the family is neither TCP4 nor TCP6 nor UNKNOWN")),
        }
    };
    let port = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| Malformed("a port is out of range")),
        false => Err(Malformed("a port is no number")),
    };
    let source = SocketAddr::new(address(source)?, port(source_port)?);
    let destination = SocketAddr::new(address(destination)?, port(destination_port)?);
    header(Some(Origin { source, destination }))
}

/// Version and command are known before the length is.
fn v2_head(bytes: &[u8]) -> Result<Found, Malformed> {
    match bytes.get(12) {
        Some(byte) if byte >> 4 != 2 => Err(Malformed("the version is not 2")),
        Some(byte) if byte & 15 > 1 => Err(Malformed("the command is neither LOCAL nor PROXY")),
        _ => Ok(Found::Partial),
    }
}

fn v2(bytes: &[u8]) -> Result<Found, Malformed> {
    v2_head(bytes)?;
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let header = |origin| Ok(Found::Header(Header { version: ProxyVersion::V2, length: V2_HEAD + length, origin }));
    let local = bytes[12] & 15 == 0;
    let needed = match bytes[13] {
        _ if local => 0,
        0x11 => 12,
        0x21 => 36,
        _ => return Err(Malformed("only TCP over IPv4 and IPv6 is understood")),
    };
    if length < needed {
        return Err(Malformed("the addresses do not fit its length"));
    }
    let Some(body) = bytes.get(V2_HEAD..V2_HEAD + length) else { return Ok(Found::Partial) };
    match needed {
        0 => header(None),
        12 => {
            let ip = |at: usize| Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]);
            header(Some(origin(ip(0).into(), ip(4).into(), &body[8..12])))
        }
        _ => {
            let ip = |at: usize| body[at..at + 16].try_into().map(|octets: [u8; 16]| Ipv6Addr::from(octets));
            let (Ok(source), Ok(destination)) = (ip(0), ip(16)) else { return Err(Malformed("too short")) };
            header(Some(origin(source.into(), destination.into(), &body[32..36])))
        }
    }
}

fn origin(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Origin {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Origin { source: SocketAddr::new(source, port(0)), destination: SocketAddr::new(destination, port(2)) }
}

/// Appends a header that speaks for `origin`, or for the sender itself.
pub fn write(version: ProxyVersion, origin: Option<Origin>, out: &mut Vec<u8>) {
    let origin = origin.map(same_family);
    match (version, origin) {
        (ProxyVersion::V1, None) => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        (ProxyVersion::V1, Some(Origin { source, destination })) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            // Writing to a Vec cannot fail.
            let _ = write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
        }
        (ProxyVersion::V2, None) => {
            out.extend_from_slice(V2);
            out.extend_from_slice(&[0x20, 0, 0, 0]);
        }
        (ProxyVersion::V2, Some(Origin { source, destination })) => {
            out.extend_from_slice(V2);
            let v4 = source.is_ipv4();
            out.extend_from_slice(if v4 { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
            for ip in [source.ip(), destination.ip()] {
                match ip {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
    }
}

/// A header has one family: where they differ, the IPv4 address is written as IPv6.
fn same_family(origin: Origin) -> Origin {
    if origin.source.is_ipv4() == origin.destination.is_ipv4() {
        return origin;
    }
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    Origin { source: mapped(origin.source), destination: mapped(origin.destination) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(bytes: &[u8]) -> Header {
        match parse(bytes) {
            Ok(Found::Header(header)) => header,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_1() {
        let got = header(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /");
        let origin = got.origin.unwrap();
        assert_eq!((origin.source.to_string(), origin.destination.port()), ("192.0.2.1:56324".into(), 443));
        assert_eq!(got.length, 42);
        assert!(header(b"PROXY UNKNOWN\r\n").origin.is_none());
        assert!(header(b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n").origin.is_none());
        assert_eq!(header(b"PROXY TCP6 ::1 ::2 1 2\r\n").origin.unwrap().source.to_string(), "[::1]:1");
    }

    #[test]
    fn what_is_no_header() {
        for bad in [
            &b"PROXY TCP4 ::1 ::2 1 2\r\n"[..],
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            &[b"PROXY TCP4 ", &[b'1'; 120][..]].concat(),
            b"\r\n\r\n\0\r\nQUIT\n\x31",
            b"\r\n\r\n\0\r\nQUIT\n\x22",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b12345678901",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c123456789012",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert_eq!(parse(b"GET / HTTP/1.1"), Ok(Found::Other));
        assert_eq!(parse(b"PROX"), Ok(Found::Partial));
        assert_eq!(parse(b"\r\n\r\n"), Ok(Found::Partial));
        assert_eq!(parse(b""), Ok(Found::Partial));
    }

    #[test]
    fn version_2_with_extensions() {
        let bytes =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\x01\x02\x03\x04\x05\x06\x07\x08\x00\x50\x01\xbb\x04\0\x01\0rest";
        let got = header(bytes);
        assert_eq!(got.origin.unwrap().source.to_string(), "1.2.3.4:80");
        assert_eq!(got.length, 32);
        assert!(header(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").origin.is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(v4: bool, second_v4: bool, ports: (u16, u16), a: u128, b: u128, v2: bool) {
            let ip = |v4: bool, bits: u128| match v4 {
                true => IpAddr::V4(Ipv4Addr::from(bits as u32)),
                false => IpAddr::V6(Ipv6Addr::from(bits)),
            };
            let origin = Origin {
                source: SocketAddr::new(ip(v4, a), ports.0),
                destination: SocketAddr::new(ip(second_v4, b), ports.1),
            };
            let version = if v2 { ProxyVersion::V2 } else { ProxyVersion::V1 };
            let mut bytes = Vec::new();
            write(version, Some(origin), &mut bytes);
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(Found::Partial));
            }
            let read = Header { version, length: bytes.len(), origin: Some(same_family(origin)) };
            prop_assert_eq!(parse(&bytes), Ok(Found::Header(read)));
        }

        #[test]
        fn nothing_makes_it_panic(tail: Vec<u8>, v2: bool) {
            let start: &[u8] = if v2 { V2 } else { V1 };
            let _ = parse(&[start, &tail].concat());
            let _ = parse(&tail);
        }
    }
}
