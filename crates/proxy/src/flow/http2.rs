//! HTTP/2 downstream connections: one task per connection, one per stream, all on the same worker.

use super::call::{self, Call};
use super::respond::Responder;
use super::rest::Resting;
use super::tasks::Tasks;
use super::watch::Watch;
use crate::clock;
use crate::http::body::{Replay, Source};
use crate::http::h1::Framing;
use crate::http::h2::{self, Accepted, H2Source};
use crate::http::heads;
use crate::state::{HttpService, Worker};
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::{Head, request};
use model::Refusal;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub async fn serve(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &Rc<ConnectionFacts>, resting: Resting) {
    service.stats.downstream_cx_http2_total.inc();
    let manager = &service.manager;
    let options = &manager.http2;
    let Resting { io, buffer, membership, until, .. } = resting;
    let mut connection = h2::Connection::new(
        io,
        buffer,
        h2::Role::Server,
        h2::Options {
            stream_window: options.initial_stream_window,
            connection_window: options.initial_connection_window,
            max_streams: options.max_concurrent_streams,
            limits: h2::Limits { bytes: manager.max_head_bytes, fields: manager.max_headers },
            extended_connect: options.allow_connect,
        },
    );
    let link = connection.link().clone();
    let active = Rc::new(Cell::new(0u32));
    let mut draining = false;
    let idle = manager.timeouts.idle;
    // Made once, not once per stream.
    let mut drain = pin!(membership.started());
    let mut idle_end = pin!(idle_for(idle, &active));
    let mut old = pin!(reached(until));
    let mut lost = pin!(h2::unanswered(&link, options.keepalive_interval, options.keepalive_timeout));
    loop {
        tokio::select! {
            biased;
            accepted = poll_fn(|cx| connection.poll_accept(cx)) => match accepted {
                Some(accepted) => {
                    let (worker, service, facts) = (worker.clone(), service.clone(), facts.clone());
                    let stream = Stream { worker, service, facts, accepted, active: active.clone() };
                    Tasks::serve(&TASKS, stream, serve_stream);
                }
                None => break,
            },
            () = &mut drain, if !draining => {
                draining = true;
                link.drain();
            }
            () = &mut idle_end, if !idle.is_zero() && !draining => {
                service.stats.downstream_cx_idle_timeout.inc();
                draining = true;
                link.drain();
            }
            () = &mut old, if !draining => {
                service.stats.downstream_cx_max_duration_reached.inc();
                draining = true;
                link.drain();
            }
            () = &mut lost => break,
        }
    }
    if link.failed() {
        service.stats.downstream_cx_protocol_error.inc();
    }
}

/// Ready at `moment`, if there is one.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Ready when no stream was active for `limit`.
async fn idle_for(limit: Duration, active: &Rc<Cell<u32>>) {
    loop {
        tokio::time::sleep(limit).await;
        if active.get() == 0 {
            return;
        }
    }
}

/// A stream on its way to the task that serves it.
struct Stream {
    worker: Rc<Worker>,
    service: Rc<HttpService>,
    facts: Rc<ConnectionFacts>,
    accepted: Accepted,
    active: Rc<Cell<u32>>,
}

thread_local! {
    static TASKS: Tasks<Stream> = const { Tasks::new() };
}

/// See [`Tasks::trim`].
pub fn trim() {
    TASKS.with(Tasks::trim);
}

async fn serve_stream(stream: Stream) {
    let Stream { worker, service, facts, accepted, active } = stream;
    active.set(active.get() + 1);
    service.stats.downstream_rq_http2_total.inc();
    let Accepted { mut head, stream, framing, too_large } = accepted;
    let mut response = Head::default();
    let mut watch = Watch::default();
    let mut source = H2Source::new(stream.clone());
    let leaves = request::is_upgrade(&head) || request::is_connect(&head);
    if leaves {
        source.hold();
    }
    let mut call = Call {
        worker: &worker,
        service: &service,
        connection: &facts,
        request: &mut head,
        response: &mut response,
        trailers: None,
        body: Replay::new(Source::H2(&mut source), 0),
        framing: if leaves { Framing::None } else { framing },
        expects_continue: false,
        upgrade: leaves,
        responder: Responder::H2 { stream, sink: None },
        watch: &mut watch,
        internal: false,
        leftovers: Default::default(),
        groups: Default::default(),
        info: StreamInfo {
            protocol: Protocol::Http2,
            start_unix_micros: clock::unix_micros(),
            ..StreamInfo::default()
        },
        started: clock::now(),
    };
    if too_large {
        call::refuse_unread(&mut call, Refusal::HeadTooLarge).await;
    } else {
        call::serve(&mut call).await;
    }
    heads::give(&mut head);
    heads::give(&mut response);
    active.set(active.get() - 1);
}
