//! The first bytes of a connection through the PROXY protocol, TLS and HTTP inspectors, over a real socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::listener::Listener;
use proxy::accept::inspect;
use proxy::socket::Socket;
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use wire::compile::bootstrap::{Overrides, load};

const CONFIG: &str = r#"
static_resources:
  listeners:
  - name: in
    address: {socket_address: {address: 127.0.0.1, port_value: 1}}
    listener_filters_timeout: 0.05s
    listener_filters:
    - {name: p, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, allow_requests_without_proxy_protocol: true}}
    - {name: t, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}
    - {name: h, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector}}
    filter_chains:
    - filters:
      - {name: x, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: x, cluster: c}}
  clusters:
  - {name: c, connect_timeout: 1s}
"#;

struct Fixture {
    runtime: Runtime,
    listener: Arc<Listener>,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
        let bootstrap = load(Some(("fuzz", CONFIG)), &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        Fixture { runtime, listener: bootstrap.listeners[0].value.clone() }
    })
}

fuzz_target!(|data: &[u8]| {
    // More than the socket's buffer would wait for a reader.
    if data.len() > 64 * 1024 {
        return;
    }
    let Fixture { runtime, listener } = fixture();
    runtime.block_on(async {
        let (mut client, server) = UnixStream::pair().expect("a socket pair");
        client.write_all(data).await.expect("it fits");
        drop(client);
        let mut socket = Socket::unix(server);
        let _ = inspect::run(&mut socket, listener).await;
    });
});
