//! Listeners and filter chains as a worker runs them: the model plus counters, logs and TLS.

use super::drain::Drain;
use super::filters::FilterState;
use super::guard::GuardService;
use super::scopes::Tables;
use crate::telemetry::stats::TcpStats;
use crate::telemetry::{AccessLogger, HttpStats, ListenerStats};
use crate::tls::ServerTransport;
use model::http::HttpManager;
use model::listener::{FilterChain, Listener, TcpProxy};
use model::route::RouteTable;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub struct ListenerService {
    pub config: Arc<Listener>,
    pub chains: Vec<Rc<ChainService>>,
    pub stats: Arc<ListenerStats>,
    /// Connections of this version of the listener.
    pub drain: Rc<Drain>,
}

pub struct ChainService {
    pub chain: Arc<FilterChain>,
    /// Replaced when secrets change; connections keep what they began with.
    pub transport: RefCell<ServerTransport>,
    pub guards: Vec<GuardService>,
    pub kind: ServiceKind,
}

pub enum ServiceKind {
    Http(Rc<HttpService>),
    Tcp(Rc<TcpService>),
    Close,
}

pub struct HttpService {
    /// Overload is answered by turning requests away.
    pub sheds: bool,
    pub manager: Arc<HttpManager>,
    pub routes: Tables,
    /// What the manager's filters remember, in their order.
    pub filters: Vec<FilterState>,
    pub stats: Arc<HttpStats>,
    pub logs: Vec<AccessLogger>,
    pub drain: Rc<Drain>,
}

pub struct TcpService {
    pub config: Arc<TcpProxy>,
    pub stats: Arc<TcpStats>,
    pub logs: Vec<AccessLogger>,
    pub drain: Rc<Drain>,
}

/// The current version of a route table. Requests hold the version they began with.
#[expect(clippy::redundant_allocation, reason = "cloning the outer Rc touches no counter that other workers share")]
pub struct Routes(RefCell<Rc<Arc<RouteTable>>>);

impl Routes {
    pub fn new(table: Arc<RouteTable>) -> Self {
        Routes(RefCell::new(Rc::new(table)))
    }

    /// A worker-local handle: taking it touches no shared counter.
    pub fn current(&self) -> Rc<Arc<RouteTable>> {
        self.0.borrow().clone()
    }

    pub fn replace(&self, table: Arc<RouteTable>) {
        *self.0.borrow_mut() = Rc::new(table);
    }
}
