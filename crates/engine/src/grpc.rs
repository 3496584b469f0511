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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_escaped() {
        assert_eq!(message(b"plain text ~"), b"plain text ~");
        assert_eq!(message("100% \u{fc}\n".as_bytes()), b"100%25 %C3%BC%0A");
    }
}
