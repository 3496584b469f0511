//! From text to typed values: [`node`] parses YAML or JSON and keeps positions, [`decode`] fills serde structs from
//! it and names the path and place of whatever does not fit.

mod decode;
mod node;

pub(crate) use decode::decode;
pub(crate) use node::{Node, Value, parse_documents};
