//! Configuration kinds as users write them: parse with spans, validate, convert.
//!
//! [`parse_file`] turns the text of one file into [`Object`]s or into all that is wrong with it; [`ObjectSet`]
//! gathers the objects of many files and refuses duplicates. The kinds are Kubernetes', Gateway API's and Istio's
//! own; a field that is unknown, or known but not implemented, is an error and never ignored.

pub mod file;
pub mod kinds;
pub mod object;
pub mod problem;
pub mod set;
mod text;

pub use file::parse_file;
pub use object::{Key, Kind, Meta, Object, Spec};
pub use problem::{FileError, Place, Problem};
pub use set::ObjectSet;
