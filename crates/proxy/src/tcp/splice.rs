//! `splice(2)`: bytes go from socket to socket by way of a pipe, without passing through this process's memory.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Most bytes per call: what a pipe holds by default.
const MOST: usize = 64 * 1024;
/// Empty pipes a worker keeps for later.
const SPARE: usize = 16;

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how many bytes are in it.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    pub(super) held: usize,
}

impl Pipe {
    /// One of this worker's spare pipes, or a new one.
    pub(super) fn take() -> io::Result<Pipe> {
        match PIPES.with_borrow_mut(Vec::pop) {
            Some(pipe) => Ok(pipe),
            None => Pipe::open(),
        }
    }

    fn open() -> io::Result<Pipe> {
        let mut ends = [0; 2];
        // SAFETY: the kernel writes two descriptors into the array.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just opened and nobody else owns them.
        let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        Ok(Pipe { read, write, held: 0 })
    }

    /// Gives an empty pipe back. One that still holds bytes must not serve another connection.
    pub(super) fn put_back(self) {
        if self.held == 0 {
            PIPES.with_borrow_mut(|pipes| {
                if pipes.len() < SPARE {
                    pipes.push(self);
                }
            });
        }
    }

    /// Moves what `from` has into the pipe, which must be empty; 0 is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || splice(from.as_raw_fd(), self.write.as_raw_fd(), MOST));
            match moved {
                Ok(count) => {
                    self.held += count;
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves what the pipe holds to `to`, all of it.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<usize>> {
        let mut moved = 0;
        while self.held > 0 {
            match to.poll_write_ready(cx)? {
                Poll::Ready(()) => {}
                Poll::Pending if moved > 0 => return Poll::Ready(Ok(moved)),
                Poll::Pending => return Poll::Pending,
            }
            match to.try_io(Interest::WRITABLE, || splice(self.read.as_raw_fd(), to.as_raw_fd(), self.held)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.held -= count;
                    moved += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(moved))
    }
}

fn splice(from: i32, to: i32, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are open for the duration of the call; no memory of ours is touched.
    let count = unsafe { libc::splice(from, none, to, none, most, flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (one, two) = tokio::join!(connecting, listener.accept());
        (one.unwrap(), two.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_and_the_end_shows() {
        let ((mut client, from), (to, mut server)) = tokio::join!(pair(), pair());
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut pipe = Pipe::take().unwrap();
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from)).await.unwrap(), 5);
        assert_eq!(poll_fn(|cx| pipe.poll_drain(cx, &to)).await.unwrap(), 5);
        assert_eq!(poll_fn(|cx| pipe.poll_fill(cx, &from)).await.unwrap(), 0);
        pipe.put_back();
        assert_eq!(PIPES.with_borrow(Vec::len), 1);
        let mut got = [0; 5];
        server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
    }
}
