//! The static and the dynamic table (RFC 7541 section 2.3).

use std::collections::VecDeque;

/// Appendix A; the first has index 1.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What RFC 7541 section 4.1 adds to an entry's length.
const OVERHEAD: usize = 32;

/// The dynamic table of one direction. Names and values lie one after another in `bytes`.
#[derive(Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Bytes ever dropped from the front of `bytes`.
    dropped: usize,
    size: usize,
    max: usize,
    /// Entries ever added; the newest has this number.
    pub(super) added: u32,
}

struct Entry {
    /// Counted from the first byte ever added.
    start: usize,
    name: usize,
    value: usize,
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        Table { max, ..Table::default() }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(0);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at `at`, the newest being 0.
    pub(super) fn get(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(at)?;
        Some(self.whole(entry).split_at(entry.name))
    }

    /// Name and value of the entry in one piece, and the length of the name.
    pub(super) fn joined(&self, at: usize) -> Option<(&[u8], usize)> {
        let entry = self.entries.get(at)?;
        Some((self.whole(entry), entry.name))
    }

    fn whole(&self, entry: &Entry) -> &[u8] {
        let start = entry.start - self.dropped;
        &self.bytes[start..start + entry.name + entry.value]
    }

    /// Adds an entry; false when it is larger than the whole table, which empties it (section 4.4).
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) -> bool {
        let size = name.len() + value.len() + OVERHEAD;
        self.evict(size);
        if size > self.max {
            return false;
        }
        if self.bytes.len() > 2 * self.max {
            self.compact();
        }
        let start = self.dropped + self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.entries.push_front(Entry { start, name: name.len(), value: value.len() });
        self.size += size;
        self.added = self.added.wrapping_add(1);
        true
    }

    fn evict(&mut self, room_for: usize) {
        while self.size + room_for > self.max {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.name + oldest.value + OVERHEAD;
        }
    }

    fn compact(&mut self) {
        let from = self.entries.back().map_or(self.bytes.len(), |oldest| oldest.start - self.dropped);
        self.bytes.drain(..from);
        self.dropped += from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_leave_first() {
        let mut table = Table::new(100);
        assert!(table.add(b"a", b"1"));
        assert!(table.add(b"b", b"2"));
        assert_eq!(table.get(1), Some((&b"a"[..], &b"1"[..])));
        assert!(table.add(b"c", b"3"));
        assert_eq!((table.len(), table.get(1)), (2, Some((&b"b"[..], &b"2"[..]))));
        assert!(!table.add(b"long", &[0; 100]));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn bytes_do_not_pile_up() {
        let mut table = Table::new(4096);
        for number in 0..10_000 {
            table.add(b"name", format!("{number}").as_bytes());
            assert!(table.bytes.len() <= 3 * 4096);
        }
        assert_eq!(table.get(0).unwrap().1, b"9999");
        assert_eq!(table.get(1).unwrap().1, b"9998");
    }
}
