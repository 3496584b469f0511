//! A token bucket that several threads may draw from.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Holds up to `most` tokens and gains one every `per_token`. Begins full.
#[derive(Debug)]
pub struct TokenBucket {
    most: u64,
    /// Nanoseconds.
    per_token: u64,
    /// The moment (nanoseconds) at which the bucket was, or would have been, empty.
    empty_at: AtomicU64,
}

/// What is left in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub taken: bool,
    /// Whole tokens.
    pub tokens: u64,
    /// Until there is a whole token again; zero when there is one.
    pub next: Duration,
}

/// Time before the clock of callers begins, so that a bucket can begin full.
const HEAD_START: u64 = 1 << 62;

impl TokenBucket {
    pub fn new(most: u32, per_token: Duration) -> Self {
        let per_token = u64::try_from(per_token.as_nanos()).unwrap_or(u64::MAX >> 2).clamp(1, 1 << 50);
        TokenBucket { most: u64::from(most), per_token, empty_at: AtomicU64::new(0) }
    }

    /// Takes a token, if there is one. `now` is measured from any fixed moment.
    pub fn take(&self, now: Duration) -> Left {
        let now = HEAD_START + u64::try_from(now.as_nanos()).unwrap_or(HEAD_START).min(HEAD_START - 1);
        let full = now.saturating_sub(self.most.saturating_mul(self.per_token));
        let mut seen = self.empty_at.load(Ordering::Relaxed);
        loop {
            let empty_at = seen.max(full);
            let gained = now.saturating_sub(empty_at);
            if gained < self.per_token || self.most == 0 {
                let wait = if self.most == 0 { u64::MAX >> 2 } else { self.per_token - gained };
                return Left { taken: false, tokens: 0, next: Duration::from_nanos(wait) };
            }
            let after = empty_at + self.per_token;
            match self.empty_at.compare_exchange_weak(seen, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    let tokens = now.saturating_sub(after) / self.per_token;
                    let next = if tokens > 0 { 0 } else { self.per_token - (now - after) };
                    return Left { taken: true, tokens, next: Duration::from_nanos(next) };
                }
                Err(other) => seen = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_empties() {
        let bucket = TokenBucket::new(2, Duration::from_secs(1));
        let take = |millis| bucket.take(Duration::from_millis(millis)).taken;
        assert!(take(0) && take(0) && !take(0));
        assert!(!take(999) && take(1000) && !take(1000));
        assert!(take(60_000) && take(60_000) && !take(60_000), "it holds two, however long it waits");
        assert_eq!(bucket.take(Duration::from_millis(60_250)).next, Duration::from_millis(750));
        assert!(!TokenBucket::new(0, Duration::from_secs(1)).take(Duration::from_secs(9)).taken);
    }

    #[test]
    fn threads_share_it() {
        let bucket = TokenBucket::new(1000, Duration::from_secs(3600));
        let draw = || (0..600).filter(|_| bucket.take(Duration::from_secs(1)).taken).count();
        let taken: usize = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
    }
}
