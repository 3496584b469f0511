//! Copies of requests for other clusters (`request_mirror_policies`). Nobody waits for them; their answers are dropped.

use super::call::Call;
use super::respond::Levels;
use crate::clock;
use crate::http::body::{Input, Replay, Source, Transfer};
use crate::http::h1::{Framing, reader::BodyError};
use crate::upstream::exchange::{self, Exchange, Wish};
use crate::upstream::{Cluster, Host, Passage};
use engine::Head;
use engine::format::Context;
use engine::info::Protocol;
use engine::request::append_list;
use engine::resilience::deadline;
use engine::resilience::outlier::Sign;
use engine::route::choose::without_port;
use model::route::{Forward, MirrorTarget};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// A copy is given up after this time when the route has no timeout.
const LONGEST: Duration = Duration::from_secs(60);

/// A copy that is yet to be sent.
pub(super) struct Shadow {
    cluster: Rc<Cluster>,
    head: Head,
    protocol: Protocol,
    timeout: Duration,
}

/// The copies that the route asks for this time.
pub(super) fn shadows(call: &Call<'_>, levels: &Levels<'_>, forward: &Forward) -> Vec<Shadow> {
    let mut shadows = Vec::new();
    if call.upgrade {
        return shadows;
    }
    for mirror in forward.mirrors.iter() {
        if call.worker.random() % 1_000_000 >= u64::from(mirror.fraction_ppm) {
            continue;
        }
        let cluster = match &mirror.target {
            MirrorTarget::Cluster(name) => call.worker.cluster(name),
            MirrorTarget::ClusterHeader(name) => {
                let name = call.request.get(name.as_bytes()).and_then(|name| std::str::from_utf8(name).ok());
                name.and_then(|name| call.worker.cluster(name))
            }
        };
        let Some(cluster) = cluster else { continue };
        let mut head = call.request.clone();
        if levels.choice.host.include_request_attempt_count {
            head.set(b"x-envoy-attempt-count", b"1");
        }
        engine::edits::mutate(&mirror.mutations, &mut head, |head, format, out| {
            engine::format::render(format, &Context::new(head, &call.info, call.connection), "", out);
        });
        if let Some(host) = &mirror.host {
            head.set_authority(host.as_bytes());
        } else if !mirror.keep_host {
            let authority = call.request.authority();
            let host = without_port(authority);
            head.set_authority(&[host, b"-shadow", &authority[host.len()..]].concat());
        }
        // As Envoy does for requests of its own making.
        head.set(b"x-envoy-internal", b"true");
        if let Some(local) = call.connection.local {
            append_list(&mut head, b"x-forwarded-for", local.ip().to_string().as_bytes(), b",");
        }
        let timeout = if forward.timeout.is_zero() { LONGEST } else { forward.timeout };
        if !forward.timeout.is_zero() {
            deadline::tell(forward, &mut head, timeout, call.service.manager.suppress_envoy_headers);
        }
        shadows.push(Shadow { cluster, head, protocol: call.info.protocol, timeout });
    }
    shadows
}

/// Sends the copies now that the body is complete. One that was too long to be kept is not copied.
pub(super) fn send(shadows: &mut Vec<Shadow>, body: &Replay<'_>) {
    for shadow in shadows.drain(..) {
        let Some(body) = body.kept() else {
            shadow.cluster.stats.upstream_rq_mirror_overflow.inc();
            continue;
        };
        let body = Kept { data: body.to_vec(), read: 0 };
        let timeout = shadow.timeout;
        let copy = Box::pin(tokio::time::timeout(timeout, exchange(shadow, body)));
        tokio::task::spawn_local(async move {
            if clock::Ticking::new(copy).await.is_err() {
                tracing::debug!("a mirrored request took too long");
            }
        });
    }
}

async fn exchange(shadow: Shadow, mut body: Kept) {
    let Shadow { cluster, head, protocol, .. } = shadow;
    if cluster.active_requests[0].get() >= cluster.config.limits[0].max_requests {
        cluster.stats.upstream_rq_pending_overflow.inc();
        return;
    }
    let Ok(host) = cluster.pick(&[], 1) else { return };
    let framing = if body.data.is_empty() { Framing::None } else { Framing::Length(body.data.len() as u64) };
    cluster.stats.upstream_rq_total.inc();
    let active = Active::new(&cluster, &host);
    match run(&cluster, &host, &head, protocol, framing, &mut body).await {
        Some(status) => {
            cluster.stats.responses.note(status);
            cluster.stats.upstream_rq_completed.inc();
            cluster.note(&host, Sign::Status(status));
        }
        None => cluster.note(&host, Sign::LocalOrigin),
    }
    drop(active);
}

/// The status, if there was an answer.
async fn run(
    cluster: &Rc<Cluster>,
    host: &Rc<Host>,
    head: &Head,
    downstream: Protocol,
    framing: Framing,
    body: &mut Kept,
) -> Option<u16> {
    let wish = Wish {
        downstream,
        passage: Passage::Messages,
        authority: head.authority(),
        fresh: false,
        priority: 0,
        origin: None,
    };
    let acquired = exchange::acquire(cluster, host, &wish).await.ok()?;
    let mut exchange = Exchange::start(acquired, head, framing, Passage::Messages).ok()?;
    let mut upload = Transfer::default();
    let mut response = Head::default();
    let sent = poll_fn(|cx| upload.poll(cx, body, &mut exchange.sink())).await.is_ok();
    let answered = poll_fn(|cx| exchange.poll_head(cx, &mut response)).await.is_ok();
    let status = answered.then_some(response.status);
    let complete = sent && answered && drain(&mut exchange).await;
    exchange.finish(cluster, host, complete);
    status
}

/// Reads the response body to its end.
async fn drain(exchange: &mut Exchange) -> bool {
    poll_fn(|cx| {
        loop {
            let mut source: Source<'_> = exchange.body();
            match source.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let count = source.data().len();
                    source.consume(count);
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(true),
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// A body held in memory.
struct Kept {
    data: Vec<u8>,
    read: usize,
}

impl Input for Kept {
    fn poll_data(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<bool, BodyError>> {
        Poll::Ready(Ok(self.read < self.data.len()))
    }

    fn data(&self) -> &[u8] {
        &self.data[self.read..]
    }

    fn consume(&mut self, count: usize) {
        self.read += count;
    }

    fn take_trailers(&mut self) -> Option<Box<Head>> {
        None
    }
}

/// Counts the copy while it is under way.
struct Active(Rc<Cluster>, Rc<Host>);

impl Active {
    fn new(cluster: &Rc<Cluster>, host: &Rc<Host>) -> Self {
        host.active.set(host.active.get() + 1);
        cluster.active_requests[0].set(cluster.active_requests[0].get() + 1);
        cluster.stats.upstream_rq_active.inc();
        Active(cluster.clone(), host.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.1.active.set(self.1.active.get().saturating_sub(1));
        self.0.active_requests[0].set(self.0.active_requests[0].get().saturating_sub(1));
        self.0.stats.upstream_rq_active.dec();
    }
}
