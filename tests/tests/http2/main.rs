//! The HTTP/2 listener against h2spec, in plain text and over TLS, and against clients that abuse the protocol.

mod abuse;
mod h2spec;
mod support;
