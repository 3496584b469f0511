//! Channels to gRPC services (the control plane) over our own sockets and TLS.

use crate::io::Io;
use crate::socket::Socket;
use crate::tls::ClientTransport;
use hyper_util::rt::TokioIo;
use model::Address;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// Ping an idle control-plane connection this often, and give it up when no answer comes in as long.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Where to connect and how; both may change while channels live.
pub struct Dialer {
    addresses: Mutex<Vec<Address>>,
    transport: Mutex<ClientTransport>,
    next: AtomicUsize,
    connect_timeout: Duration,
}

impl Dialer {
    pub fn new(addresses: Vec<Address>, transport: ClientTransport, connect_timeout: Duration) -> Arc<Dialer> {
        Arc::new(Dialer {
            addresses: Mutex::new(addresses),
            transport: Mutex::new(transport),
            next: AtomicUsize::new(0),
            connect_timeout,
        })
    }

    /// For connections from now on.
    pub fn set_transport(&self, transport: ClientTransport) {
        *self.transport.lock().unwrap_or_else(PoisonError::into_inner) = transport;
    }

    pub fn set_addresses(&self, addresses: Vec<Address>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// A channel that connects when it is used, and again after a loss; addresses take turns.
    pub fn channel(self: &Arc<Self>) -> Channel {
        let dialer = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let dialer = dialer.clone();
            async move { dialer.connect().await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://control-plane")
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector)
    }

    async fn connect(&self) -> std::io::Result<Io> {
        let address = {
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            let none = || std::io::Error::other("the control plane's cluster has no address yet");
            addresses.get(turn % addresses.len().max(1)).cloned().ok_or_else(none)?
        };
        let socket = match &address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Failing to tune a socket does not make it useless.
                let _ = stream.set_nodelay(true);
                Socket::tcp(stream)
            }
            Address::Unix(path) => Socket::unix(UnixStream::connect(path).await?),
        };
        let transport = self.transport.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match transport {
            ClientTransport::Plain => Ok(Io::Plain(socket)),
            ClientTransport::Tls(tls) => Ok(Io::Tls(Box::new(tls.connect(socket, &[b"h2"], "").await?))),
            ClientTransport::Broken(reason) => Err(std::io::Error::other(format!("TLS is not ready: {reason}"))),
        }
    }
}

/// An error with its causes; transports hide the reason in them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
