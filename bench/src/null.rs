//! The null proxy: one thread, each client paired with one backend connection, `recv` then `send`, nothing parsed.
//!
//! It does what the kernel asks of every proxy and nothing else, so no proxy that uses sockets in the ordinary way is
//! cheaper. The distance to it is a proxy's own cost.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const BUFFER: usize = 64 * 1024;
const EVENTS: usize = 256;
/// Edge-triggered and registered once: no system call per request besides recv, send and the wait.
const INTEREST: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;

/// One of the two sockets of a pair.
struct End {
    socket: OwnedFd,
    peer: RawFd,
    /// Received here and not yet taken by the peer.
    pending: Vec<u8>,
    readable: bool,
    /// The other side said it will send no more; only reading to the end shows it.
    ended: bool,
}

/// Sockets by descriptor.
type Ends = Vec<Option<End>>;

/// Serves until the process is ended.
pub fn run(listen: SocketAddr, backend: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    // SAFETY: plain system calls; every descriptor passed is open, every pointer points to what the call expects.
    let epoll = unsafe { check(libc::epoll_create1(0))? };
    register(epoll, listener.as_raw_fd(), libc::EPOLLIN as u32)?;
    let mut ends: Ends = Vec::new();
    let mut buffer = vec![0; BUFFER];
    // SAFETY: epoll_event is plain data.
    let mut events: Vec<libc::epoll_event> = vec![unsafe { std::mem::zeroed() }; EVENTS];
    loop {
        // SAFETY: as above.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let (socket, flags) = (event.u64 as RawFd, event.events);
            if socket == listener.as_raw_fd() {
                accept(&listener, backend, epoll, &mut ends)?;
            } else if handle(socket, flags, &mut ends, &mut buffer).is_err() {
                close(socket, &mut ends);
            }
        }
    }
}

fn accept(listener: &TcpListener, backend: SocketAddr, epoll: RawFd, ends: &mut Ends) -> io::Result<()> {
    while let Ok((client, _)) = listener.accept() {
        let Ok(server) = TcpStream::connect(backend) else { continue };
        let pair = [client.as_raw_fd(), server.as_raw_fd()];
        for (own, (stream, peer)) in pair.into_iter().zip([(client, pair[1]), (server, pair[0])]) {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            if ends.len() <= own as usize {
                ends.resize_with(own as usize + 1, || None);
            }
            let end = End { socket: stream.into(), peer, pending: Vec::new(), readable: false, ended: false };
            ends[own as usize] = Some(end);
            register(epoll, own, INTEREST)?;
        }
    }
    Ok(())
}

/// An error or an end closes the pair.
fn handle(socket: RawFd, flags: u32, ends: &mut Ends, buffer: &mut [u8]) -> io::Result<()> {
    let Some(end) = ends.get_mut(socket as usize).and_then(Option::as_mut) else { return Ok(()) };
    let peer = end.peer;
    if flags & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0 {
        end.readable = true;
        end.ended |= flags & libc::EPOLLIN as u32 == 0 || flags & libc::EPOLLRDHUP as u32 != 0;
        relay(socket, peer, ends, buffer)?;
    }
    if flags & libc::EPOLLOUT as u32 != 0 {
        relay(peer, socket, ends, buffer)?;
    }
    Ok(())
}

/// Moves what there is from one socket to the other.
fn relay(from: RawFd, to: RawFd, ends: &mut Ends, buffer: &mut [u8]) -> io::Result<()> {
    let Some(end) = ends.get_mut(from as usize).and_then(Option::as_mut) else { return Ok(()) };
    if !end.pending.is_empty() {
        let sent = send(to, &end.pending)?;
        end.pending.drain(..sent);
    }
    while end.readable && end.pending.is_empty() {
        let Some(received) = receive(end.socket.as_raw_fd(), buffer)? else {
            end.readable = false;
            break;
        };
        // A short read means the socket is empty: its next bytes bring another edge.
        end.readable = received == buffer.len() || end.ended;
        let sent = send(to, &buffer[..received])?;
        end.pending.extend_from_slice(&buffer[sent..received]);
    }
    Ok(())
}

/// Nothing when there is nothing to read; an error at the end of the stream.
fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: the buffer is as long as said.
    match unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) } {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count if count > 0 => Ok(Some(count as usize)),
        _ => would_block().map(|()| None),
    }
}

/// How much the socket took.
fn send(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are as long as said.
    let count = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if count >= 0 { Ok(count as usize) } else { would_block().map(|()| 0) }
}

fn would_block() -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

fn close(socket: RawFd, ends: &mut Ends) {
    if let Some(end) = ends.get_mut(socket as usize).and_then(Option::take)
        && let Some(peer) = ends.get_mut(end.peer as usize)
    {
        *peer = None;
    }
}

fn register(epoll: RawFd, socket: RawFd, interest: u32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: interest, u64: socket as u64 };
    // SAFETY: both descriptors are open, and the kernel copies the event.
    unsafe { check(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &mut event)).map(drop) }
}

fn check(outcome: i32) -> io::Result<i32> {
    if outcome >= 0 { Ok(outcome) } else { Err(io::Error::last_os_error()) }
}
