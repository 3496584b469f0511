//! The load generator: one thread, closed loop (as fast as answers come) or open loop (at a fixed rate).
//!
//! In an open loop every request has an intended start, and its latency counts from there: a proxy that stalls is
//! charged for all the requests that had to wait (no coordinated omission).

pub(crate) mod grpc;
mod http1;
pub(crate) mod http2;
mod pace;
mod tcp;
mod tls;

pub use tls::ClientTls;

use crate::histogram::Histogram;
use anyhow::Context;
use pace::Pacer;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What clients and backends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Http1,
    /// HTTP/1.1, a new connection for each request.
    Http1Close,
    Http2,
    GrpcUnary,
    /// One call per stream for the whole run; a message and its echo count as a request.
    GrpcStream,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection (or stream) sends its next request when the last was answered.
    Saturate,
    /// Requests per second, whatever the answers do.
    Rate(f64),
}

pub struct Plan {
    pub protocol: Protocol,
    pub target: SocketAddr,
    pub tls: Option<Arc<ClientTls>>,
    pub connections: usize,
    /// Concurrent streams on each connection; 1 where the protocol has none.
    pub streams: usize,
    /// `:path` of HTTP requests.
    pub path: String,
    /// `Host` of HTTP requests; connections take turns.
    pub hosts: Vec<String>,
    /// Bytes that each request carries (TCP and gRPC: bytes of a message).
    pub send: usize,
    /// Bytes of body that each answer must have.
    pub expect: usize,
    pub pace: Pace,
    pub warm_up: Duration,
    pub duration: Duration,
}

/// What was seen in the measured time; `S` is a sample of the proxy at its beginning and at its end.
pub struct Outcome<S> {
    pub requests: u64,
    pub before: S,
    pub after: S,
    pub latency: Histogram,
}

/// A backlog may be full for a moment.
const CONNECT_TRIES: usize = 50;
/// Connections that are opened at the same time.
const OPENING: usize = 64;
/// Share of handshakes that must be resumed where they should be; the first ones cannot be.
const RESUMED: f64 = 0.95;

/// Runs the plan on this thread. `sample` is asked at the beginning and at the end of the measured time.
pub fn run<S>(plan: Plan, sample: impl Fn() -> anyhow::Result<S>) -> anyhow::Result<Outcome<S>> {
    drive(plan, async |run: &Run| {
        run.pacer.open();
        tokio::time::sleep(run.plan.warm_up).await;
        let before = sample()?;
        run.counts.measuring.set(true);
        tokio::time::sleep(run.plan.duration).await;
        run.counts.measuring.set(false);
        let after = sample()?;
        run.counts.check(&run.plan)?;
        Ok(Outcome { requests: run.counts.requests.get(), before, after, latency: run.counts.latency.take() })
    })
}

/// Opens the plan's connections, sends one request on each, lets them settle for the plan's duration, and asks `look`.
pub fn hold<T>(plan: Plan, look: impl Fn() -> T) -> anyhow::Result<T> {
    drive(plan, async |run: &Run| {
        tokio::time::sleep(run.plan.duration).await;
        Ok(look())
    })
}

/// What the connections of a run share.
struct Run {
    plan: Plan,
    pacer: Pacer,
    counts: Counts,
    /// Permits to open a connection.
    opening: Semaphore,
}

/// Opens all connections, and runs `schedule` once they are open.
fn drive<T>(plan: Plan, schedule: impl AsyncFnOnce(&Run) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (pacer, opening) = (Pacer::new(plan.pace)?, Semaphore::new(OPENING));
        let run = Rc::new(Run { plan, pacer, counts: Counts::default(), opening });
        let mut tasks = JoinSet::new();
        for number in 0..run.plan.connections {
            let tls = run.plan.tls.as_ref().map(ClientTls::for_connection);
            tasks.spawn_local(Work { run: run.clone(), number, tls }.connection());
        }
        let schedule = async {
            while run.counts.ready.get() < run.plan.connections {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            schedule(&run).await
        };
        tokio::pin!(schedule);
        loop {
            tokio::select! {
                outcome = &mut schedule => break outcome,
                // A connection ends only with an error while the run lasts.
                Some(ended) = tasks.join_next() => ended.context("a connection's task panicked")??,
                () = run.pacer.run() => {}
            }
        }
    })
}

/// What all connections of a run count together.
#[derive(Default)]
struct Counts {
    /// Connections that are open and wait for their first request.
    ready: Cell<usize>,
    measuring: Cell<bool>,
    requests: Cell<u64>,
    latency: RefCell<Histogram>,
    /// TLS handshakes while measuring.
    handshakes: Cell<u64>,
    /// Those of them that resumed a session.
    resumed: Cell<u64>,
}

impl Counts {
    /// Fails if the run was not what was planned.
    fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        anyhow::ensure!(self.requests.get() > 0, "no request was answered in {:?}", plan.duration);
        let share = self.resumed.get() as f64 / self.handshakes.get().max(1) as f64;
        let resume = plan.tls.as_ref().is_some_and(|tls| tls.resume);
        anyhow::ensure!(resume || share == 0.0, "{share:.2} of the handshakes resumed a session");
        anyhow::ensure!(
            !resume || self.handshakes.get() == 0 || share >= RESUMED,
            "only {share:.2} of the handshakes resumed a session"
        );
        Ok(())
    }
}

/// One connection's part of the run.
struct Work {
    run: Rc<Run>,
    number: usize,
    tls: Option<Arc<ClientTls>>,
}

impl Work {
    async fn connection(self) -> anyhow::Result<()> {
        let protocol = self.plan().protocol;
        let number = self.number;
        // Given back by `ready`.
        self.run.opening.acquire().await?.forget();
        let outcome = match protocol {
            Protocol::Tcp => tcp::run(&self).await,
            Protocol::Http1 => http1::run(&self).await,
            Protocol::Http1Close => http1::run_closing(&self).await,
            Protocol::Http2 => http2::run(self).await,
            Protocol::GrpcUnary => grpc::run_unary(self).await,
            Protocol::GrpcStream => grpc::run_streaming(self).await,
        };
        outcome.with_context(|| format!("{protocol:?} connection {number}"))
    }

    fn plan(&self) -> &Plan {
        &self.run.plan
    }

    fn host(&self) -> &str {
        let hosts = &self.plan().hosts;
        &hosts[self.number % hosts.len()]
    }

    async fn connect(&self) -> anyhow::Result<tls::Stream> {
        let target = self.plan().target;
        let mut tries = 0;
        let stream = loop {
            match tls::connect(target, self.tls.as_deref()).await {
                Ok(stream) => break stream,
                Err(error) => {
                    tries += 1;
                    anyhow::ensure!(tries < CONNECT_TRIES, "cannot connect to {target}: {error:#}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let counts = &self.run.counts;
        if self.tls.is_some() && counts.measuring.get() {
            counts.handshakes.set(counts.handshakes.get() + 1);
            counts.resumed.set(counts.resumed.get() + u64::from(stream.is_resumed()));
        }
        Ok(stream)
    }

    /// Says that the connection is open; the run begins when all are.
    fn ready(&self) {
        self.run.opening.add_permits(1);
        self.run.counts.ready.set(self.run.counts.ready.get() + 1);
    }

    /// Waits for the next request's turn, and gives the moment from which its latency counts.
    async fn turn(&self) -> Instant {
        self.run.pacer.turn().await
    }

    fn answered(&self, intended: Instant) {
        let counts = &self.run.counts;
        if counts.measuring.get() {
            counts.requests.set(counts.requests.get() + 1);
            counts.latency.borrow_mut().record(intended.elapsed().as_nanos() as u64);
        }
    }
}
