//! The overload manager (`overload.v3.OverloadManager`): what is watched, and what is shed when it runs short.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Overload {
    /// How often resources are looked at.
    pub refresh: Duration,
    pub resources: Vec<Resource>,
    pub actions: Vec<Action>,
    /// Open downstream connections of the whole process (`downstream_connections`).
    pub max_connections: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// As triggers refer to it.
    pub name: Box<str>,
    pub monitor: Monitor,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Monitor {
    /// Bytes that count as 100 percent.
    Heap { most: u64 },
    /// A file that holds a number from 0 to 1.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub kind: ActionKind,
    /// Index of the resource, and what of it matters.
    pub triggers: Vec<(usize, Trigger)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    StopAcceptingRequests,
    DisableHttpKeepalive,
    StopAcceptingConnections,
    RejectIncomingConnections,
    ShrinkHeap,
    /// A load shed point: new connections are closed.
    AcceptConnection,
    /// A load shed point: requests are refused.
    DecodeHeaders,
}

impl ActionKind {
    /// Whether Envoy counts it among `overload_actions` or `load_shed_points`.
    pub fn group(self) -> &'static str {
        match self {
            ActionKind::AcceptConnection | ActionKind::DecodeHeaders => "load_shed_points",
            _ => "overload_actions",
        }
    }

    /// Envoy's name for it, after `envoy.` and its group.
    pub fn name(self) -> &'static str {
        match self {
            ActionKind::StopAcceptingRequests => "stop_accepting_requests",
            ActionKind::DisableHttpKeepalive => "disable_http_keepalive",
            ActionKind::StopAcceptingConnections => "stop_accepting_connections",
            ActionKind::RejectIncomingConnections => "reject_incoming_connections",
            ActionKind::ShrinkHeap => "shrink_heap",
            ActionKind::AcceptConnection => "tcp_listener_accept",
            ActionKind::DecodeHeaders => "http_connection_manager_decode_headers",
        }
    }
}

/// Pressures and thresholds are from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trigger {
    Threshold(f64),
    /// Grows from nothing at the first to all at the second.
    Scaled {
        from: f64,
        to: f64,
    },
}
