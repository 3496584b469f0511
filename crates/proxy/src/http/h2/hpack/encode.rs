//! Encodes header blocks (RFC 7541 section 6). Strings go as they are: on a hop between two proxies the time that
//! Huffman's code takes is dearer than the bytes it saves. Fields that come again go into the dynamic table.

use super::TABLE_SIZE;
use super::table::{STATIC, Table};
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hasher};

/// Fields remembered as sent before, by their hash.
const SLOTS: usize = 128;

/// The sending direction's state.
pub struct Encoder {
    table: Table,
    /// Made with the first field that could be kept.
    slots: Vec<Slot>,
    /// The size the peer must be told of in the next block.
    resized: Option<usize>,
    /// A field's name and value.
    joined: Vec<u8>,
}

/// A field sent before.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u32,
    /// Its entry's number in the table; 0 while it was sent only once.
    number: u32,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { table: Table::new(TABLE_SIZE), slots: Vec::new(), resized: None, joined: Vec::new() }
    }
}

impl Encoder {
    /// The peer's `SETTINGS_HEADER_TABLE_SIZE`.
    pub fn limit(&mut self, size: usize) {
        let size = size.min(TABLE_SIZE);
        if size != self.table.max() {
            // Were it made smaller and larger again between two blocks, the smallest size would have to be told.
            self.table.resize(size);
            self.resized = Some(self.resized.map_or(size, |before| before.min(size)));
        }
    }

    /// Begins a block.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        if let Some(size) = self.resized.take() {
            put_integer(out, 0x20, 5, size);
            if size != self.table.max() {
                put_integer(out, 0x20, 5, self.table.max());
            }
        }
    }

    pub fn method(&mut self, method: &[u8], out: &mut Vec<u8>) {
        match method {
            b"GET" => out.push(0x80 | 2),
            b"POST" => out.push(0x80 | 3),
            other => put_literal(out, 0, 2, other),
        }
    }

    pub fn scheme(&mut self, scheme: &[u8], out: &mut Vec<u8>) {
        match scheme {
            b"http" => out.push(0x80 | 6),
            b"https" => out.push(0x80 | 7),
            other => put_literal(out, 0, 6, other),
        }
    }

    /// Paths seldom come again often enough to be worth an entry.
    pub fn path(&mut self, path: &[u8], out: &mut Vec<u8>) {
        if path == b"/" { out.push(0x80 | 4) } else { put_literal(out, 0, 4, path) }
    }

    pub fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => return put_literal(out, 0, 8, itoa::Buffer::new().format(status).as_bytes()),
        };
        out.push(0x80 | index);
    }

    /// Any other field; its name may be in any case.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        joined.extend_from_slice(name);
        joined.make_ascii_lowercase();
        let index = static_index(&joined);
        match index {
            // Secrets never enter a table (section 7.1.3).
            AUTHORIZATION | COOKIE | PROXY_AUTHORIZATION | SET_COOKIE => put_literal(out, 0x10, index, value),
            CONTENT_LENGTH => put_literal(out, 0, index, value),
            _ => {
                joined.extend_from_slice(value);
                self.cached(&joined, name.len(), index, out);
            }
        }
        self.joined = joined;
    }

    /// A field of which an entry may exist or be made.
    fn cached(&mut self, joined: &[u8], name: usize, index: usize, out: &mut Vec<u8>) {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(joined);
        let hash = hasher.finish() as u32;
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SLOTS];
        }
        let slot = &mut self.slots[hash as usize % SLOTS];
        let (text, value) = joined.split_at(name);
        if slot.hash != hash {
            *slot = Slot { hash, number: 0 };
        } else {
            let at = self.table.added.wrapping_sub(slot.number) as usize;
            if slot.number != 0 && self.table.joined(at) == Some((joined, name)) {
                return put_integer(out, 0x80, 7, STATIC.len() + 1 + at);
            }
            if self.table.add(text, value) {
                slot.number = self.table.added;
                return put_named(out, 0x40, 6, index, text, value);
            }
        }
        put_named(out, 0, 4, index, text, value);
    }
}

const CONTENT_LENGTH: usize = 28;
const AUTHORIZATION: usize = 23;
const COOKIE: usize = 32;
const PROXY_AUTHORIZATION: usize = 49;
const SET_COOKIE: usize = 55;

/// Index of the name in the static table; 0 when it is not there.
fn static_index(name: &[u8]) -> usize {
    match name {
        b":authority" => 1,
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => AUTHORIZATION,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => CONTENT_LENGTH,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => COOKIE,
        b"date" => 33,
        b"etag" => 34,
        b"expires" => 36,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"proxy-authorization" => PROXY_AUTHORIZATION,
        b"range" => 50,
        b"referer" => 51,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => SET_COOKIE,
        b"strict-transport-security" => 56,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => 0,
    }
}

/// A literal whose name has an index below 15 or is cheap enough in two bytes; `kind`: without indexing or never.
fn put_literal(out: &mut Vec<u8>, kind: u8, index: usize, value: &[u8]) {
    put_integer(out, kind, 4, index);
    put_string(out, value);
}

fn put_named(out: &mut Vec<u8>, kind: u8, bits: u32, index: usize, name: &[u8], value: &[u8]) {
    put_integer(out, kind, bits, index);
    if index == 0 {
        put_string(out, name);
    }
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// An integer with a prefix of `bits` under the pattern `kind` (section 5.1).
fn put_integer(out: &mut Vec<u8>, kind: u8, bits: u32, value: usize) {
    let mask = (1usize << bits) - 1;
    if value < mask {
        out.push(kind | value as u8);
        return;
    }
    out.push(kind | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Malformed};
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Malformed> {
        let mut fields = Fields::new();
        decoder.decode(block, |name, value| fields.push((name.to_vec(), value.to_vec()))).map(|()| fields)
    }

    fn fields(list: &[(&str, &str)]) -> Fields {
        list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn encoded(encoder: &mut Encoder, list: &Fields) -> Vec<u8> {
        let mut block = Vec::new();
        encoder.start(&mut block);
        list.iter().for_each(|(name, value)| encoder.field(name, value, &mut block));
        block
    }

    /// RFC 7541 appendix C.3: three requests, the dynamic table growing.
    #[test]
    fn examples_decode() {
        let mut decoder = Decoder::default();
        let first = b"\x82\x86\x84\x41\x0fwww.example.com";
        let base = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(decoded(&mut decoder, first), Ok(fields(&base)));
        let second = b"\x82\x86\x84\xbe\x58\x08no-cache";
        let expected = [&base[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(decoded(&mut decoder, second), Ok(fields(&expected)));
        let third = b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value";
        let expected = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ];
        assert_eq!(decoded(&mut decoder, third), Ok(fields(&expected)));
    }

    #[test]
    fn what_cannot_be_decoded() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\x40",
            b"\x00\x05ab",
            b"\x3f\xe2\x1f",
            b"\x82\x20",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x00\x81\xff\x01a",
        ] {
            assert_eq!(decoded(&mut Decoder::default(), block), Err(Malformed), "{block:x?}");
        }
    }

    #[test]
    fn what_comes_again_takes_one_byte() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let list = fields(&[("x-team", "blue"), ("content-type", "application/grpc")]);
        let sizes: Vec<usize> = (0..4)
            .map(|_| {
                let block = encoded(&mut encoder, &list);
                assert_eq!(decoded(&mut decoder, &block), Ok(list.clone()));
                block.len()
            })
            .collect();
        assert_eq!((sizes[2], sizes[3]), (2, 2), "{sizes:?}");
    }

    #[test]
    fn secrets_are_never_indexed() {
        let mut encoder = Encoder::default();
        let list = fields(&[("authorization", "Bearer x"), ("cookie", "a=b")]);
        for _ in 0..3 {
            encoded(&mut encoder, &list);
        }
        assert_eq!(encoder.table.len(), 0);
    }

    #[test]
    fn the_peers_limit_is_heeded() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let list = fields(&[("x-team", "blue")]);
        for size in [4096, 0, 40, 4096] {
            encoder.limit(size);
            for _ in 0..3 {
                let block = encoded(&mut encoder, &list);
                assert_eq!(decoded(&mut decoder, &block), Ok(list.clone()));
            }
        }
    }

    proptest! {
        /// Whatever is sent, in whatever order, arrives.
        #[test]
        fn comes_back(blocks in prop::collection::vec(
            prop::collection::vec(("[a-z-]{1,20}", prop::sample::select(vec![0usize, 1, 5, 100, 900])), 0..20), 0..30)
        ) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for block in blocks {
                let list: Fields = block.into_iter().map(|(name, size)| (name.into_bytes(), vec![b'v'; size])).collect();
                let block = encoded(&mut encoder, &list);
                prop_assert_eq!(decoded(&mut decoder, &block), Ok(list));
            }
        }

        #[test]
        fn nothing_panics(block: Vec<u8>) {
            let _ = decoded(&mut Decoder::default(), &block);
        }
    }
}
