//! Passes bytes both ways until both directions have ended. A half-close travels on; the other half goes on.

use crate::io::SharedIo;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

const BUFFER: usize = 32 * 1024;

/// One side, with bytes from it that were read already.
pub struct End {
    pub io: SharedIo,
    pub early: Vec<u8>,
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub up: u64,
    pub down: u64,
    /// Ended because nothing moved for the idle timeout.
    pub idle: bool,
}

/// Runs until both sides are done, one breaks, or nothing moves for `idle` (zero: no limit).
pub async fn run(downstream: End, upstream: End, idle: Duration) -> Moved {
    let (down_io, up_io) = (downstream.io.clone(), upstream.io.clone());
    let mut up = Direction::new(downstream.early);
    let mut down = Direction::new(upstream.early);
    loop {
        let before = (up.moved, down.moved);
        let both = poll_fn(|cx| {
            let first = up.poll(cx, &down_io, &up_io);
            let second = down.poll(cx, &up_io, &down_io);
            match (first, second) {
                (Poll::Ready(Err(())), _) | (_, Poll::Ready(Err(()))) => Poll::Ready(()),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        });
        let done = if idle.is_zero() {
            both.await;
            true
        } else {
            tokio::time::timeout(idle, both).await.is_ok()
        };
        let still = (up.moved, down.moved) == before;
        if done || still {
            return Moved { up: up.moved, down: down.moved, idle: !done && still };
        }
    }
}

struct Direction {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    read_done: bool,
    shut: bool,
    moved: u64,
}

impl Direction {
    fn new(early: Vec<u8>) -> Self {
        let end = early.len();
        let mut buffer = early;
        buffer.resize(end.max(BUFFER), 0);
        Direction { buffer, start: 0, end, read_done: false, shut: false, moved: 0 }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &SharedIo, to: &SharedIo) -> Poll<Result<(), ()>> {
        loop {
            while self.start < self.end {
                let count = ready!(to.poll_write(cx, &self.buffer[self.start..self.end])).map_err(|_| ())?;
                if count == 0 {
                    return Poll::Ready(Err(()));
                }
                self.start += count;
                self.moved += count as u64;
            }
            if self.read_done {
                if !self.shut {
                    ready!(to.poll_flush(cx)).map_err(|_| ())?;
                    // The peer may be gone already; then there is nothing left to close.
                    let _ = ready!(to.poll_shutdown(cx));
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.start = 0;
            self.end = 0;
            match from.poll_read(cx, &mut self.buffer) {
                Poll::Ready(Ok(0)) => self.read_done = true,
                Poll::Ready(Ok(count)) => self.end = count,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(())),
                Poll::Pending => {
                    // TLS keeps written bytes back until it is told to flush.
                    if let Poll::Ready(flushed) = to.poll_flush(cx) {
                        flushed.map_err(|_| ())?;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
