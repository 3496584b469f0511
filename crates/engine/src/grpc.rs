//! The proxy's own answers in gRPC's form.

/// The status a gRPC client is told for an HTTP one, as Envoy and gRPC map them.
pub fn status(http: u16) -> u8 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `grpc-message`: everything but printable ASCII, and `%`, as `%XX` (gRPC over HTTP/2, "Responses").
pub fn message(text: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for &byte in text {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_escaped() {
        assert_eq!(message(b"plain text ~"), b"plain text ~");
        assert_eq!(message("100% \u{fc}\n".as_bytes()), b"100%25 %C3%BC%0A");
    }

    #[test]
    fn statuses() {
        assert_eq!([200, 302, 400, 403, 404, 503].map(status), [2, 2, 13, 7, 12, 14]);
    }
}
