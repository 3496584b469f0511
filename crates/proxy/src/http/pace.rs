//! Holds a body back to a rate.

use super::body::{Input, Source};
use super::h1::reader::BodyError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// How often bytes are granted.
const STEP: Duration = Duration::from_millis(50);

/// A token bucket of bytes.
pub struct Pace {
    per_step: usize,
    left: usize,
    timer: Pin<Box<Sleep>>,
}

impl Pace {
    /// `rate` in bytes per second.
    pub fn new(rate: u64) -> Self {
        let steps = (1000 / STEP.as_millis()) as u64;
        let per_step = usize::try_from(rate / steps).unwrap_or(usize::MAX).max(1);
        Pace { per_step, left: per_step, timer: Box::pin(tokio::time::sleep(STEP)) }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.left == 0 {
            ready!(self.timer.as_mut().poll(cx));
            self.left = self.per_step;
            self.timer.as_mut().reset((Instant::now() + STEP).into());
        }
        Poll::Ready(())
    }
}

/// A source seen through a pace; without one, the source itself.
pub struct Paced<'a, 'p> {
    pub source: Source<'a>,
    pub pace: Option<&'p mut Pace>,
}

impl Input for Paced<'_, '_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        let more = ready!(self.source.poll_data(cx));
        if let (Ok(true), Some(pace)) = (&more, &mut self.pace) {
            ready!(pace.poll_left(cx));
        }
        Poll::Ready(more)
    }

    fn data(&self) -> &[u8] {
        let data = self.source.data();
        let most = self.pace.as_ref().map_or(data.len(), |pace| pace.left.min(data.len()));
        &data[..most]
    }

    fn consume(&mut self, count: usize) {
        if let Some(pace) = &mut self.pace {
            pace.left = pace.left.saturating_sub(count);
        }
        self.source.consume(count);
    }

    fn take_trailers(&mut self) -> Option<Box<engine::Head>> {
        self.source.take_trailers()
    }
}
