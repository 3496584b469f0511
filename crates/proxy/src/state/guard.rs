//! Network filters that decide whether a connection may stay: `connection_limit` and `local_ratelimit`. Their state is
//! the whole process's; it is touched once per connection, and only where such a filter is configured.

use crate::telemetry::stats::{GuardStats, Owner, Registry};
use engine::bucket::Bucket;
use model::listener::Guard;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// One filter of one listener's chain, as a worker uses it.
pub struct GuardService {
    config: Guard,
    shared: Arc<Shared>,
    stats: Arc<GuardStats>,
}

/// What all workers share of one filter.
#[derive(Default)]
pub struct Shared {
    open: AtomicU64,
    bucket: Mutex<Option<(Instant, Bucket)>>,
}

/// The filters of the process, by what identifies them; each lives as long as some worker uses it.
#[derive(Default)]
pub struct Guards(Mutex<HashMap<String, Weak<Shared>>>);

impl Guards {
    fn shared(&self, key: String) -> Arc<Shared> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, shared| shared.strong_count() > 0);
        let known = all.get(&key).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let fresh = Arc::new(Shared::default());
            all.insert(key, Arc::downgrade(&fresh));
            fresh
        })
    }
}

/// Counts a connection until it is dropped.
pub struct Admitted {
    _held: Vec<Held>,
}

struct Held {
    shared: Arc<Shared>,
    stats: Arc<GuardStats>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.stats.active_connections.dec();
    }
}

impl GuardService {
    /// `place` tells filters of different listeners and chains apart.
    pub fn new(config: &Guard, place: &str, guards: &Guards, registry: &Registry) -> Self {
        let (kind, prefix) = match config {
            Guard::ConnectionLimit { stat_prefix, .. } => ("connection_limit", stat_prefix),
            Guard::RateLimit { stat_prefix, .. } => ("local_rate_limit", stat_prefix),
        };
        GuardService {
            shared: guards.shared(format!("{place} {config:?}")),
            stats: registry.add(Owner::Guard(kind, prefix.as_ref().into())),
            config: config.clone(),
        }
    }

    async fn admit(&self) -> Result<Option<Held>, ()> {
        match &self.config {
            Guard::ConnectionLimit { most, delay, .. } => {
                if self.shared.open.fetch_add(1, Ordering::Relaxed) >= *most {
                    self.shared.open.fetch_sub(1, Ordering::Relaxed);
                    self.stats.limited_connections.inc();
                    tokio::time::sleep(*delay).await;
                    return Err(());
                }
                self.stats.active_connections.inc();
                Ok(Some(Held { shared: self.shared.clone(), stats: self.stats.clone() }))
            }
            Guard::RateLimit { bucket: config, .. } => {
                let mut bucket = self.shared.bucket.lock().unwrap_or_else(PoisonError::into_inner);
                let (start, bucket) =
                    bucket.get_or_insert_with(|| (Instant::now(), Bucket::new(config, Default::default())));
                if bucket.take(config, start.elapsed()) {
                    return Ok(None);
                }
                self.stats.rate_limited.inc();
                Err(())
            }
        }
    }
}

/// Asks all `guards`; `Err` when the connection must close.
pub async fn admit(guards: &[GuardService]) -> Result<Admitted, ()> {
    let mut held = Vec::new();
    for guard in guards {
        held.extend(guard.admit().await?);
    }
    Ok(Admitted { _held: held })
}
