//! An HTTP connection while nothing is under way: before its first request, and after a while without one. It holds what
//! it takes to notice the next bytes, and no more.

use crate::clock;
use crate::http::buffer::Buffer;
use crate::io::{Io, SharedIo};
use crate::state::{HttpService, Membership};
use engine::inspect::PREFACE;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;

pub struct Resting {
    pub io: SharedIo,
    /// What was received and not looked at yet.
    pub buffer: Buffer,
    pub membership: Membership,
    /// Requests so far.
    pub served: u32,
    /// Nothing has happened since then.
    pub since: Instant,
    /// It takes no more requests then (`max_connection_duration`).
    pub until: Option<Instant>,
}

impl Resting {
    /// `random` is uniform in 0..1.
    pub fn new(service: &HttpService, io: Io, random: f64) -> Self {
        let now = clock::now();
        Resting {
            io: SharedIo::new(io),
            buffer: Buffer::default(),
            membership: service.drain.join(),
            served: 0,
            since: now,
            until: service.longest_connection(random).map(|longest| now + longest),
        }
    }

    /// Waits until there is input; false when the connection is over: closed, idle or open for too long, or draining.
    pub async fn has_input(&mut self, service: &HttpService) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        self.more(service).await
    }

    /// Whether the client begins with the preface of HTTP/2 (RFC 9113 section 3.4); `None` when the connection is over
    /// before this is known.
    pub async fn has_preface(&mut self, service: &HttpService) -> Option<bool> {
        loop {
            let known = self.buffer.len().min(PREFACE.len());
            if self.buffer.bytes()[..known] != PREFACE[..known] {
                return Some(false);
            }
            if known == PREFACE.len() {
                return Some(true);
            }
            if !self.more(service).await {
                return None;
            }
        }
    }

    pub fn is_old(&self) -> bool {
        self.until.is_some_and(|until| clock::now() >= until)
    }

    /// Counts that the connection is closed because it was idle, or open, for long enough.
    pub fn count_end(&self, service: &HttpService) {
        match self.is_old() {
            true => service.stats.downstream_cx_max_duration_reached.inc(),
            false => service.stats.downstream_cx_idle_timeout.inc(),
        }
    }

    async fn more(&mut self, service: &HttpService) -> bool {
        let idle = service.manager.timeouts.idle;
        let idle_end = (!idle.is_zero()).then(|| self.since + idle);
        let end = [idle_end, self.until].into_iter().flatten().min();
        let mut timer = end.map(|end| Box::pin(tokio::time::sleep_until(end.into())));
        poll_fn(|cx| self.poll_more(cx, timer.as_mut().map(Pin::as_mut), service)).await
    }

    fn poll_more(&mut self, cx: &mut Context<'_>, timer: Option<Pin<&mut Sleep>>, service: &HttpService) -> Poll<bool> {
        if let Poll::Ready(read) = self.buffer.poll_fill(&self.io, cx) {
            return Poll::Ready(read.is_ok_and(|count| count > 0));
        }
        // A connection that waits for its next request has nothing to finish.
        if self.served > 0 && self.membership.poll_started(cx).is_ready() {
            return Poll::Ready(false);
        }
        if timer.is_some_and(|timer| timer.poll(cx).is_ready()) {
            self.count_end(service);
            return Poll::Ready(false);
        }
        Poll::Pending
    }
}
