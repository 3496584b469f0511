//! What a worker turns away because the process is overloaded.

use crate::telemetry::metrics::Gauge;
use std::sync::Arc;

/// Shares are from 0, nothing, to 1, everything.
#[derive(Clone, Default)]
pub struct Shed {
    /// Of new requests that are refused.
    pub requests: f64,
    /// Of HTTP/1 responses after which the connection closes.
    pub keep_alive: f64,
    /// Of new connections that are closed at once.
    pub rejected: f64,
    /// New connections wait in the kernel.
    pub stop_accepting: bool,
    pub connections: Option<Arc<Connections>>,
}

/// Open downstream connections of all workers; each writes its own count only. Workers that accept at the same moment
/// may go beyond the limit by one each.
pub struct Connections {
    most: u64,
    by_worker: Vec<Gauge>,
}

impl Connections {
    pub fn new(most: u64, workers: usize) -> Self {
        Connections { most, by_worker: (0..workers).map(|_| Gauge::default()).collect() }
    }

    /// Counts one more of `worker`'s, unless there are too many.
    pub fn admit(self: &Arc<Self>, worker: usize) -> Option<Open> {
        let open: u64 = self.by_worker.iter().map(Gauge::get).sum();
        if open >= self.most {
            return None;
        }
        self.by_worker.get(worker)?.inc();
        Some(Open(self.clone(), worker))
    }
}

/// Counts a connection until it is dropped.
pub struct Open(Arc<Connections>, usize);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.by_worker[self.1].dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_over_workers() {
        let connections = Arc::new(Connections::new(2, 2));
        let one = connections.admit(0).unwrap();
        let _two = connections.admit(1).unwrap();
        assert!(connections.admit(0).is_none());
        drop(one);
        assert!(connections.admit(1).is_some());
    }
}
