//! The deadlines of one request behind a single timer. Moving a deadline further away costs nothing: the timer
//! goes off early, looks, and sleeps again.

use crate::clock;
use crate::http::spares::Spares;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The route's timeout.
    Route,
    /// The timeout of this attempt.
    Attempt,
    /// Nothing came back in this attempt.
    AttemptIdle,
    /// Nothing moved in either direction.
    Idle,
    /// The request's longest duration.
    Duration,
    /// The longest duration the cluster allows an attempt.
    UpstreamDuration,
}

#[derive(Default)]
pub struct Watch {
    timer: Option<Timer>,
    route: Option<Instant>,
    attempt: Option<Instant>,
    duration: Option<Instant>,
    upstream_duration: Option<Instant>,
    idle: Duration,
    last_move: Option<Instant>,
    attempt_idle: Duration,
    last_answer: Option<Instant>,
}

struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    /// Who is woken when it goes off; asking the timer again would change nothing.
    registered: Option<Waker>,
}

/// Timers kept per worker: a request of a new task would otherwise enter one with the runtime, and take it out again.
const SPARES: usize = 1024;

thread_local! {
    static TIMERS: RefCell<Spares<Timer>> = const { RefCell::new(Spares::new(SPARES)) };
}

/// See [`Spares::trim`].
pub fn trim() {
    TIMERS.with_borrow_mut(Spares::trim);
}

impl Timer {
    /// It may be armed for another time.
    fn lend(due: Instant) -> Self {
        match TIMERS.with_borrow_mut(Spares::take) {
            // Whoever had it is not woken any more, but by accident.
            Some(timer) => Timer { registered: None, ..timer },
            None => Timer { sleep: Box::pin(tokio::time::sleep_until(due.into())), armed: due, registered: None },
        }
    }

    fn arm(&mut self, due: Instant) {
        self.sleep.as_mut().reset(due.into());
        self.armed = due;
        self.registered = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waits = self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if waits && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        let polled = self.sleep.as_mut().poll(cx);
        self.registered = polled.is_pending().then(|| cx.waker().clone());
        polled
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            // At the thread's end there is nobody to give it to.
            let _ = TIMERS.try_with(|timers| timers.borrow_mut().give(timer));
        }
    }
}

impl Watch {
    /// Forgets all deadlines; the timer stays for the next request.
    pub fn clear(&mut self) {
        self.route = None;
        self.attempt = None;
        self.duration = None;
        self.upstream_duration = None;
        self.idle = Duration::ZERO;
        self.last_move = None;
        self.attempt_idle = Duration::ZERO;
        self.last_answer = None;
    }

    pub fn set_route(&mut self, start: Instant, timeout: Duration) {
        self.route = (!timeout.is_zero()).then(|| start + timeout);
    }

    pub fn set_attempt(&mut self, timeout: Duration) {
        self.attempt = (!timeout.is_zero()).then(|| clock::now() + timeout);
    }

    pub fn set_duration(&mut self, start: Instant, timeout: Duration) {
        self.duration = (!timeout.is_zero()).then(|| start + timeout);
    }

    /// No attempt is under way: only the request's own deadlines count.
    pub fn end_attempt(&mut self) {
        self.attempt = None;
        self.attempt_idle = Duration::ZERO;
        self.upstream_duration = None;
    }

    pub fn set_upstream_duration(&mut self, start: Instant, timeout: Duration) {
        self.upstream_duration = (!timeout.is_zero()).then(|| start + timeout);
    }

    pub fn set_attempt_idle(&mut self, timeout: Duration, now: Instant) {
        self.attempt_idle = timeout;
        self.last_answer = Some(now);
    }

    pub fn set_idle(&mut self, timeout: Duration, now: Instant) {
        self.idle = timeout;
        self.last_move = Some(now);
    }

    /// Something moved.
    pub fn touch(&mut self) {
        if !self.idle.is_zero() {
            self.last_move = Some(clock::now());
        }
    }

    /// Something came back from the upstream.
    pub fn touch_answer(&mut self) {
        self.touch();
        if !self.attempt_idle.is_zero() {
            self.last_answer = Some(clock::now());
        }
    }

    fn next(&self) -> Option<(Instant, Alarm)> {
        let idle = self.last_move.filter(|_| !self.idle.is_zero()).map(|moved| moved + self.idle);
        let attempt_idle = self.last_answer.filter(|_| !self.attempt_idle.is_zero()).map(|at| at + self.attempt_idle);
        [
            (self.route, Alarm::Route),
            (self.attempt, Alarm::Attempt),
            (self.duration, Alarm::Duration),
            (idle, Alarm::Idle),
            (attempt_idle, Alarm::AttemptIdle),
            (self.upstream_duration, Alarm::UpstreamDuration),
        ]
        .into_iter()
        .filter_map(|(at, alarm)| at.map(|at| (at, alarm)))
        .min_by_key(|(at, _)| *at)
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        let Some((due, alarm)) = self.next() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Timer::lend(due));
        if timer.armed > due {
            timer.arm(due);
        }
        while timer.poll(cx).is_ready() {
            if clock::refresh() >= due {
                self.timer = None;
                return Poll::Ready(alarm);
            }
            timer.arm(due);
        }
        Poll::Pending
    }

    /// Waits for the next deadline.
    pub async fn expired(&mut self) -> Alarm {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_nearest_deadline_rings() {
        let start = Instant::now();
        let mut watch = Watch::default();
        watch.set_route(start, Duration::from_secs(60));
        watch.set_duration(start, Duration::from_secs(90));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(watch.poll(&mut cx).is_pending());
        watch.set_attempt(Duration::from_millis(5));
        assert_eq!(watch.expired().await, Alarm::Attempt);
        watch.clear();
        assert!(watch.poll(&mut cx).is_pending());
        assert!(watch.next().is_none());
    }

    #[tokio::test]
    async fn a_timer_that_was_used_before_rings_for_another() {
        for (first, second) in [(60_000, 20), (20, 60)] {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut watch = Watch::default();
            watch.set_route(clock::refresh(), Duration::from_millis(first));
            assert!(watch.poll(&mut cx).is_pending());
            drop(watch);
            assert_eq!(TIMERS.with_borrow(Spares::count), 1);
            let mut watch = Watch::default();
            let begun = Instant::now();
            watch.set_route(clock::refresh(), Duration::from_millis(second));
            assert!(watch.poll(&mut cx).is_pending());
            assert_eq!(TIMERS.with_borrow(Spares::count), 0, "it was lent");
            assert_eq!(watch.expired().await, Alarm::Route);
            assert!(begun.elapsed() >= Duration::from_millis(second), "after {:?}", begun.elapsed());
        }
    }
}
