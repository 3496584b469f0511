//! Clock, backoff, ids, units: small pure helpers every crate may use.
