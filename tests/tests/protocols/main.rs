//! Real clients and servers of many protocols through the real proxy, and through the real Envoy where both can do it.

mod access_log;
mod grpc;
mod h2_backend;
mod http2;
mod lifecycle;
mod limits;
mod storm;
mod support;
mod tls;
mod upstreams;
mod validate;
mod websocket;
