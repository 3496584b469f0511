//! Envoy protobuf types, YAML/JSON mapping, protobuf to model, and the xDS protocol's state machines.
