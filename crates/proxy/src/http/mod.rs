//! HTTP/1 and HTTP/2 as byte streams: heads in, bodies through, heads out. What to do with a request is
//! decided in `flow`.

pub mod web;
pub mod body;
pub mod buffer;
pub mod h1;
pub mod h2;
pub mod heads;
pub mod pace;
