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
use crate::measure::Sample;
use anyhow::Context;
use pace::Pacer;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// `Host` of HTTP requests.
    pub host: String,
    /// Bytes that each request carries (TCP and gRPC: bytes of a message).
    pub send: usize,
    /// Bytes of body that each answer must have.
    pub expect: usize,
    pub pace: Pace,
    pub warm_up: Duration,
    pub duration: Duration,
}

pub struct Outcome {
    pub requests: u64,
    pub before: Sample,
    pub after: Sample,
    pub latency: Histogram,
}

/// Requests that were not answered as planned end the run; this many may fail before (connections closed at its end).
const CONNECT_TRIES: usize = 50;

/// Runs the plan on this thread. `sample` is asked at the beginning and at the end of the measured time.
pub fn run(plan: Plan, sample: impl Fn() -> anyhow::Result<Sample>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, drive(Rc::new(plan), sample))
}

async fn drive(plan: Rc<Plan>, sample: impl Fn() -> anyhow::Result<Sample>) -> anyhow::Result<Outcome> {
    let counts = Rc::new(Counts::default());
    let pacer = Rc::new(Pacer::new(plan.pace)?);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..plan.connections {
        let work = Work { plan: plan.clone(), pacer: pacer.clone(), counts: counts.clone(), number };
        tasks.spawn_local(work.connection());
    }
    let schedule = {
        let (pacer, counts, plan) = (pacer.clone(), counts.clone(), plan.clone());
        async move {
            while counts.ready.get() < plan.connections {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            pacer.open();
            tokio::time::sleep(plan.warm_up).await;
            let before = sample()?;
            counts.measuring.set(true);
            tokio::time::sleep(plan.duration).await;
            counts.measuring.set(false);
            anyhow::Ok((before, sample()?))
        }
    };
    tokio::pin!(schedule);
    let (before, after) = loop {
        tokio::select! {
            times = &mut schedule => break times?,
            // A connection ends only with an error while the run lasts.
            Some(ended) = tasks.join_next() => ended.context("a connection's task panicked")??,
            () = pacer.run() => {}
        }
    };
    tasks.abort_all();
    let requests = counts.requests.get();
    anyhow::ensure!(requests > 0, "no request was answered in {:?}", plan.duration);
    Ok(Outcome { requests, before, after, latency: counts.latency.take() })
}

/// What all connections of a run count together.
#[derive(Default)]
struct Counts {
    /// Connections that are open and wait for their first request.
    ready: Cell<usize>,
    measuring: Cell<bool>,
    requests: Cell<u64>,
    latency: RefCell<Histogram>,
}

/// One connection's part of the run.
struct Work {
    plan: Rc<Plan>,
    pacer: Rc<Pacer>,
    counts: Rc<Counts>,
    number: usize,
}

impl Work {
    async fn connection(self) -> anyhow::Result<()> {
        let protocol = self.plan.protocol;
        let number = self.number;
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

    async fn connect(&self) -> anyhow::Result<tls::Stream> {
        let mut tries = 0;
        loop {
            match tls::connect(self.plan.target, self.plan.tls.as_deref()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tries += 1;
                    anyhow::ensure!(tries < CONNECT_TRIES, "cannot connect to {}: {error:#}", self.plan.target);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Says that the connection is open; the run begins when all are.
    fn ready(&self) {
        self.counts.ready.set(self.counts.ready.get() + 1);
    }

    /// Waits for the next request's turn, and gives the moment from which its latency counts.
    async fn turn(&self) -> Instant {
        self.pacer.turn().await
    }

    fn answered(&self, intended: Instant) {
        if self.counts.measuring.get() {
            self.counts.requests.set(self.counts.requests.get() + 1);
            self.counts.latency.borrow_mut().record(intended.elapsed().as_nanos() as u64);
        }
    }
}
