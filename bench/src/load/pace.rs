//! When requests are due.

use super::Pace;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Hands turns to connections. In an open loop turns come from a clock with nanoseconds (tokio's has milliseconds) and
/// wait in a queue while no connection is free.
pub(super) struct Pacer {
    open: Cell<bool>,
    /// Of an open loop.
    clock: Option<Clock>,
    /// Woken in the order in which they began to wait, so that all connections are used.
    waiting: Notify,
}

struct Clock {
    timer: AsyncFd<OwnedFd>,
    interval: Duration,
    /// Intended start of the next turn.
    next: Cell<Instant>,
    due: RefCell<VecDeque<Instant>>,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> io::Result<Pacer> {
        let clock = match pace {
            Pace::Saturate => None,
            Pace::Rate(rate) => Some(Clock {
                timer: timer()?,
                interval: Duration::from_secs_f64(1.0 / rate),
                next: Cell::new(Instant::now()),
                due: RefCell::default(),
            }),
        };
        Ok(Pacer { open: Cell::new(false), clock, waiting: Notify::new() })
    }

    pub(super) fn open(&self) {
        self.open.set(true);
        match &self.clock {
            None => self.waiting.notify_waiters(),
            Some(clock) => {
                clock.next.set(Instant::now() + clock.interval);
                arm(&clock.timer, clock.interval);
            }
        }
    }

    pub(super) async fn turn(&self) -> Instant {
        loop {
            match &self.clock {
                None if self.open.get() => return Instant::now(),
                None => {}
                Some(clock) => {
                    if let Some(intended) = clock.due.borrow_mut().pop_front() {
                        return intended;
                    }
                }
            }
            self.waiting.notified().await;
        }
    }

    /// Produces turns; in a closed loop it only waits.
    pub(super) async fn run(&self) {
        let Some(clock) = &self.clock else { return std::future::pending().await };
        let Ok(mut ready) = clock.timer.readable().await else { return std::future::pending().await };
        let mut expirations = [0; 8];
        // SAFETY: a timer gives eight bytes: how often it has expired since the last read.
        let count = unsafe { libc::read(clock.timer.as_raw_fd(), expirations.as_mut_ptr().cast(), 8) };
        ready.clear_ready();
        let expired = if count == 8 { u64::from_ne_bytes(expirations) } else { 0 };
        for _ in 0..expired {
            let intended = clock.next.get();
            clock.next.set(intended + clock.interval);
            clock.due.borrow_mut().push_back(intended);
            self.waiting.notify_one();
        }
    }
}

fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is new and owned by nobody else, and the owned one always names the same timer.
    unsafe {
        let descriptor = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(AsyncFd::register(OwnedFd::from_raw_fd(descriptor))?)
    }
}

fn arm(timer: &AsyncFd<OwnedFd>, interval: Duration) {
    let every = libc::timespec { tv_sec: interval.as_secs() as i64, tv_nsec: i64::from(interval.subsec_nanos()) };
    let setting = libc::itimerspec { it_interval: every, it_value: every };
    // SAFETY: the kernel only reads the setting; the old one is not asked for.
    unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &setting, std::ptr::null_mut()) };
}
