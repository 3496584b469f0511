//! A proxy in this process in front of a backend that answers with what it was told.
#![allow(unreachable_pub, dead_code, reason = "each test file uses its own part")]

use model::address::Address;
use model::cluster::{Cluster, Discovery, UpstreamProtocol};
use model::demand::{Demand, Source};
use model::endpoint::{Assignment, Endpoint, EndpointTarget, LocalityEndpoints};
use model::http::*;
use model::listener::{ChainMatch, FilterChain, Listener, NetworkFilter};
use model::route::*;
use model::snapshot::Snapshot;
use proxy::publish::Publisher;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        target: EndpointTarget::Address(Address::Tcp(address)),
        weight: 1,
        health: Default::default(),
        hostname: "".into(),
        check: Default::default(),
        more_addresses: Default::default(),
        lb_metadata: Default::default(),
        socket_match: Default::default(),
    })
}

pub fn cluster(name: &str, backends: &[SocketAddr], protocol: UpstreamProtocol) -> Arc<Cluster> {
    let endpoints = backends.iter().map(|address| endpoint(*address)).collect();
    let locality = LocalityEndpoints { endpoints, ..Default::default() };
    let assignment = Assignment { localities: vec![locality], overprovisioning_factor: 140 };
    Arc::new(Cluster { protocol, ..Cluster::named(name, Discovery::Static(Arc::new(assignment))) })
}

pub fn forward(cluster: &str) -> Forward {
    Forward { timeout: Duration::from_secs(5), ..Forward::to(Target::Cluster(cluster.into())) }
}

/// One route for all paths.
pub fn routes_of(action: Action) -> Vec<Route> {
    let matches = RouteMatch::at(PathMatch::Prefix { prefix: "/".into(), ignore_case: false });
    vec![Route {
        name: "all".into(),
        matches,
        action,
        edits: None,
        filters: Default::default(),
        stat_prefix: "".into(),
        body_limit: None,
    }]
}

pub fn manager(action: Action, change: impl Fn(&mut HttpManager)) -> HttpManager {
    let host = VirtualHost { name: "all".into(), routes: routes_of(action), ..Default::default() };
    let domains = Domains { any: Some(0), ..Default::default() };
    let table = RouteTable { virtual_hosts: vec![host], domains, ..Default::default() };
    let mut manager = HttpManager {
        stat_prefix: "test".into(),
        codec: Codec::Auto,
        routes: RouteSource::Inline(Arc::new(table)),
        filters: vec![],
        access_logs: vec![],
        server_name: "ripstop".into(),
        server_header: ServerHeader::Overwrite,
        via: None,
        use_remote_address: false,
        xff_num_trusted_hops: 0,
        skip_xff_append: false,
        internal_addresses: vec![],
        generate_request_id: true,
        preserve_external_request_id: false,
        always_set_request_id_in_response: false,
        suppress_envoy_headers: false,
        respect_expected_rq_timeout: false,
        start_child_span: false,
        path: PathOptions::default(),
        strip_matching_host_port: false,
        strip_any_host_port: false,
        strip_trailing_host_dot: false,
        underscores: UnderscoresAction::Allow,
        max_head_bytes: 60 * 1024,
        max_headers: 100,
        http1: Http1Options::default(),
        http2: Http2Options::default(),
        timeouts: ManagerTimeouts::default(),
        upgrades: vec!["websocket".into()],
        stream_error_on_invalid: false,
        proxy_status: None,
        local_reply: Default::default(),
        early_mutations: vec![],
        client_address: vec![],
        append_x_forwarded_port: false,
        append_local_overload: false,
        scheme: None,
        user_agent: None,
        set_current_client_cert_details: ClientCertDetails::default(),
        forward_client_cert: ForwardClientCert::Sanitize,
    };
    change(&mut manager);
    manager
}

pub fn listener(filter: NetworkFilter) -> Arc<Listener> {
    let chain = FilterChain {
        name: "".into(),
        matches: ChainMatch::default(),
        tls: None,
        transport_connect_timeout: Duration::ZERO,
        guards: Vec::new(),
        filter,
        hash: 1,
    };
    Arc::new(Listener {
        name: "in".into(),
        address: Address::Tcp("127.0.0.1:0".parse().unwrap()),
        additional_addresses: vec![],
        stat_prefix: None,
        chains: vec![Arc::new(chain)],
        default_chain: None,
        inspect_tls: false,
        inspect_http: false,
        original_dst: false,
        continue_on_filters_timeout: false,
        proxy_protocol: None,
        tcp_keepalive: None,
        listener_filters_timeout: Duration::from_secs(1),
        buffer_limit: 1 << 20,
        ignore_global_limit: false,
        bypass_overload: false,
        hand_over: false,
        socket: model::listener::SocketOptions::default(),
        access_logs: vec![],
        hash: 1,
    })
}

/// A running proxy; stops when dropped.
pub struct Proxy {
    publisher: Publisher,
    snapshot: Snapshot,
    pub address: SocketAddr,
}

impl Proxy {
    pub fn start(filter: NetworkFilter, clusters: Vec<Arc<Cluster>>) -> Proxy {
        let mut publisher = Publisher::start(1, Arc::default()).unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.listeners.insert("in".into(), listener(filter));
        for cluster in clusters {
            snapshot.clusters.insert(cluster.name.clone(), cluster);
        }
        let errors = publisher.publish(&Arc::new(snapshot.clone()));
        assert!(errors.is_empty(), "{errors:?}");
        let address = publisher.address_of("in").unwrap();
        Proxy { publisher, snapshot, address }
    }

    /// Publishes what `change` makes of the configuration.
    pub fn publish(&mut self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot);
        assert!(self.publisher.publish(&Arc::new(self.snapshot.clone())).is_empty());
    }

    /// What requests ask for from now on.
    pub fn demands(&mut self) -> UnboundedReceiver<(Demand, Source)> {
        let (asking, asked) = unbounded_channel();
        self.publisher.set_asking(asking);
        self.publish(|_| {});
        asked
    }

    /// The control plane has said what there is to say of this.
    pub fn answer(&self, demand: Demand) {
        self.publisher.answered(vec![demand]);
    }

    pub fn http(backend: SocketAddr) -> Proxy {
        Proxy::http_with(backend, UpstreamProtocol::Http1, |_| {}, |_| {})
    }

    pub fn http_with(
        backend: SocketAddr,
        protocol: UpstreamProtocol,
        manage: impl Fn(&mut HttpManager),
        route: impl Fn(&mut Forward),
    ) -> Proxy {
        let mut action = forward("backend");
        route(&mut action);
        let manager = manager(Action::Forward(Box::new(action)), manage);
        Proxy::start(NetworkFilter::Http(Arc::new(manager)), vec![cluster("backend", &[backend], protocol)])
    }

    /// Sends `raw` on a fresh connection and reads until the proxy closes or is quiet for `quiet`.
    pub fn exchange(&self, raw: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(raw).unwrap();
        read_quiet(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        stream
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.publisher.stop();
    }
}

/// Reads until the end or until nothing comes for the stream's read timeout; marks an end with `<closed>`.
pub fn read_quiet(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut space = [0; 65536];
    loop {
        match stream.read(&mut space) {
            Ok(0) => {
                all.extend_from_slice(b"<closed>");
                break;
            }
            Ok(count) => all.extend_from_slice(&space[..count]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                break;
            }
            Err(_) => {
                all.extend_from_slice(b"<reset>");
                break;
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until what came ends with `end`, or nothing more comes.
pub fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut space = [0; 4096];
    while !all.ends_with(end.as_bytes()) {
        match stream.read(&mut space) {
            Ok(count) if count > 0 => all.extend_from_slice(&space[..count]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// A backend thread that serves connections one after the other with `serve`.
pub fn backend(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
    address
}

/// Reads one request (head, and body by content-length or chunked) and returns it as text.
pub fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    let mut byte = [0; 1];
    while !all.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        all.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&all).to_lowercase();
    if let Some(at) = head.find("content-length: ") {
        let length: usize = head[at + 16..].split("\r\n").next()?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        all.extend(body);
    } else if head.contains("transfer-encoding: chunked") {
        while !all.ends_with(b"\r\n0\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            all.push(byte[0]);
        }
    }
    Some(String::from_utf8_lossy(&all).into_owned())
}

/// A keep-alive backend that answers every request with the request itself as the body.
pub fn echo() -> SocketAddr {
    backend(|mut stream| {
        std::thread::spawn(move || {
            while let Some(request) = read_request(&mut stream) {
                let head = format!("HTTP/1.1 200 OK\r\nX-Backend: echo\r\nContent-Length: {}\r\n\r\n", request.len());
                if stream.write_all([head.as_bytes(), request.as_bytes()].concat().as_slice()).is_err() {
                    return;
                }
            }
        });
    })
}
