//! HTTP/2 downstream connections: one task per connection, one per stream, all on the same worker.

use super::call::{self, Call};
use super::respond::Responder;
use super::watch::Watch;
use crate::clock;
use crate::http::body::{Replay, Source};
use crate::http::h1::Framing;
use crate::http::h2::cork::{Cork, Corked, cork};
use crate::http::h2::{H2Source, convert};
use crate::io::Io;
use crate::state::{HttpService, Worker};
use bytes::Bytes;
use engine::Head;
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use h2::server::SendResponse;
use http::Request;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// Streams reset by the client before they were served, per connection (CVE-2023-44487).
const MAX_RESET_STREAMS: usize = 100;
const HEADER_LIST: u32 = 60 * 1024;

pub async fn serve(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &Rc<ConnectionFacts>, io: Io) {
    service.stats.downstream_cx_http2_total.inc();
    let options = &service.manager.http2;
    let (corked, cork) = cork(io);
    let handshake = h2::server::Builder::new()
        .initial_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_header_list_size(u32::try_from(service.manager.max_head_bytes).unwrap_or(HEADER_LIST))
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .handshake::<_, Bytes>(corked)
        .await;
    let Ok(mut connection) = handshake else {
        service.stats.downstream_cx_protocol_error.inc();
        let _ = poll_fn(|cx| cork.poll_flush(cx)).await;
        return;
    };
    let membership = service.drain.join();
    let active = Rc::new(Cell::new(0u32));
    let mut draining = false;
    let idle = service.manager.timeouts.idle;
    loop {
        tokio::select! {
            biased;
            accepted = accept(&mut connection, &cork) => match accepted {
                Some(Ok((request, respond))) => {
                    spawn_stream(worker, service, facts, request, respond, &active);
                }
                Some(Err(error)) => {
                    if !error.is_io() && !error.is_go_away() {
                        service.stats.downstream_cx_protocol_error.inc();
                    }
                    return;
                }
                None => return,
            },
            () = membership.started(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = idle_for(idle, &active), if !idle.is_zero() && !draining => {
                service.stats.downstream_cx_idle_timeout.inc();
                draining = true;
                connection.graceful_shutdown();
            }
        }
    }
}

type Connection = h2::server::Connection<Corked, Bytes>;
type Accepted = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// The next stream. What the connection has to say goes out when there is none at the moment.
async fn accept(connection: &mut Connection, cork: &Cork) -> Option<Result<Accepted, h2::Error>> {
    poll_fn(|cx| match connection.poll_accept(cx) {
        Poll::Ready(Some(accepted)) => Poll::Ready(Some(accepted)),
        // It has ended; the last words are gathered.
        Poll::Ready(None) => cork.poll_flush(cx).map(|_| None),
        // A write that fails shows in the next read.
        Poll::Pending => {
            let _ = cork.poll_flush(cx);
            Poll::Pending
        }
    })
    .await
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
    request: Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
    active: &Rc<Cell<u32>>,
) {
    let (worker, service, facts, active) = (worker.clone(), service.clone(), facts.clone(), active.clone());
    active.set(active.get() + 1);
    tokio::task::spawn_local(async move {
        let stream: std::pin::Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(serve_stream(&worker, &service, &facts, request, respond));
        clock::Ticking::new(stream).await;
        active.set(active.get() - 1);
    });
}

async fn serve_stream(
    worker: &Rc<Worker>,
    service: &Rc<HttpService>,
    facts: &Rc<ConnectionFacts>,
    request: Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
) {
    service.stats.downstream_rq_http2_total.inc();
    let (parts, body) = request.into_parts();
    let mut head = Head::default();
    let mut response = Head::default();
    let mut watch = Watch::default();
    convert::from_request(&parts, &mut head);
    let mut source = H2Source::new(body);
    let length = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
    let framing = match length {
        _ if source.is_done() => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let call = Call {
        worker,
        service,
        connection: facts,
        request: &mut head,
        response: &mut response,
        trailers: None,
        body: Replay::new(Source::H2(&mut source), 0),
        framing,
        expects_continue: false,
        upgrade: false,
        responder: Responder::H2 { respond, sink: None },
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
    call::serve(call).await;
}
