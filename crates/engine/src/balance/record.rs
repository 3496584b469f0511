//! What a worker remembers of one host, and what a finished request tells it.

use std::cell::Cell;
use std::time::Duration;

/// A host's answers so far. It stays with the host when the list of hosts changes; one policy writes it.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Estimate in seconds; zero while nothing is known.
    pub(super) latency: Cell<f64>,
    /// When the estimate was last brought up to date.
    pub(super) updated: Cell<Duration>,
}

/// How a request to a host ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// From sending the request to the head of the response, or to the failure.
    pub latency: Duration,
    /// The host answered, and not with a server error.
    pub success: bool,
}
