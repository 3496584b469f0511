//! Listening sockets.

use crate::socket::Socket as Stream;
use model::Address;
use model::listener::SocketOptions;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use tokio::net::{TcpListener, TcpStream, UnixListener};

/// A socket that accepts.
pub enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Acceptor::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Failing to tune a socket does not make it useless.
                let _ = stream.set_nodelay(true);
                Stream::tcp(stream)
            }),
            Acceptor::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::unix(stream)),
        }
    }
}

/// A listening TCP socket. With `reuse_port` every worker has one of its own and the kernel spreads connections.
pub fn tcp(address: SocketAddr, options: SocketOptions) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if options.transparent {
        switch_on(&socket, address, libc::IP_TRANSPARENT, libc::IPV6_TRANSPARENT)?;
    }
    if options.freebind {
        switch_on(&socket, address, libc::IP_FREEBIND, libc::IPV6_FREEBIND)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Sets an option that has a name in each family.
fn switch_on(socket: &Socket, address: SocketAddr, v4: libc::c_int, v6: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    let (level, name) = if address.is_ipv4() { (libc::SOL_IP, v4) } else { (libc::SOL_IPV6, v6) };
    // SAFETY: the socket is open, and the kernel reads one integer of the size given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds `address`, replacing a stale Unix socket file.
pub fn unix(path: &std::path::Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        // Nobody answers: the file is left over from a process that ended.
        let _ = std::fs::remove_file(path);
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A bound socket on its way to a worker.
pub enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Bound {
    pub fn bind(address: &Address, options: SocketOptions) -> io::Result<Bound> {
        match address {
            Address::Tcp(address) => tcp(*address, options).map(Bound::Tcp),
            Address::Unix(path) => unix(path).map(Bound::Unix),
        }
    }

    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Bound::Tcp(listener) => listener.local_addr().ok(),
            Bound::Unix(_) => None,
        }
    }

    pub fn try_clone(&self) -> io::Result<Bound> {
        match self {
            Bound::Tcp(listener) => listener.try_clone().map(Bound::Tcp),
            Bound::Unix(listener) => listener.try_clone().map(Bound::Unix),
        }
    }

    /// Registers with the current runtime.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        match self {
            Bound::Tcp(listener) => TcpListener::from_std(listener).map(Acceptor::Tcp),
            Bound::Unix(listener) => UnixListener::from_std(listener).map(Acceptor::Unix),
        }
    }
}

/// Where the client meant to go before a rule sent it here: by `REDIRECT` (`SO_ORIGINAL_DST`), or by `TPROXY` to a
/// transparent listener, whose connections have that address themselves.
pub fn original_destination(stream: &TcpStream, transparent: bool) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    let found = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let found = found.ok().and_then(|found| found.as_socket());
    found.or_else(|| transparent.then_some(local)).map(canonical)
}

/// IPv4-mapped IPv6 addresses as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, v6.port())),
            None => SocketAddr::V6(SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0)),
        },
        v4 => v4,
    }
}
