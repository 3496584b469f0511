//! gRPC-Web ("PROTOCOL-WEB" of the gRPC project): gRPC for browsers, which cannot read trailers, over any HTTP. A
//! request becomes one of gRPC; the response's trailers become a last frame of its body. The `-text` forms are base64.

use crate::grpc;
use crate::head::{Head, Known};
use model::refusal::grpc_of_http;

/// A request that came as gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Web {
    /// Its body is base64.
    pub text: bool,
    /// So is what the client wants back.
    pub answer_text: bool,
}

/// Longest body of another protocol's answer that is told as `grpc-message`, in bytes.
pub const LONGEST_MESSAGE: usize = 16 * 1024;
/// The flag of a frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// Makes a gRPC request of one that is gRPC-Web.
pub fn request(head: &mut Head) -> Option<Web> {
    let text = match head.get(b"content-type")? {
        b"application/grpc-web" | b"application/grpc-web+proto" => false,
        b"application/grpc-web-text" | b"application/grpc-web-text+proto" => true,
        _ => return None,
    };
    let accepts = head.get(b"accept").unwrap_or_default();
    let answer_text = matches!(accepts, b"application/grpc-web-text" | b"application/grpc-web-text+proto");
    head.remove_known(Known::ContentLength);
    head.set(b"content-type", b"application/grpc");
    head.set(b"te", b"trailers");
    if head.get(b"grpc-accept-encoding").is_none() {
        head.push(b"grpc-accept-encoding", b"identity");
    }
    Some(Web { text, answer_text })
}

/// The answer is gRPC's; `over`: it has no body.
pub fn is_answer(head: &Head, over: bool) -> bool {
    head.status == 200 && if over { head.get(b"grpc-status").is_some() } else { head.is_grpc() }
}

impl Web {
    /// Makes a gRPC answer one of gRPC-Web.
    pub fn answer(self, head: &mut Head) {
        head.remove_known(Known::ContentLength);
        let text: &[u8] = b"application/grpc-web-text+proto";
        head.set(b"content-type", if self.answer_text { text } else { b"application/grpc-web+proto" });
    }

    /// Makes an answer of another protocol, with this body, one of gRPC-Web without a body.
    pub fn explain(self, head: &mut Head, body: &[u8]) {
        self.answer(head);
        head.set(b"grpc-message", &grpc::message(&body[..body.len().min(LONGEST_MESSAGE)]));
        head.set(b"grpc-status", itoa::Buffer::new().format(grpc_of_http(head.status)).as_bytes());
        head.set(b"content-length", b"0");
    }

    /// A piece of the answer's body.
    pub fn data(self, data: &[u8], out: &mut Vec<u8>) {
        if self.answer_text { encode(data, out) } else { out.extend_from_slice(data) }
    }

    /// The frame that holds the trailers.
    pub fn trailers(self, trailers: &Head, out: &mut Vec<u8>) {
        let mut frame = vec![TRAILERS, 0, 0, 0, 0];
        for field in trailers.fields() {
            frame.extend(trailers.slice(field.name).to_ascii_lowercase());
            frame.push(b':');
            frame.extend_from_slice(trailers.slice(field.value));
            frame.extend_from_slice(b"\r\n");
        }
        let length = u32::try_from(frame.len() - 5).unwrap_or(u32::MAX);
        frame[1..5].copy_from_slice(&length.to_be_bytes());
        self.data(&frame, out);
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding (RFC 4648 section 4).
fn encode(data: &[u8], out: &mut Vec<u8>) {
    for piece in data.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*piece.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= piece.len() { digit } else { b'=' });
        }
    }
}

/// Not base64, or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads base64 as it comes. Each of several pieces may end with its own padding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    bits: u32,
    /// Characters of a group of four that were read, and how many of them were padding.
    read: u8,
    padding: u8,
}

impl Decoder {
    pub fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        for &byte in text {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.read >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return Err(Malformed),
            };
            if byte != b'=' && self.padding > 0 {
                return Err(Malformed);
            }
            self.bits = self.bits << 6 | u32::from(value);
            self.read += 1;
            if self.read == 4 {
                let bytes = self.bits.to_be_bytes();
                out.extend_from_slice(&bytes[1..4 - usize::from(self.padding)]);
                *self = Decoder::default();
            }
        }
        Ok(())
    }

    /// Nothing is left over.
    pub fn is_complete(&self) -> bool {
        self.read == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, Malformed> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        pieces.iter().try_for_each(|piece| decoder.decode(piece, &mut out))?;
        if decoder.is_complete() { Ok(out) } else { Err(Malformed) }
    }

    #[test]
    fn base64() {
        // RFC 4648 section 10.
        for (plain, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            let mut out = Vec::new();
            encode(plain.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(decode(&[text.as_bytes()]), Ok(plain.into()));
        }
        assert_eq!(decode(&[b"Zg==Zm8=", b"Zm9v"]), Ok(b"ffofoo".to_vec()));
        for wrong in ["Z", "Zg", "Zg=", "=g==", "Z===", "Zg=a", "Zm9v\n", "Zm9-"] {
            assert_eq!(decode(&[wrong.as_bytes()]), Err(Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(data: Vec<u8>, at: prop::sample::Index) {
            let mut text = Vec::new();
            encode(&data, &mut text);
            let (first, second) = text.split_at(at.index(text.len() + 1));
            prop_assert_eq!(decode(&[first, second]), Ok(data));
        }
    }

    #[test]
    fn heads_and_trailers() {
        let mut head = Head::default();
        head.push(b"Content-Type", b"application/grpc-web-text");
        head.push(b"Accept", b"application/grpc-web-text+proto");
        head.push(b"Content-Length", b"5");
        assert_eq!(request(&mut head), Some(Web { text: true, answer_text: true }));
        assert!(head.is_grpc() && head.get(b"content-length").is_none());
        assert_eq!(request(&mut head), None, "it is gRPC now");
        let mut trailers = Head::default();
        trailers.push(b"Grpc-Status", b"0");
        let mut out = Vec::new();
        Web { text: false, answer_text: false }.trailers(&trailers, &mut out);
        assert_eq!(out, b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    }
}
