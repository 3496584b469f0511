//! Buffers, lent by pools per worker so that idle connections hold none.

use super::spares::Spares;
use crate::io::SharedIo;
use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

/// Bytes of a fresh buffer.
pub const INITIAL: usize = 16 * 1024;
/// Bytes of a buffer for a body that is longer than a fresh one.
const WIDE: usize = 64 * 1024;
/// Spare buffers kept per worker, of each kind.
const SPARES: usize = 128;
const WIDE_SPARES: usize = 16;

/// Capacity of a fresh output buffer, and beyond which one is not kept; a few may be as large as what an HTTP/2
/// connection writes at once.
const OUTPUT: usize = 4 * 1024;
const OUTPUT_KEPT: usize = 32 * 1024;
const LARGE_KEPT: usize = 128 * 1024;
const LARGE: usize = 8;

thread_local! {
    static POOL: RefCell<Spares<Vec<u8>>> = const { RefCell::new(Spares::new(SPARES)) };
    static WIDES: RefCell<Spares<Vec<u8>>> = const { RefCell::new(Spares::new(WIDE_SPARES)) };
    static OUTPUTS: RefCell<Spares<Vec<u8>>> = const { RefCell::new(Spares::new(SPARES)) };
}

/// An empty buffer for what goes out next.
pub fn take_output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Spares::take).unwrap_or_else(|| Vec::with_capacity(OUTPUT))
}

/// Takes back an output buffer whose bytes are out.
pub fn give_output(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    OUTPUTS.with_borrow_mut(|outputs| {
        let most = if outputs.count() < LARGE { LARGE_KEPT } else { OUTPUT_KEPT };
        if buffer.capacity() <= most {
            outputs.give(buffer);
        }
    });
}

fn take() -> Vec<u8> {
    POOL.with_borrow_mut(Spares::take).unwrap_or_else(|| vec![0; INITIAL])
}

fn give(buffer: Vec<u8>) {
    match buffer.len() {
        INITIAL => POOL.with_borrow_mut(|pool| pool.give(buffer)),
        WIDE => WIDES.with_borrow_mut(|pool| pool.give(buffer)),
        _ => {}
    }
}

/// See [`Spares::trim`].
pub fn trim() {
    POOL.with_borrow_mut(Spares::trim);
    WIDES.with_borrow_mut(Spares::trim);
    OUTPUTS.with_borrow_mut(Spares::trim);
}

/// Received bytes that were not consumed yet.
#[derive(Default)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Reads once. Grows by doubling when full; the caller bounds what it lets accumulate. 0 is the end.
    pub fn poll_fill(&mut self, io: &SharedIo, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.data.is_empty() {
            self.data = take();
        }
        self.make_room();
        match io.poll_read(cx, &mut self.data[self.end..]) {
            Poll::Pending => {
                self.release_if_empty();
                Poll::Pending
            }
            ready => {
                let count = ready!(ready)?;
                self.end += count;
                Poll::Ready(Ok(count))
            }
        }
    }

    fn make_room(&mut self) {
        if self.end < self.data.len() {
            return;
        }
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            self.data.resize(self.data.len() * 2, 0);
        }
    }

    /// Makes space for as much of a long body as one read may bring.
    pub fn widen(&mut self) {
        if self.data.len() >= WIDE {
            return;
        }
        let mut wide = WIDES.with_borrow_mut(Spares::take).unwrap_or_else(|| vec![0; WIDE]);
        let count = self.len();
        wide[..count].copy_from_slice(self.bytes());
        let narrow = std::mem::replace(&mut self.data, wide);
        if !narrow.is_empty() {
            give(narrow);
        }
        (self.start, self.end) = (0, count);
    }

    pub fn release_if_empty(&mut self) {
        if self.is_empty() && !self.data.is_empty() {
            give(std::mem::take(&mut self.data));
            self.start = 0;
            self.end = 0;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            give(std::mem::take(&mut self.data));
        }
    }
}
