//! Which HTTP a plaintext connection begins with (the HTTP inspector).

/// The client preface of HTTP/2 (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A longer first line is not waited for.
const LONGEST_LINE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// The bytes so far may become a request.
    Partial,
    Other,
    Http10,
    Http11,
    Http2,
}

impl Http {
    /// As `application_protocols` of filter chains call it.
    pub fn protocol(self) -> Option<&'static str> {
        match self {
            Http::Http10 => Some("http/1.0"),
            Http::Http11 => Some("http/1.1"),
            Http::Http2 => Some("h2c"),
            Http::Partial | Http::Other => None,
        }
    }
}

/// Judges by the preface or the request line.
pub fn http(bytes: &[u8]) -> Http {
    let known = bytes.len().min(PREFACE.len());
    if bytes[..known] == PREFACE[..known] {
        return if known == PREFACE.len() { Http::Http2 } else { Http::Partial };
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        let may_be = bytes.len() < LONGEST_LINE && begins_with_method(bytes);
        return if may_be { Http::Partial } else { Http::Other };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let mut parts = line.split(|byte| *byte == b' ').filter(|part| !part.is_empty());
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() || target.is_none() || !begins_with_method(method.unwrap_or_default()) {
        return Http::Other;
    }
    match version {
        Some(b"HTTP/1.0") => Http::Http10,
        // Whoever names another version will be told so in HTTP/1.1.
        Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']) => Http::Http11,
        _ => Http::Other,
    }
}

/// Upper-case letters up to a space, or up to the end: what all methods in use are made of.
fn begins_with_method(bytes: &[u8]) -> bool {
    let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    method.len() <= 32 && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-' || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n"[..], Http::Http11),
            (b"GET / HTTP/1.0\r\n", Http::Http10),
            (b"GET / HTTP/1.1", Http::Partial),
            (b"", Http::Partial),
            (b"PRI * HTT", Http::Partial),
            (PREFACE, Http::Http2),
            (b"\x16\x03\x01", Http::Other),
            (b"hello\r\n", Http::Other),
            (b"GET /\r\n", Http::Other),
            (b"GET / HTTP/9.9\r\n", Http::Http11),
            (b"GET / HTTP/x.y\r\n", Http::Other),
            (b"get / HTTP/1.1\r\n", Http::Other),
        ] {
            assert_eq!(http(bytes), wanted, "{}", bytes.escape_ascii());
        }
    }
}
