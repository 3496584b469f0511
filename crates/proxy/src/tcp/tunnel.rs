//! Passes bytes both ways until both directions have ended, whatever carries them. A half-close travels on; the other half
//! goes on.
//!
//! Bytes are copied by way of one buffer per worker; where a read fills it and both sides are plain TCP, the direction
//! goes over to `splice`. An idle tunnel holds neither buffer nor pipe.

use super::splice::Pipe;
use crate::clock;
use crate::io::SharedIo;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const BUFFER: usize = 32 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Where bytes come from and go to. Borrows never live across an await.
pub trait Side {
    /// Reads at most `space.len()` bytes; 0 is the end.
    fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Nothing more will be written.
    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Looks at the TCP socket, where nothing stands between it and the bytes.
    fn plain_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> Option<T>;
}

impl Side for SharedIo {
    fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        SharedIo::poll_read(self, cx, space)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        SharedIo::poll_write(self, cx, bytes)
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SharedIo::poll_flush(self, cx)
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SharedIo::poll_shutdown(self, cx)
    }

    fn plain_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        self.with(|io| io.plain_tcp().map(look))
    }
}

/// One side, with bytes from it that were read already.
pub struct End<S> {
    pub io: S,
    pub early: Vec<u8>,
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub up: u64,
    pub down: u64,
    pub end: Ending,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Both sides were done.
    #[default]
    Complete,
    /// Nothing moved for the idle timeout.
    Idle,
    /// One side broke.
    DownstreamBroke,
    UpstreamBroke,
    /// The caller's `stop` was ready.
    Stopped,
}

/// How long nothing may move; zero: any time.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub idle: Duration,
    /// Once one side has ended. If it differs from `idle`, that is an orderly end.
    pub half: Duration,
}

/// Runs until both sides are done, one breaks, nothing moves for too long, or `stop` is ready.
pub async fn run<D: Side, U: Side>(
    downstream: &mut End<D>,
    upstream: &mut End<U>,
    patience: Patience,
    stop: impl Future<Output = ()>,
) -> Moved {
    let (down_io, up_io) = (&downstream.io, &upstream.io);
    let touched = Cell::new(clock::now());
    let mut up = Direction::new(std::mem::take(&mut downstream.early), &touched);
    let mut down = Direction::new(std::mem::take(&mut upstream.early), &touched);
    let mut halved = false;
    let mut poll_both = |cx: &mut Context<'_>| {
        let sent = up.poll(cx, down_io, up_io).map_err(|side| side.of(Ending::DownstreamBroke, Ending::UpstreamBroke));
        let got = down.poll(cx, up_io, down_io).map_err(|side| side.of(Ending::UpstreamBroke, Ending::DownstreamBroke));
        match (sent, got) {
            (Poll::Ready(Err(end)), _) | (_, Poll::Ready(Err(end))) => Poll::Ready(Some(end)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Some(Ending::Complete)),
            (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) if !std::mem::replace(&mut halved, true) => {
                Poll::Ready(None)
            }
            _ => Poll::Pending,
        }
    };
    let mut stop = pin!(stop);
    let mut idle = patience.idle;
    let end = loop {
        tokio::select! {
            biased;
            end = poll_fn(&mut poll_both) => match end {
                Some(end) => break end,
                None => idle = patience.half,
            },
            () = quiet(&touched, idle) => break if idle == patience.idle { Ending::Idle } else { Ending::Complete },
            () = &mut stop => break Ending::Stopped,
        }
    };
    Moved { up: up.moved, down: down.moved, end }
}

/// Ready when nothing was touched for `idle`.
async fn quiet(touched: &Cell<Instant>, idle: Duration) {
    if idle.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let deadline = touched.get() + idle;
        if Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep_until(deadline.into()).await;
    }
}

/// Where a direction broke.
enum Broke {
    Reading,
    Writing,
}

impl Broke {
    fn of(self, reading: Ending, writing: Ending) -> Ending {
        match self {
            Broke::Reading => reading,
            Broke::Writing => writing,
        }
    }
}

struct Direction<'t> {
    /// Read and not yet written.
    left: Vec<u8>,
    start: usize,
    /// The last read filled the buffer: there may be much to move.
    bulk: bool,
    pipe: Option<Pipe>,
    read_done: bool,
    shut: bool,
    moved: u64,
    touched: &'t Cell<Instant>,
}

impl<'t> Direction<'t> {
    fn new(early: Vec<u8>, touched: &'t Cell<Instant>) -> Self {
        Direction { left: early, start: 0, bulk: false, pipe: None, read_done: false, shut: false, moved: 0, touched }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &impl Side, to: &impl Side) -> Poll<Result<(), Broke>> {
        loop {
            ready!(self.poll_left(cx, to))?;
            if self.read_done {
                return self.poll_shut(cx, to);
            }
            let read = match self.bulk {
                true => self.poll_splice(cx, from),
                false => self.poll_copy(cx, from, to),
            };
            match read {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    // TLS keeps written bytes back until it is told to flush.
                    if let Poll::Ready(Err(_)) = to.poll_flush(cx) {
                        return Poll::Ready(Err(Broke::Writing));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.moved += count as u64;
        self.touched.set(clock::now());
    }

    /// Writes what was read before.
    fn poll_left(&mut self, cx: &mut Context<'_>, to: &impl Side) -> Poll<Result<(), Broke>> {
        while self.start < self.left.len() {
            let count = ready!(to.poll_write(cx, &self.left[self.start..])).map_err(|_| Broke::Writing)?;
            if count == 0 {
                return Poll::Ready(Err(Broke::Writing));
            }
            self.start += count;
            self.advance(count);
        }
        if self.start > 0 {
            (self.left, self.start) = (Vec::new(), 0);
        }
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held > 0) {
            let drained = to.plain_tcp(|tcp| pipe.poll_drain(cx, tcp));
            let drained = drained.unwrap_or(Poll::Ready(Ok(0)));
            let count = ready!(drained).map_err(|_| Broke::Writing)?;
            if count == 0 {
                return Poll::Ready(Err(Broke::Writing));
            }
            self.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into the worker's buffer and writes as much as the other side takes.
    fn poll_copy(&mut self, cx: &mut Context<'_>, from: &impl Side, to: &impl Side) -> Poll<Result<(), Broke>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let count = ready!(from.poll_read(cx, scratch)).map_err(|_| Broke::Reading)?;
            self.touched.set(clock::now());
            self.read_done = count == 0;
            let plain = from.plain_tcp(|_| ()).is_some() && to.plain_tcp(|_| ()).is_some();
            self.bulk = count == scratch.len() && plain;
            let mut written = 0;
            while written < count {
                match to.poll_write(cx, &scratch[written..count]) {
                    Poll::Ready(Ok(more @ 1..)) => written += more,
                    Poll::Ready(_) => return Poll::Ready(Err(Broke::Writing)),
                    Poll::Pending => {
                        self.left.extend_from_slice(&scratch[written..count]);
                        break;
                    }
                }
            }
            self.moved += written as u64;
            Poll::Ready(Ok(()))
        })
    }

    /// Fills the pipe; `poll_left` empties it. When nothing more comes at once, the pipe is given back.
    fn poll_splice(&mut self, cx: &mut Context<'_>, from: &impl Side) -> Poll<Result<(), Broke>> {
        if self.pipe.is_none() {
            self.pipe = Pipe::take().ok();
        }
        let filled = match &mut self.pipe {
            // Without a pipe (no descriptor is left) bytes are copied.
            None => None,
            Some(pipe) => from.plain_tcp(|tcp| pipe.poll_fill(cx, tcp)),
        };
        match filled {
            None => {
                self.bulk = false;
                Poll::Ready(Ok(()))
            }
            Some(Poll::Pending) => {
                self.bulk = false;
                self.give_back();
                Poll::Pending
            }
            Some(Poll::Ready(Ok(count))) => {
                self.touched.set(clock::now());
                self.read_done = count == 0;
                Poll::Ready(Ok(()))
            }
            Some(Poll::Ready(Err(_))) => Poll::Ready(Err(Broke::Reading)),
        }
    }

    fn give_back(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.put_back();
        }
    }

    fn poll_shut(&mut self, cx: &mut Context<'_>, to: &impl Side) -> Poll<Result<(), Broke>> {
        if !self.shut {
            self.give_back();
            ready!(to.poll_flush(cx)).map_err(|_| Broke::Writing)?;
            // The peer may be gone already; then there is nothing left to close.
            let _ = ready!(to.poll_shutdown(cx));
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}
