//! What follows an upgrade or a CONNECT: a tunnel, whatever carries its two sides.

use super::attempt::{Attempt, alarm_refusal};
use super::call::{Call, Ended};
use super::forward::Journey;
use super::respond::{self, Responder};
use crate::clock;
use crate::http::body::Source;
use crate::http::h1::Framing;
use crate::http::h2::{H2Sink, H2Source};
use crate::io::SharedIo;
use crate::tcp::through;
use crate::tcp::tunnel::{self, End, Patience, Side};
use engine::head::Known;
use engine::request;
use model::Refusal;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;

/// The client's side: its connection, or the two directions of one of its streams.
enum Client<'c> {
    Socket(SharedIo),
    Stream(RefCell<Stream<'c>>),
}

struct Stream<'c> {
    source: &'c mut H2Source,
    sink: &'c mut H2Sink,
}

/// How long one side of an upgraded connection may be silent when the other has ended.
const LINGER: Duration = Duration::from_secs(5);

fn broken<E>(_: E) -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Stream<'_> {
    fn poll_read(&mut self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        if !ready!(self.source.poll_data(cx)).map_err(broken)? {
            return Poll::Ready(Ok(0));
        }
        let count = self.source.data().len().min(space.len());
        space[..count].copy_from_slice(&self.source.data()[..count]);
        self.source.consume(count);
        Poll::Ready(Ok(count))
    }
}

impl Side for Client<'_> {
    fn poll_read(&self, cx: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Client::Socket(io) => io.poll_read(cx, space),
            Client::Stream(stream) => stream.borrow_mut().poll_read(cx, space),
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Client::Socket(io) => io.poll_write(cx, bytes),
            Client::Stream(stream) => stream.borrow_mut().sink.poll_write(cx, bytes).map_err(broken),
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Client::Socket(io) => io.poll_flush(cx),
            // The connection's own task writes.
            Client::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Client::Socket(io) => io.poll_shutdown(cx),
            Client::Stream(stream) => Poll::Ready(stream.borrow_mut().sink.finish(None).map_err(broken)),
        }
    }

    fn plain_tcp<T>(&self, look: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        match self {
            Client::Socket(io) => io.with(|io| io.plain_tcp().map(look)),
            Client::Stream(_) => None,
        }
    }
}

/// The client's end, once the head of the answer is on its way.
async fn client<'c>(source: &'c mut Source<'_>, responder: &'c mut Responder<'_>) -> Result<End<Client<'c>>, Refusal> {
    match (source, responder) {
        (Source::H1(reader), Responder::H1 { writer, .. }) => {
            poll_fn(|cx| writer.poll_flush(cx)).await.map_err(|_| Refusal::DownstreamGone)?;
            Ok(End { io: Client::Socket(reader.io().clone()), early: reader.take_rest() })
        }
        (Source::H2(source), Responder::H2 { sink: Some(sink), .. }) => {
            source.release();
            Ok(End { io: Client::Stream(RefCell::new(Stream { source, sink })), early: Vec::new() })
        }
        _ => Err(Refusal::UpgradeDenied),
    }
}

/// From here on bytes are passed both ways until both sides have ended.
pub(super) async fn protocols(call: &mut Call<'_>, answered: Attempt, journey: &Journey<'_>) -> Result<Ended, Refusal> {
    journey.cluster.stats.responses.note(call.response.status);
    call.info.details = "via_upstream";
    if request::is_connect(call.request) {
        // There is no body whose length it could be (RFC 9110 section 8.6).
        call.response.remove_known(Known::ContentLength);
    }
    respond::finish_head(call, Some(&journey.levels), Some(&journey.levels));
    respond::send_head(call, Framing::None, true)?;
    let Attempt { exchange, in_flight, .. } = answered;
    let Call { body, responder, info, watch, service, request: call_request, .. } = call;
    let mut downstream = client(body.source(), responder).await?;
    let mut upstream = through::side(exchange, journey.passage);
    let idle = journey.forward.idle_timeout.unwrap_or(service.manager.timeouts.stream_idle);
    // Upgraded protocols have no use for half a connection, and not every proxy passes its end on.
    let half = if request::is_connect(call_request) { idle } else { LINGER };
    let patience = Patience { idle, half };
    watch.set_idle(Duration::ZERO, clock::now());
    let alarm = Cell::new(None);
    service.stats.downstream_cx_upgrades_active.inc();
    let stop = async { alarm.set(Some(watch.expired().await)) };
    let moved = tunnel::run(&mut downstream, &mut upstream, patience, stop).await;
    service.stats.downstream_cx_upgrades_active.dec();
    info.bytes_received += moved.up;
    info.bytes_sent += moved.down;
    drop(in_flight);
    match moved.end {
        tunnel::Ending::Idle => Err(Refusal::StreamIdleTimeout),
        tunnel::Ending::Stopped => Err(alarm.take().map_or(Refusal::StreamDuration, alarm_refusal)),
        _ => Ok(Ended::Close),
    }
}
