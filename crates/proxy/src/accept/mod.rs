//! Accepts connections and looks at their first bytes.

pub mod inspect;
pub mod listen;
