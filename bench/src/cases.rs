//! What is measured: one table.

use crate::discovery::Mesh;
use crate::load::{Pace, Protocol};
use crate::peers::{Security, Side, Wire};
use serde::{Deserialize, Serialize};

pub struct Case {
    /// As `--case` takes it.
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
}

pub enum Kind {
    /// CPU per request.
    Traffic(Traffic),
    /// Latency in an open loop, at half of what the slowest peer can do; `pace` does not count.
    Half(Traffic),
    /// The load generator beside others: Ripstop's throughput and cost as each of them sees it.
    Generators(Traffic),
    /// Memory per connection, after one request on each; `pace` does not count.
    Idle(Traffic),
    /// Many services configured, few used: memory, and the time until connections are accepted.
    Services { configured: usize, used: usize },
    /// The same, told by a control plane.
    Discovered { mesh: Mesh, used: usize },
    /// Traffic to some services while a control plane tells of them all.
    Told { mesh: Mesh, used: usize, traffic: Traffic },
}

/// Load through one proxy, or through two.
#[derive(Clone, Copy)]
pub struct Traffic {
    /// Between load and proxy.
    pub protocol: Protocol,
    /// Between proxy and backend.
    pub backend: Protocol,
    pub shape: Shape,
    /// Between load and proxy.
    pub tls: ClientSide,
    pub connections: usize,
    /// On each connection.
    pub streams: usize,
    /// Bytes in each request's body.
    pub send: usize,
    /// Bytes in each answer's body.
    pub expect: usize,
    pub pace: Pace,
    /// Each peer runs with a JSON access log, too.
    pub log: bool,
    /// Size of the route table; the requests take its last route. 0: one route.
    pub routes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One proxy between load and backend.
    Single,
    /// A proxy beside the client and one beside the server, mutual TLS with this protocol between them.
    Mesh(Wire),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClientSide {
    Plain,
    /// A full handshake for each connection.
    Tls,
    /// Sessions are resumed.
    Resumed,
}

const H1: Traffic = Traffic {
    protocol: Protocol::Http1,
    backend: Protocol::Http1,
    shape: Shape::Single,
    tls: ClientSide::Plain,
    connections: 64,
    streams: 1,
    send: 0,
    expect: 1024,
    pace: Pace::Saturate,
    log: false,
    routes: 0,
};
const H2: Traffic = Traffic { protocol: Protocol::Http2, backend: Protocol::Http2, connections: 4, streams: 16, ..H1 };

const GRPC: Traffic = Traffic { protocol: Protocol::GrpcUnary, backend: Protocol::GrpcUnary, send: 1024, ..H2 };

const RATED: Traffic = Traffic { pace: Pace::Rate(1000.0), ..H1 };
const TOLD: Mesh = Mesh { services: 500, endpoints_per_service: 10, moves: 0.0 };

const fn case(name: &'static str, title: &'static str, traffic: Traffic) -> Case {
    Case { name, title, kind: Kind::Traffic(traffic) }
}

const fn idle(name: &'static str, title: &'static str, traffic: Traffic) -> Case {
    Case { name, title, kind: Kind::Idle(Traffic { connections: IDLE, streams: 1, ..traffic }) }
}

/// A proxy has two descriptors for a connection in its limit, which is 20,000 on a usual machine.
const IDLE: usize = 9_800;

pub const CASES: &[Case] = &[
    case("h1-1", "HTTP/1.1 keep-alive, 1 KB, 1 connection", Traffic { connections: 1, ..H1 }),
    case("h1-64", "HTTP/1.1 keep-alive, 1 KB, 64 connections", H1),
    case("h1-256", "HTTP/1.1 keep-alive, 1 KB, 256 connections", Traffic { connections: 256, ..H1 }),
    case(
        "h1-rate",
        "HTTP/1.1 keep-alive, 1 KB, 1,000 requests a second on 16 connections",
        Traffic { connections: 16, pace: Pace::Rate(1000.0), ..H1 },
    ),
    Case {
        name: "h1-half",
        title: "HTTP/1.1 keep-alive, 1 KB, 64 connections, open loop at half of what the slowest peer can do",
        kind: Kind::Half(H1),
    },
    case("h1-64k", "HTTP/1.1 keep-alive, 64 KB, 16 connections", Traffic { connections: 16, expect: 64 << 10, ..H1 }),
    case("h1-1m", "HTTP/1.1 keep-alive, 1 MB, 16 connections", Traffic { connections: 16, expect: 1 << 20, ..H1 }),
    case(
        "h1-close",
        "HTTP/1.1, 1 KB, a new connection per request, 16 at a time",
        Traffic { protocol: Protocol::Http1Close, connections: 16, ..H1 },
    ),
    case(
        "h1-log",
        "HTTP/1.1 keep-alive, 1 KB, 64 connections, without and with a JSON access log to a file",
        Traffic { log: true, ..H1 },
    ),
    case(
        "routes-5000",
        "HTTP/1.1 keep-alive, 1 KB, 64 connections, the last of 5,000 path prefixes (compare with h1-64)",
        Traffic { routes: 5000, ..H1 },
    ),
    case("h2-h1", "HTTP/2 to HTTP/1.1, 1 KB, 4 connections of 16 streams", Traffic { backend: Protocol::Http1, ..H2 }),
    case("grpc-unary", "gRPC unary calls, 1 KB each way, 4 connections of 16 streams", GRPC),
    case(
        "grpc-stream",
        "gRPC messages on lasting calls, 1 KB each way, 4 connections of 16 streams",
        Traffic { protocol: Protocol::GrpcStream, backend: Protocol::GrpcStream, ..GRPC },
    ),
    case(
        "tcp",
        "TCP, 1 KB and its echo, 64 connections",
        Traffic { protocol: Protocol::Tcp, backend: Protocol::Tcp, send: 1024, ..H1 },
    ),
    case(
        "mesh-h1-rate",
        "Mesh hop (two proxies, mutual TLS 1.3) over HTTP/1.1, 1 KB, 1,000 requests a second on 16 connections",
        Traffic { shape: Shape::Mesh(Wire::Http1), connections: 16, pace: Pace::Rate(1000.0), ..H1 },
    ),
    case(
        "mesh-h1",
        "Mesh hop over HTTP/1.1, 1 KB, saturated by 64 connections",
        Traffic { shape: Shape::Mesh(Wire::Http1), ..H1 },
    ),
    case(
        "mesh-h2-rate",
        "Mesh hop over HTTP/2 for HTTP/1.1 applications, 1 KB, 1,000 requests a second on 16 connections",
        Traffic { shape: Shape::Mesh(Wire::Http2), connections: 16, pace: Pace::Rate(1000.0), ..H1 },
    ),
    case(
        "mesh-h2",
        "Mesh hop over HTTP/2 for HTTP/1.1 applications, 1 KB, saturated by 64 connections",
        Traffic { shape: Shape::Mesh(Wire::Http2), ..H1 },
    ),
    case(
        "mesh-grpc",
        "Mesh hop over HTTP/2 for gRPC, 1 KB each way, saturated by 4 connections of 16 streams",
        Traffic { shape: Shape::Mesh(Wire::Http2), ..GRPC },
    ),
    case(
        "mesh-grpc-rate",
        "Mesh hop over HTTP/2 for gRPC, 1 KB each way, 1,000 calls a second on 4 connections of 4 streams",
        Traffic { shape: Shape::Mesh(Wire::Http2), streams: 4, pace: Pace::Rate(1000.0), ..GRPC },
    ),
    Case {
        name: "mesh-h2-half",
        title: "Mesh hop over HTTP/2, 1 KB, 64 connections, open loop at half of what the slowest peer can do",
        kind: Kind::Half(Traffic { shape: Shape::Mesh(Wire::Http2), ..H1 }),
    },
    case(
        "tls-full",
        "TLS 1.3 full handshakes, each with one 1 KB request, 16 at a time",
        Traffic { protocol: Protocol::Http1Close, tls: ClientSide::Tls, connections: 16, ..H1 },
    ),
    case(
        "tls-resumed",
        "TLS 1.3 resumed handshakes, each with one 1 KB request, 16 at a time",
        Traffic { protocol: Protocol::Http1Close, tls: ClientSide::Resumed, connections: 16, ..H1 },
    ),
    idle("idle-plain", "9,800 idle HTTP/1.1 connections after one request each", H1),
    idle(
        "idle-tls",
        "9,800 idle TLS 1.3 connections (HTTP/1.1) after one request each",
        Traffic { tls: ClientSide::Tls, ..H1 },
    ),
    idle(
        "idle-h2",
        "9,800 idle HTTP/2 connections after one request each",
        Traffic { protocol: Protocol::Http2, ..H1 },
    ),
    Case {
        name: "services-5000",
        title: "5,000 services configured, 20 used",
        kind: Kind::Services { configured: 5000, used: 20 },
    },
    Case {
        name: "xds-5000",
        title: "5,000 services with one endpoint each told by a control plane (ADS, state of the world), 20 used",
        kind: Kind::Discovered { mesh: Mesh { services: 5000, endpoints_per_service: 1, moves: 0.0 }, used: 20 },
    },
    Case {
        name: "xds-still",
        title: "1,000 requests a second to 64 of 500 services with 5,000 endpoints told by a control plane",
        kind: Kind::Told { mesh: TOLD, used: 64, traffic: RATED },
    },
    Case {
        name: "xds-churn",
        title: "The same while 1 % of the endpoints move each second (compare with xds-still)",
        kind: Kind::Told { mesh: Mesh { moves: 50.0, ..TOLD }, used: 64, traffic: RATED },
    },
    Case {
        name: "generators-h1",
        title: "The load generator beside wrk and h2load: HTTP/1.1 keep-alive, 1 KB, 64 connections, through Ripstop",
        kind: Kind::Generators(H1),
    },
    Case {
        name: "generators-h2",
        title: "The load generator beside h2load: HTTP/2, 1 KB, 4 connections of 16 streams, through Ripstop",
        kind: Kind::Generators(H2),
    },
];

/// What is measured in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// User and system time of all the proxy's processes, in microseconds.
    CpuPerRequest,
    /// Of user mode; only where the machine counts them.
    InstructionsPerRequest,
    RequestsPerSecond,
    /// Latencies in microseconds.
    P50,
    P99,
    P999,
    /// Requests per second in a closed loop, before the open one.
    Saturation,
    /// Requests per second that are asked for in an open loop.
    Offered,
    /// Resident memory of all the proxy's processes, in MB.
    Memory,
    /// What a connection adds to resident memory, in KB.
    MemoryPerConnection,
    /// From start to the first accepted connection, in milliseconds.
    Ready,
}

impl Metric {
    /// As a table's heading.
    pub fn title(self) -> &'static str {
        match self {
            Metric::CpuPerRequest => "CPU µs/request",
            Metric::InstructionsPerRequest => "user instructions/request",
            Metric::RequestsPerSecond => "requests/s",
            Metric::P50 => "p50, µs",
            Metric::P99 => "p99, µs",
            Metric::P999 => "p99.9, µs",
            Metric::Saturation => "saturated at, requests/s",
            Metric::Offered => "offered, requests/s",
            Metric::Memory => "memory, MB",
            Metric::MemoryPerConnection => "KB per connection",
            Metric::Ready => "ready after, ms",
        }
    }
}

impl Kind {
    /// What a control plane tells.
    pub fn mesh(&self) -> Option<Mesh> {
        match self {
            Kind::Discovered { mesh, .. } | Kind::Told { mesh, .. } => Some(*mesh),
            _ => None,
        }
    }

    /// How many services there are and how many are used, where there are several.
    pub fn services(&self) -> Option<(usize, usize)> {
        match self {
            Kind::Services { configured, used } => Some((*configured, *used)),
            Kind::Discovered { mesh, used } | Kind::Told { mesh, used, .. } => Some((mesh.services, *used)),
            _ => None,
        }
    }
}

impl Case {
    /// It is about access logs.
    pub fn logs(&self) -> bool {
        matches!(self.kind, Kind::Traffic(Traffic { log: true, .. }))
    }

    /// It has requests that a log could tell of.
    pub fn can_log(&self) -> bool {
        matches!(self.kind, Kind::Traffic(traffic) if traffic.protocol != Protocol::Tcp)
    }

    /// The first is the one that ratios compare. In a closed loop latencies say nothing that throughput does not.
    pub fn metrics(&self) -> &'static [Metric] {
        use Metric::*;
        match self.kind {
            Kind::Traffic(Traffic { pace: Pace::Rate(_), .. }) => {
                &[CpuPerRequest, InstructionsPerRequest, P50, P99, P999, Memory]
            }
            Kind::Traffic(_) => &[CpuPerRequest, InstructionsPerRequest, RequestsPerSecond, Memory],
            Kind::Half(_) => &[P99, P50, P999, CpuPerRequest, Offered, Saturation],
            Kind::Generators(_) => &[RequestsPerSecond, CpuPerRequest, P50, P99],
            Kind::Idle(_) => &[MemoryPerConnection, Memory],
            Kind::Services { .. } | Kind::Discovered { .. } => &[Memory, Ready, CpuPerRequest],
            Kind::Told { .. } => &[CpuPerRequest, P50, P99, P999, Memory],
        }
    }
}

/// What `Kind::Services` is used with.
pub const SERVICES_TRAFFIC: Traffic = Traffic { connections: 20, ..H1 };

impl Traffic {
    /// What a lone proxy speaks to clients and to the backend.
    pub fn sides(&self) -> (Side, Side) {
        let security = if self.tls == ClientSide::Plain { Security::Plain } else { Security::Tls };
        (Side { wire: wire(self.protocol), security }, Side { wire: wire(self.backend), security: Security::Plain })
    }

    /// Path of requests.
    pub fn path(&self) -> String {
        match self.routes.checked_sub(1) {
            None => "/".into(),
            Some(last) => format!("/route-{last}/"),
        }
    }
}

fn wire(protocol: Protocol) -> Wire {
    match protocol {
        Protocol::Tcp => Wire::Tcp,
        Protocol::Http1 | Protocol::Http1Close => Wire::Http1,
        Protocol::Http2 | Protocol::GrpcUnary | Protocol::GrpcStream => Wire::Http2,
    }
}

#[cfg(test)]
mod tests {
    use super::CASES;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }
}
