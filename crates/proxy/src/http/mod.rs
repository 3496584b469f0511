//! HTTP/1 and HTTP/2 as byte streams: heads in, bodies through, heads out. What to do with a request is
//! decided in `flow`.

pub mod body;
pub mod buffer;
pub mod h1;
pub mod h2;
pub mod heads;
pub mod pace;
pub mod spares;
pub mod web;

/// Lets go of spare buffers and heads that nobody has asked for since the last call.
pub fn trim() {
    buffer::trim();
    heads::trim();
}
