//! The control plane and clients that are not ours: the real Envoy over both protocols, and gRPC without a proxy.

mod envoy;
mod grpc;
mod support;
