//! Where objects come from: today, the files of a directory.
//!
//! [`intake`] decides, without I/O, what of the files' texts to accept; [`files`] reads and watches the directory.

pub mod files;
pub mod intake;
