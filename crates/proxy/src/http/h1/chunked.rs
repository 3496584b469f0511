//! The chunked transfer coding (RFC 9112 section 7.1), decoded step by step from a buffer.

/// Longest chunk-size line with extensions, and longest trailer section, in bytes.
const LINE_LIMIT: usize = 4 * 1024;
const TRAILER_LIMIT: usize = 16 * 1024;

/// Where the decoder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// At a chunk-size line.
    Size,
    /// Inside a chunk with this many bytes left.
    Data(u64),
    /// At the CRLF after a chunk.
    DataEnd,
    /// In the trailer section.
    Trailers,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// What the bytes at hand allow.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// This many bytes at the start of the buffer are data.
    Data(usize),
    /// This many bytes of framing were read; go on.
    Skip(usize),
    /// The trailer section, without its final CRLF, takes this many bytes; with it two more. The body ends.
    End {
        trailers: usize,
    },
    More,
}

impl Chunked {
    /// Looks at `bytes`; the caller consumes what the step says and, for data, reports it by `took`.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        match *self {
            Chunked::Size => self.size_line(bytes),
            Chunked::Data(left) if bytes.is_empty() && left > 0 => Ok(Step::More),
            Chunked::Data(left) => Ok(Step::Data(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)))),
            Chunked::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    *self = Chunked::Size;
                    Ok(Step::Skip(2))
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(Malformed),
            },
            Chunked::Trailers => self.trailers(bytes),
            Chunked::Done => Ok(Step::End { trailers: 0 }),
        }
    }

    /// `count` data bytes were consumed.
    pub fn took(&mut self, count: usize) {
        if let Chunked::Data(left) = self {
            *left -= count as u64;
            if *left == 0 {
                *self = Chunked::DataEnd;
            }
        }
    }

    fn size_line(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let Some(at) = memchr::memchr(b'\n', bytes) else {
            let plausible = bytes.len() <= LINE_LIMIT && bytes.first().is_none_or(u8::is_ascii_hexdigit);
            return if plausible { Ok(Step::More) } else { Err(Malformed) };
        };
        if at == 0 || bytes[at - 1] != b'\r' || at > LINE_LIMIT {
            return Err(Malformed);
        }
        let line = &bytes[..at - 1];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 || digits > 15 {
            return Err(Malformed);
        }
        let extension = line[digits..].trim_ascii_start();
        let clean = extension.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f));
        if !(extension.is_empty() && line.len() == digits || extension.first() == Some(&b';')) || !clean {
            return Err(Malformed);
        }
        let text = std::str::from_utf8(&line[..digits]).map_err(|_| Malformed)?;
        let size = u64::from_str_radix(text, 16).map_err(|_| Malformed)?;
        *self = if size == 0 { Chunked::Trailers } else { Chunked::Data(size) };
        Ok(Step::Skip(at + 1))
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let mut from = 0;
        while let Some(offset) = memchr::memchr(b'\n', &bytes[from..]) {
            let at = from + offset;
            if at == 0 || bytes[at - 1] != b'\r' || at > TRAILER_LIMIT {
                return Err(Malformed);
            }
            if at == from + 1 {
                *self = Chunked::Done;
                return Ok(Step::End { trailers: from });
            }
            from = at + 1;
        }
        if bytes.len() > TRAILER_LIMIT { Err(Malformed) } else { Ok(Step::More) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` fed in pieces of `piece` bytes.
    fn decode(input: &[u8], piece: usize) -> Result<Option<Vec<u8>>, Malformed> {
        let mut decoder = Chunked::Size;
        let mut buffer = Vec::new();
        let mut data = Vec::new();
        let mut pieces = input.chunks(piece);
        loop {
            match decoder.step(&buffer)? {
                Step::Data(count) => {
                    data.extend(buffer.drain(..count));
                    decoder.took(count);
                }
                Step::Skip(count) => {
                    buffer.drain(..count);
                }
                Step::End { .. } => return Ok(Some(data)),
                Step::More => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Ok(None),
                },
            }
        }
    }

    #[test]
    fn valid() {
        for piece in 1..40 {
            let whole = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX: y\r\n\r\n";
            assert_eq!(decode(whole, piece), Ok(Some(b"hello world".to_vec())), "{piece}");
            assert_eq!(decode(b"0\r\n\r\n", piece), Ok(Some(vec![])));
            assert_eq!(decode(b"5\r\nhel", piece), Ok(None));
        }
    }

    #[test]
    fn invalid() {
        for input in [
            "g\r\n",
            "5\nhello",
            "-1\r\n",
            "0x5\r\nhello",
            " 5\r\nhello",
            "5 \r\nhello",
            "5\r\nhelloX\r\n",
            "\r\n",
            "5;\n",
            "1234567890abcdef0\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "5;a=\0\r\nhello",
        ] {
            for piece in [1, 100] {
                assert_eq!(decode(input.as_bytes(), piece), Err(Malformed), "{input:?}");
            }
        }
    }
}
