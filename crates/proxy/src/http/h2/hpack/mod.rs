//! Header compression (RFC 7541), without I/O.

mod decode;
mod encode;
mod huffman;
mod table;

pub use decode::Decoder;
pub use encode::Encoder;

/// Size of a dynamic table in either direction, as RFC 9113 presumes it.
pub const TABLE_SIZE: usize = 4096;

/// A header block that cannot be decoded: the connection is lost (RFC 9113 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;
