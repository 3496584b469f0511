//! Connections of health checks: the endpoint's address and transport, or what the check says instead.

use super::check::Subject;
use crate::io::Io;
use crate::socket::Socket;
use crate::tls::ClientTransport;
use crate::upstream::dial as upstream;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::Address;
use model::health::HealthCheck;
use std::io;
use tokio::net::{TcpStream, UnixStream};

/// A connection that waits for the next check.
pub(super) enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
    Tcp(Box<Io>),
}

pub(super) async fn connect(subject: &Subject, config: &HealthCheck) -> io::Result<Io> {
    let socket = match target(subject) {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            // Failing to tune a socket does not make it useless.
            let _ = stream.set_nodelay(true);
            Socket::tcp(stream)
        }
        Address::Unix(path) => Socket::unix(UnixStream::connect(path).await?),
    };
    let index = transport_index(subject, config);
    let socket = match subject.cluster.proxy_protocol(index) {
        Some(version) => upstream::speak_for(socket, version, None).await?,
        None => socket,
    };
    match transport(subject, index) {
        ClientTransport::Plain => Ok(Io::Plain(socket)),
        ClientTransport::Tls(tls) => Ok(Io::Tls(Box::new(tls.connect_for_check(socket, &config.alpn).await?))),
        ClientTransport::Broken(reason) => Err(io::Error::other(format!("TLS is not ready: {reason}"))),
    }
}

/// `health_check_config` may name another port or another address.
fn target(subject: &Subject) -> Address {
    let Some(own) = &subject.endpoint.check else { return subject.address.clone() };
    match (&own.address, &subject.address) {
        (Some(address), _) => address.clone(),
        (None, Address::Tcp(address)) if own.port > 0 => {
            let mut address = *address;
            address.set_port(own.port);
            Address::Tcp(address)
        }
        (None, address) => address.clone(),
    }
}

fn transport_index(subject: &Subject, config: &HealthCheck) -> usize {
    let wanted = config.socket_match.as_deref().unwrap_or(&subject.endpoint.socket_match);
    subject.cluster.transport_index(wanted)
}

fn transport(subject: &Subject, index: usize) -> ClientTransport {
    let cluster = &subject.cluster;
    let transports = subject.transports.borrow();
    let own = transports.clients.get(&cluster.name).and_then(|all| all.get(index));
    own.cloned().unwrap_or_else(|| ClientTransport::Broken("it has not been prepared".into()))
}

pub(super) async fn http1(subject: &Subject, config: &HealthCheck) -> io::Result<http1::SendRequest<Full<Bytes>>> {
    let io = TokioIo::new(connect(subject, config).await?);
    let (send, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
    // Its end is seen by the request on it.
    tokio::spawn(connection);
    Ok(send)
}

pub(super) async fn http2(subject: &Subject, config: &HealthCheck) -> io::Result<http2::SendRequest<Full<Bytes>>> {
    let io = TokioIo::new(connect(subject, config).await?);
    let (send, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(send)
}
