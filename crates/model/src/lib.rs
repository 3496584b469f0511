//! The data plane's immutable, compiled snapshot: listeners, routes, clusters, endpoints.
