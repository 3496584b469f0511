//! One endpoint as one worker knows it: load, health, pooled connections.

use super::opening::Opening;
use crate::clock;
use crate::http::{h1, h2};
use engine::balance::Availability;
use engine::proxy_protocol::Origin;
use engine::resilience::outlier;
use model::endpoint::{Endpoint, Health};
use model::health::ActiveHealth;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// An idle HTTP/1 connection to a host, or one in use.
pub struct H1Connection {
    pub reader: h1::Reader,
    pub writer: h1::Writer,
    /// Requests it has served.
    pub served: u32,
    /// The request under way.
    pub turn: Turn,
    pub idle_since: Instant,
    /// For whom it speaks (PROXY protocol); it serves nobody else.
    pub origin: Option<Origin>,
    /// It takes no more requests then (`max_connection_duration`).
    pub until: Option<Instant>,
    pub local: Option<SocketAddr>,
    /// Counts the connection while it lives.
    pub _guard: ConnectionGuard,
}

/// What one request needs remembered of it until its response is complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// The connection came from the pool.
    pub reused: bool,
    pub to: h1::AnswerTo,
    pub passage: Passage,
    /// The response lets the connection live on.
    pub keep_alive: bool,
    /// Bytes the connection had sent before.
    pub sent_before: u64,
}

/// What becomes of a connection with the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    /// It serves further requests.
    #[default]
    Messages,
    /// It leaves HTTP, if the answer agrees: an upgrade, or a CONNECT to a proxy.
    Switch,
    /// It never spoke HTTP: a tunnel ends in it.
    Raw,
}

/// A shared HTTP/2 connection, while it is pooled or a request is on it; then it closes.
pub struct H2Connection {
    pub link: Rc<h2::Link>,
    /// Streams started.
    pub served: Cell<u32>,
    pub active: Cell<u32>,
    /// No new streams: it was replaced.
    pub closed: Cell<bool>,
    pub local: Option<SocketAddr>,
    pub stats: Arc<crate::telemetry::ClusterStats>,
    pub origin: Option<Origin>,
    pub idle_since: Cell<Instant>,
    pub until: Option<Instant>,
}

impl H2Connection {
    /// It may take requests, now or later.
    fn lasts(&self) -> bool {
        !self.closed.get() && !self.link.leaves() && !is_old(self.until, &self.stats)
    }
}

impl Drop for H2Connection {
    fn drop(&mut self) {
        self.link.close();
    }
}

/// Counts an open connection until it is dropped.
pub struct ConnectionGuard {
    pub stats: Arc<crate::telemetry::ClusterStats>,
    of_host: Rc<Cell<u32>>,
}

impl ConnectionGuard {
    pub fn new(stats: &Arc<crate::telemetry::ClusterStats>, host: &Host) -> Self {
        stats.upstream_cx_active.inc();
        host.connections.set(host.connections.get() + 1);
        ConnectionGuard { stats: stats.clone(), of_host: host.connections.clone() }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.stats.upstream_cx_active.dec();
        self.stats.upstream_cx_destroy.inc();
        self.of_host.set(self.of_host.get().saturating_sub(1));
    }
}

/// Whether a connection has reached its longest duration; counts it.
fn is_old(until: Option<Instant>, stats: &crate::telemetry::ClusterStats) -> bool {
    let old = until.is_some_and(|until| clock::now() >= until);
    stats.upstream_cx_max_duration_reached.add(u64::from(old));
    old
}

pub struct Host {
    pub endpoint: Arc<Endpoint>,
    pub address: model::Address,
    /// As logs show it.
    pub name: Rc<str>,
    /// Requests in flight from this worker. This and what follows goes on when the endpoint's description changes.
    pub active: Rc<Cell<u32>>,
    pub outlier: Rc<RefCell<outlier::Record>>,
    /// What active health checks say; without any, that all is well.
    pub checked: Cell<ActiveHealth>,
    /// Told when TCP connections must close because a check failed.
    pub broken: Notify,
    /// For the balancer.
    pub record: Rc<engine::balance::Record>,
    /// When it was added or became healthy, on the cluster's clock; `None` while it is not.
    pub healthy_since: Cell<Option<Duration>>,
    /// `hash_key` of its metadata, for consistent hashing.
    pub hash_key: Option<Box<str>>,
    /// Boxed: a connection is handed on several times for each request.
    pub idle: RefCell<Vec<Box<H1Connection>>>,
    pub h2: RefCell<Vec<Rc<H2Connection>>>,
    /// An HTTP/2 connection that will be in `h2` soon.
    pub opening: RefCell<Option<Rc<Opening>>>,
    pub requests: Cell<u64>,
    pub errors: Cell<u64>,
    /// Open connections, also those in use.
    pub connections: Rc<Cell<u32>>,
    /// The endpoint has left the cluster; connections are not pooled any more.
    pub gone: Cell<bool>,
}

impl Host {
    pub fn new(endpoint: Arc<Endpoint>, address: model::Address) -> Self {
        let name: Rc<str> = address.to_string().into();
        let hash_key = endpoint.lb_metadata.iter().find(|(key, _)| **key == *"hash_key");
        let hash_key = hash_key.and_then(|(_, json)| serde_json::from_str::<String>(json).ok()).map(Into::into);
        Host {
            endpoint,
            address,
            name,
            active: Rc::default(),
            outlier: Rc::default(),
            record: Rc::default(),
            healthy_since: Cell::default(),
            hash_key,
            checked: Cell::default(),
            broken: Notify::new(),
            idle: RefCell::default(),
            h2: RefCell::default(),
            opening: RefCell::default(),
            requests: Cell::new(0),
            errors: Cell::new(0),
            connections: Rc::default(),
            gone: Cell::new(false),
        }
    }

    pub fn usable(&self) -> bool {
        self.endpoint.health.usable() && !self.checked.get().failed && !self.outlier.borrow().is_out()
    }

    /// What the balancer may expect of it.
    pub fn availability(&self) -> Availability {
        match self.usable() {
            false => Availability::Unhealthy,
            true if self.endpoint.health == Health::Degraded || self.checked.get().degraded => Availability::Degraded,
            true => Availability::Healthy,
        }
    }

    /// The same host under a new description, with its connections and records.
    pub fn successor(&self, endpoint: Arc<Endpoint>, address: model::Address) -> Self {
        let host = Host {
            connections: self.connections.clone(),
            active: self.active.clone(),
            outlier: self.outlier.clone(),
            record: self.record.clone(),
            healthy_since: self.healthy_since.clone(),
            checked: self.checked.clone(),
            ..Host::new(endpoint, address)
        };
        host.idle.swap(&self.idle);
        host.h2.swap(&self.h2);
        host.requests.set(self.requests.get());
        host.errors.set(self.errors.get());
        self.gone.set(true);
        host
    }

    /// The most recently used idle connection that is still open. The check costs no system call: the worker's
    /// reactor already knows whether something arrived.
    pub fn take_idle(&self, origin: Option<Origin>) -> Option<Box<H1Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(at) = idle.iter().rposition(|connection| connection.origin == origin) {
            let mut connection = idle.remove(at);
            let mut cx = Context::from_waker(Waker::noop());
            if is_old(connection.until, &connection._guard.stats) {
                continue;
            }
            if connection.reader.poll_gone(&mut cx).is_pending() && !connection.reader.has_input() {
                return Some(connection);
            }
        }
        None
    }

    pub fn keep_idle(&self, mut connection: Box<H1Connection>) {
        if !self.gone.get() && !is_old(connection.until, &connection._guard.stats) {
            connection.idle_since = clock::now();
            connection.reader.rest();
            self.idle.borrow_mut().push(connection);
        }
    }

    /// An HTTP/2 connection that can take another stream now.
    pub fn ready_h2(&self, most_requests: u32, origin: Option<Origin>) -> Option<Rc<H2Connection>> {
        let mut connections = self.h2.borrow_mut();
        connections
            .retain(|connection| connection.lasts() && (most_requests == 0 || connection.served.get() < most_requests));
        connections.iter().find(|connection| connection.origin == origin && connection.link.can_open()).cloned()
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self, now: Instant, idle_timeout: Duration) -> usize {
        let mut closed = 0;
        if idle_timeout.is_zero() {
            return closed;
        }
        self.idle.borrow_mut().retain(|connection| {
            if is_old(connection.until, &connection._guard.stats) {
                return false;
            }
            let keep = now.duration_since(connection.idle_since) < idle_timeout;
            closed += usize::from(!keep);
            keep
        });
        self.h2.borrow_mut().retain(|connection| {
            let keep = connection.active.get() > 0 || now.duration_since(connection.idle_since.get()) < idle_timeout;
            closed += usize::from(!keep);
            keep && connection.lasts()
        });
        closed
    }

    /// A check failed: another connection may do better, so those that wait are closed (as in Envoy). `all`: TCP
    /// connections in use too.
    pub fn fail(&self, all: bool) {
        self.idle.borrow_mut().clear();
        for connection in self.h2.borrow_mut().drain(..) {
            connection.closed.set(true);
        }
        if all {
            self.broken.notify_waiters();
        }
    }

    /// The endpoint left: pooled connections close, running requests finish.
    pub fn retire(&self) {
        self.gone.set(true);
        self.idle.borrow_mut().clear();
        self.h2.borrow_mut().clear();
    }
}
