//! Real clients and servers of many protocols through the real proxy, and through the real Envoy where both can do it.

mod grpc;
mod lifecycle;
mod support;
mod upstreams;
mod websocket;
