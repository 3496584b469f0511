//! The HTTP/1 engine (RFC 9112), strict: whatever two readers could understand differently is refused.

pub mod chunked;
pub mod encode;
pub mod lines;
pub mod parse;
pub mod reader;
pub mod writer;

pub use parse::{AnswerTo, Framing, Limits, Received};
pub use reader::Reader;
pub use writer::Writer;
