//! Consistent hashing: the same key reaches the same host, here and in Envoy.
//!
//! Ring and table are built when hosts or their health change; a pick costs a search or a look-up.

mod bounded;
mod maglev;
mod murmur;
mod ring;

pub use bounded::Bounded;
pub use maglev::Maglev;
pub use ring::Ring;

/// A host as hashing sees it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The `hash_key` of its metadata, else its host name or address.
    pub key: &'a str,
    /// Its share of all requests; the shares add up to 1.
    pub share: f64,
}

/// xxHash64 with seed 0, which Envoy hashes all keys with.
pub fn hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh64::xxh64(bytes, 0)
}

/// Several texts, one after the other; the order matters.
pub fn hash_all<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    texts.into_iter().fold(0, |seed, text| xxhash_rust::xxh64::xxh64(text, seed))
}

#[cfg(test)]
mod tests;
