//! The time as a worker's tasks see it: read once each time a task wakes up, not once per question.
//!
//! Between two awaits a task runs for microseconds, so all it asks about time has the same answer. Tasks that serve
//! traffic are wrapped in [`Ticking`]; elsewhere [`now`] may be as old as this thread's last wake-up.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long the wall clock is carried on from the monotonic one before it is read again.
const WALL_AGE: Duration = Duration::from_secs(1);

thread_local! {
    static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    /// A moment on both clocks: the second in microseconds since the Unix epoch.
    static WALL: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// When the running task woke up.
pub fn now() -> Instant {
    NOW.get().unwrap_or_else(refresh)
}

/// From `moment` to [`now`].
pub fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}

/// [`now`] in microseconds since the Unix epoch.
pub fn unix_micros() -> u64 {
    let now = now();
    if let Some((moment, micros)) = WALL.get()
        && let Some(passed) = now.checked_duration_since(moment)
        && passed < WALL_AGE
    {
        return micros + passed.as_micros() as u64;
    }
    let micros = wall_micros();
    WALL.set(Some((now, micros)));
    micros
}

/// The wall clock, in microseconds since the Unix epoch.
fn wall_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_micros() as u64
}

/// Reads the clock.
pub fn refresh() -> Instant {
    let now = Instant::now();
    NOW.set(Some(now));
    now
}

/// A future that reads the clock whenever it is polled.
pub struct Ticking<F>(F);

impl<F: Future + Unpin> Ticking<F> {
    pub fn new(future: F) -> Self {
        Ticking(future)
    }
}

impl<F: Future + Unpin> Future for Ticking<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        refresh();
        Pin::new(&mut self.0).poll(cx)
    }
}
