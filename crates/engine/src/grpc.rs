//! The proxy's own answers in gRPC's form.

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

/// The HTTP status that a `grpc-status` stands for, where hosts are judged by it.
pub fn http_status(code: &[u8]) -> u16 {
    match std::str::from_utf8(code).ok().and_then(|text| text.trim().parse::<u8>().ok()) {
        Some(0) => 200,
        Some(1) => 499,
        Some(3 | 9 | 11) => 400,
        Some(4) => 504,
        Some(5) => 404,
        Some(6 | 10) => 409,
        Some(7) => 403,
        Some(8) => 429,
        Some(12) => 501,
        Some(14) => 503,
        Some(16) => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        for (code, status) in [("0", 200), ("8", 429), ("14", 503), ("13", 500), ("99", 500), ("", 500)] {
            assert_eq!(http_status(code.as_bytes()), status, "{code}");
        }
    }

    #[test]
    fn messages_are_escaped() {
        assert_eq!(message(b"plain text ~"), b"plain text ~");
        assert_eq!(message("100% \u{fc}\n".as_bytes()), b"100%25 %C3%BC%0A");
    }
}
