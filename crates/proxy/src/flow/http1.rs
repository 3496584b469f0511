//! HTTP/1 downstream connections: one task, one request after the other.

use super::call::{self, Call, Ended};
use super::respond::Responder;
use super::rest::Resting;
use super::watch::{Alarm, Watch};
use crate::clock;
use crate::http::body::{Replay, Source};
use crate::http::h1::{Framing, Limits, Reader, Received, Writer, reader::HeadRead};
use crate::http::heads;
use crate::state::{HttpService, Worker};
use engine::Head;
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::request;
use model::Refusal;
use model::refusal::BadRequest;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Time a client that sent an invalid request has to read the answer before the connection closes.
const LINGER: Duration = Duration::from_secs(1);

/// After this time without a request a connection gives up the room that requests need.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// What persists between requests that follow each other.
struct Connection<'c> {
    worker: &'c Rc<Worker>,
    service: &'c Rc<HttpService>,
    facts: &'c ConnectionFacts,
    resting: &'c mut Resting,
    reader: Reader,
    writer: Writer,
    request: Head,
    response: Head,
    watch: Watch,
    limits: Limits,
}

/// What comes next on a connection.
enum Next {
    Request(Received),
    /// Nothing for a while.
    Rest,
    /// It is over: closed, idle or open for too long, or draining.
    End,
}

pub async fn serve(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &ConnectionFacts, resting: &mut Resting) {
    service.stats.downstream_cx_http1_total.inc();
    while resting.has_input(service).await {
        // Boxed: a connection at rest would otherwise carry the room for a request around.
        if Box::pin(serve_all(worker, service, facts, resting)).await == Ended::Close {
            return;
        }
    }
    let _ = poll_fn(|cx| resting.io.poll_shutdown(cx)).await;
}

/// Serves requests until there are none for a while; `Close` when the connection is closed.
async fn serve_all(
    worker: &Rc<Worker>,
    service: &Rc<HttpService>,
    facts: &ConnectionFacts,
    resting: &mut Resting,
) -> Ended {
    let manager = &service.manager;
    let mut connection = Connection {
        worker,
        service,
        facts,
        reader: Reader::new(resting.io.clone(), std::mem::take(&mut resting.buffer)),
        writer: Writer::new(resting.io.clone()),
        resting,
        request: Head::default(),
        response: Head::default(),
        watch: Watch::default(),
        limits: Limits { head: manager.max_head_bytes, fields: manager.max_headers },
    };
    loop {
        connection.watch.clear();
        let received = match connection.next_head().await {
            Ok(Next::Request(received)) => received,
            Ok(Next::Rest) => return Ended::Reusable,
            Ok(Next::End) => {
                let _ = poll_fn(|cx| connection.writer.io().poll_shutdown(cx)).await;
                return Ended::Close;
            }
            Err(refusal) => {
                Box::pin(connection.refuse(refusal)).await;
                return Ended::Close;
            }
        };
        connection.resting.served += 1;
        let last = manager.timeouts.max_requests_per_connection;
        let more = last == 0 || connection.resting.served < last;
        let keep_alive = received.keep_alive && more && !connection.resting.is_old();
        if connection.serve_one(&received, keep_alive).await == Ended::Close {
            Box::pin(connection.close()).await;
            return Ended::Close;
        }
    }
}

impl Connection<'_> {
    async fn next_head(&mut self) -> Result<Next, Refusal> {
        let timeouts = self.service.manager.timeouts;
        let now = clock::now();
        self.resting.since = now;
        self.watch.set_idle(timeouts.idle, now);
        self.watch.set_attempt(RESTS_AFTER);
        if let Some(until) = self.resting.until {
            self.watch.set_duration(now, until.saturating_duration_since(now).max(Duration::from_millis(1)));
        }
        let Connection { service, resting, reader, request, response, watch, limits, .. } = self;
        let mut begun = false;
        poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(read) = reader.poll_request(cx, request, limits) {
                return Poll::Ready(read.map(|read| match read {
                    HeadRead::Head(received) => Next::Request(received),
                    HeadRead::Closed | HeadRead::CutOff => Next::End,
                }));
            }
            if !reader.has_input() {
                heads::give(request);
                heads::give(response);
            }
            if reader.has_input() && !begun {
                begun = true;
                watch.clear();
                watch.set_attempt(timeouts.request_headers);
            }
            match watch.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(_) if begun => return Poll::Ready(Err(Refusal::RequestTimeout)),
                Poll::Ready(Alarm::Attempt) => return Poll::Ready(Ok(Next::Rest)),
                Poll::Ready(_) => {
                    resting.count_end(service);
                    return Poll::Ready(Ok(Next::End));
                }
            }
            // A connection that waits for its next request has nothing to finish.
            if !begun && resting.served > 0 && resting.membership.poll_started(cx).is_ready() {
                return Poll::Ready(Ok(Next::End));
            }
            Poll::Pending
        })
        .await
    }

    async fn serve_one(&mut self, received: &Received, keep_alive: bool) -> Ended {
        self.service.stats.downstream_rq_http1_total.inc();
        self.watch.clear();
        let started = clock::now();
        let leaves = request::is_upgrade(&self.request) || request::is_connect(&self.request);
        let upgrade = received.framing == Framing::None && leaves;
        let mut call = Call {
            worker: self.worker,
            service: self.service,
            connection: self.facts,
            request: &mut self.request,
            response: &mut self.response,
            trailers: None,
            body: Replay::new(Source::H1(&mut self.reader), 0),
            framing: received.framing,
            expects_continue: received.expects_continue,
            upgrade,
            responder: Responder::H1 { writer: &mut self.writer, keep_alive, started: false },
            watch: &mut self.watch,
            internal: false,
            leftovers: Default::default(),
            groups: Default::default(),
            info: StreamInfo {
                protocol: received.protocol,
                start_unix_micros: clock::unix_micros(),
                ..StreamInfo::default()
            },
            started,
        };
        call::serve(&mut call).await
    }

    /// Answers a request whose head could not be read.
    async fn refuse(&mut self, refusal: Refusal) {
        self.service.stats.downstream_cx_protocol_error.inc();
        self.request.clear();
        self.reader_stops();
        let started = clock::now();
        let mut call = Call {
            worker: self.worker,
            service: self.service,
            connection: self.facts,
            request: &mut self.request,
            response: &mut self.response,
            trailers: None,
            body: Replay::new(Source::Empty, 0),
            framing: Framing::None,
            expects_continue: false,
            upgrade: false,
            responder: Responder::H1 { writer: &mut self.writer, keep_alive: false, started: false },
            watch: &mut self.watch,
            internal: false,
            leftovers: Default::default(),
            groups: Default::default(),
            info: StreamInfo {
                protocol: Protocol::Http11,
                start_unix_micros: clock::unix_micros(),
                ..StreamInfo::default()
            },
            started,
        };
        call::refuse_unread(&mut call, refusal).await;
        self.close().await;
    }

    fn reader_stops(&mut self) {
        let _ = self.reader.take_rest();
    }

    /// Closes so that the client can still read the answer: no reset while its bytes are unread
    /// (RFC 9112 section 9.6).
    async fn close(&mut self) {
        let _ = poll_fn(|cx| self.writer.poll_flush(cx)).await;
        let _ = poll_fn(|cx| self.writer.io().poll_shutdown(cx)).await;
        let reader = &mut self.reader;
        let drain = async {
            loop {
                let _ = reader.take_rest();
                if poll_fn(|cx| reader.poll_more(cx)).await == 0 {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

/// The refusal for an HTTP/2 preface that goes wrong.
pub const BAD_PREFACE: Refusal = Refusal::BadRequest(BadRequest::BadPreface);
