//! Real clients and servers of many protocols through the real proxy, and through the real Envoy where both can do it.

mod access_log;
mod balancing;
mod clusters;
mod connect;
mod dns;
mod grpc;
mod grpc_web;
mod h2_backend;
mod health;
mod http2;
mod learning;
mod lifecycle;
mod limits;
mod load;
mod on_demand;
mod outliers;
mod overload;
mod proxy_protocol;
mod storm;
mod streams;
mod support;
mod tcp;
mod tls;
mod upstreams;
mod validate;
mod websocket;
