//! HTTP/1 downstream connections: one task, one request after the other.

use super::call::{self, Call, Ended};
use super::respond::Responder;
use super::watch::Watch;
use crate::clock;
use crate::http::body::{Replay, Source};
use crate::http::h1::{Framing, Limits, Reader, Received, Writer, reader::HeadRead};
use crate::http::heads;
use crate::io::{Io, SharedIo};
use crate::state::{HttpService, Membership, Worker};
use engine::Head;
use engine::info::{ConnectionFacts, Protocol, StreamInfo};
use engine::request;
use model::Refusal;
use model::refusal::BadRequest;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Time a client that sent an invalid request has to read the answer before the connection closes.
const LINGER: Duration = Duration::from_secs(1);

/// What persists between the requests of a connection.
struct Connection<'c> {
    worker: &'c Rc<Worker>,
    service: &'c Rc<HttpService>,
    facts: &'c ConnectionFacts,
    reader: Reader,
    writer: Writer,
    request: Head,
    response: Head,
    watch: Watch,
    limits: Limits,
    membership: Membership,
    /// It takes no more requests then (`max_connection_duration`).
    until: Option<Instant>,
}

pub async fn serve(worker: &Rc<Worker>, service: &Rc<HttpService>, facts: &ConnectionFacts, io: Io) {
    let io = SharedIo::new(io);
    service.stats.downstream_cx_http1_total.inc();
    let manager = &service.manager;
    let mut connection = Connection {
        worker,
        service,
        facts,
        reader: Reader::new(io.clone()),
        writer: Writer::new(io),
        request: Head::default(),
        response: Head::default(),
        watch: Watch::default(),
        limits: Limits { head: manager.max_head_bytes, fields: manager.max_headers },
        membership: service.drain.join(),
        until: service.longest_connection(worker.random_unit()).map(|longest| clock::now() + longest),
    };
    let mut served: u32 = 0;
    loop {
        connection.watch.clear();
        let received = match connection.next_head(served).await {
            Ok(Some(received)) => received,
            Ok(None) => break,
            Err(refusal) => {
                connection.refuse(refusal).await;
                return;
            }
        };
        served += 1;
        let last = manager.timeouts.max_requests_per_connection;
        let keep_alive = received.keep_alive && (last == 0 || served < last) && !connection.is_old();
        // Boxed: an idle connection would otherwise carry the room for a request around.
        if Box::pin(connection.serve_one(&received, keep_alive)).await == Ended::Close {
            connection.close().await;
            return;
        }
    }
    let _ = poll_fn(|cx| connection.writer.io().poll_shutdown(cx)).await;
}

impl Connection<'_> {
    /// The next request head; `None` when the connection is over: closed, idle too long, or draining.
    async fn next_head(&mut self, served: u32) -> Result<Option<Received>, Refusal> {
        let timeouts = self.service.manager.timeouts;
        self.watch.set_idle(timeouts.idle, clock::now());
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(clock::now());
            self.watch.set_duration(clock::now(), left.max(Duration::from_millis(1)));
        }
        let Connection { reader, request, response, watch, limits, membership, .. } = self;
        let mut begun = false;
        let read = poll_fn(|cx: &mut Context<'_>| {
            if let Poll::Ready(read) = reader.poll_request(cx, request, limits) {
                return Poll::Ready(read.map(Some));
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
            if watch.poll(cx).is_ready() {
                return Poll::Ready(if begun { Err(Refusal::RequestTimeout) } else { Ok(None) });
            }
            // An idle connection has nothing to finish.
            if !begun && served > 0 && membership.poll_started(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            Poll::Pending
        })
        .await?;
        match read {
            Some(HeadRead::Head(received)) => Ok(Some(received)),
            Some(HeadRead::Closed | HeadRead::CutOff) => Ok(None),
            None => {
                let stats = &self.service.stats;
                match self.is_old() {
                    true => stats.downstream_cx_max_duration_reached.inc(),
                    false => stats.downstream_cx_idle_timeout.inc(),
                }
                Ok(None)
            }
        }
    }

    fn is_old(&self) -> bool {
        self.until.is_some_and(|until| clock::now() >= until)
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
