//! Opens the socket of an upstream connection: source address, keep-alive, several addresses in turn (RFC 8305).

use crate::socket::Socket;
use engine::proxy_protocol::{self, Origin};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::cluster::{Cluster, TcpKeepalive};
use model::listener::ProxyVersion;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

/// How long one address may take before the next is tried too.
const HEAD_START: Duration = Duration::from_millis(300);

/// Connects to `address`, or to whichever of it and `more` answers first.
pub async fn tcp(cluster: &Cluster, address: SocketAddr, more: &[SocketAddr]) -> io::Result<TcpStream> {
    let stream = match more {
        [] => one(cluster, address).await?,
        more => {
            race(cluster, &engine::eyeballs::order(&[&[address], more].concat(), &cluster.connections().eyeballs))
                .await?
        }
    };
    // Failing to tune a socket does not make it useless.
    let _ = stream.set_nodelay(true);
    if let Some(keepalive) = &cluster.tcp_keepalive {
        let _ = keep_alive(&stream, keepalive);
    }
    Ok(stream)
}

/// Starts with the first address; each further one joins when the one before failed or took its head start.
async fn race(cluster: &Cluster, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = match waiting.next() {
            Some(address) => {
                running.push(one(cluster, *address));
                true
            }
            None => false,
        };
        let head_start =
            async { if more { tokio::time::sleep(HEAD_START).await } else { std::future::pending().await } };
        tokio::select! {
            biased;
            finished = running.next() => match finished {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(last),
            },
            () = head_start => {}
        }
    }
}

async fn one(cluster: &Cluster, address: SocketAddr) -> io::Result<TcpStream> {
    let source = cluster.connections().bind.iter().find(|source| source.is_ipv4() == address.is_ipv4());
    let Some(source) = source else { return TcpStream::connect(address).await };
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if source.port() == 0 {
        // The port is chosen when the peer is known: one port serves many peers.
        bind_address_no_port(&socket)?;
    } else {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(*source)?;
    socket.connect(address).await
}

fn bind_address_no_port(socket: &TcpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel reads one integer of the size given.
    let result = unsafe {
        let (level, name) = (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends the PROXY protocol header: for `origin`, else for this proxy itself.
pub async fn speak_for(mut socket: Socket, version: ProxyVersion, origin: Option<Origin>) -> io::Result<Socket> {
    let own = || {
        let tcp = socket.as_tcp()?;
        Some(Origin { source: tcp.local_addr().ok()?, destination: tcp.peer_addr().ok()? })
    };
    // Version 2 has a way to say that a connection is the proxy's own.
    let origin = origin.or_else(|| if version == ProxyVersion::V1 { own() } else { None });
    let mut header = Vec::new();
    proxy_protocol::write(version, origin, &mut header);
    socket.write_all(&header).await?;
    Ok(socket)
}

/// TCP keep-alive as configured.
pub fn keep_alive(stream: &TcpStream, config: &TcpKeepalive) -> io::Result<()> {
    let mut keepalive = socket2::TcpKeepalive::new();
    if let Some(time) = config.time {
        keepalive = keepalive.with_time(time);
    }
    if let Some(interval) = config.interval {
        keepalive = keepalive.with_interval(interval);
    }
    if let Some(probes) = config.probes {
        keepalive = keepalive.with_retries(probes);
    }
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::cluster::{Connections, Discovery};
    use std::sync::Arc;

    fn cluster() -> Cluster {
        Cluster::named("up", Discovery::Static(Arc::default()))
    }

    #[tokio::test]
    async fn another_address_is_tried_when_one_refuses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let gone = TcpSocket::new_v4().unwrap();
        gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let stream = tcp(&cluster(), gone.local_addr().unwrap(), &[here]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), here);
        let refused = tcp(&cluster(), gone.local_addr().unwrap(), &[gone.local_addr().unwrap()]).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn the_source_address_is_as_configured() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut cluster = cluster();
        let bind = vec!["[::1]:0".parse().unwrap(), "127.0.0.9:0".parse().unwrap()];
        cluster.connections = Some(Connections { bind, ..Connections::USUAL }.into());
        let stream = tcp(&cluster, listener.local_addr().unwrap(), &[]).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), std::net::Ipv4Addr::new(127, 0, 0, 9));
    }
}
