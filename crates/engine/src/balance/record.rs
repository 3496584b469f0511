//! What a worker remembers of one host, and what a finished request tells it.

use std::cell::Cell;
use std::time::Duration;

/// A host's answers so far. It stays with the host when the list of hosts changes. Each policy writes what it reads.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Estimate in seconds; zero while nothing is known.
    pub(super) latency: Cell<f64>,
    /// When the estimate was last brought up to date.
    pub(super) updated: Cell<Duration>,
    /// Requests whose answer is awaited, and the sum of the moments, in seconds, when they were sent.
    pub(super) awaited: Cell<u32>,
    pub(super) sent: Cell<f64>,
    /// Place in the rotation among equals.
    pub(super) turn: Cell<f64>,
    /// What a trial of this slow host costs, in multiples of the time it is likely to take too long.
    pub(super) price: Cell<f64>,
    /// Requests that others have in flight with it, as it last said, and as it usually says.
    pub(super) others: Cell<f64>,
    pub(super) usual_others: Cell<f64>,
    /// Weight by its own reports; zero while there is none.
    pub(super) reported: Cell<f64>,
    /// When it began to report, and when it last did.
    pub(super) reporting_since: Cell<Duration>,
    pub(super) reported_at: Cell<Duration>,
}

/// How a request to a host ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub ending: Ending,
    /// From sending the request to the head of the response, or to the end without one.
    pub latency: Duration,
    /// Requests in flight at the server from all its clients, if the response said so.
    pub load: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a response that is no server error.
    Answered,
    /// With a server error, or without a response.
    Failed,
    /// The client went away: the host would have taken longer.
    Abandoned,
}
