//! HTTP/2 downstream connections: one task per connection, one per stream, all on the same worker.

use super::call::{self, Call};
use super::respond::Responder;
use super::watch::Watch;
use crate::clock;
use crate::http::body::{Replay, Source};
use crate::http::h1::Framing;
use crate::http::h2::{self, Accepted, H2Source};
use crate::http::heads;
use crate::io::Io;
use crate::state::{HttpService, Worker};
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::{Head, request};
use model::Refusal;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

pub async fn serve(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &Rc<ConnectionFacts>, io: Io) {
    service.stats.downstream_cx_http2_total.inc();
    let manager = &service.manager;
    let options = &manager.http2;
    let mut connection = h2::Connection::new(
        io,
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
    let membership = service.drain.join();
    let active = Rc::new(Cell::new(0u32));
    let mut draining = false;
    let idle = manager.timeouts.idle;
    // Made once, not once per stream.
    let mut drain = pin!(membership.started());
    let mut idle_end = pin!(idle_for(idle, &active));
    let mut old = pin!(after(service.longest_connection(worker.random_unit())));
    let mut lost = pin!(h2::unanswered(&link, options.keepalive_interval, options.keepalive_timeout));
    loop {
        tokio::select! {
            biased;
            accepted = poll_fn(|cx| connection.poll_accept(cx)) => match accepted {
                Some(accepted) => spawn_stream(worker, service, facts, accepted, &active),
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

/// Ready after `time`, if there is one.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
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

fn spawn_stream(
    worker: &Rc<Worker>,
    service: &Rc<HttpService>,
    facts: &Rc<ConnectionFacts>,
    accepted: Accepted,
    active: &Rc<Cell<u32>>,
) {
    let (worker, service, facts, active) = (worker.clone(), service.clone(), facts.clone(), active.clone());
    active.set(active.get() + 1);
    tokio::task::spawn_local(async move {
        let stream: Pin<Box<dyn Future<Output = ()>>> = Box::pin(serve_stream(&worker, &service, &facts, accepted));
        clock::Ticking::new(stream).await;
        active.set(active.get() - 1);
    });
}

async fn serve_stream(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &Rc<ConnectionFacts>, accepted: Accepted) {
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
        worker,
        service,
        connection: facts,
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
}
