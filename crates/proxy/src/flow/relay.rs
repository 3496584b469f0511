//! Brings an upstream's response to the client: the head once, then the body both ways to its end.

use super::attempt::{Attempt, alarm_refusal};
use super::call::{Call, Ended};
use super::forward::Journey;
use super::load;
use super::respond::{self, Responder};
use crate::clock;
use crate::http::body::{CopyError, Source, Transfer};
use crate::http::h1::{Framing, reader::BodyError};
use crate::http::pace::{Pace, Paced};
use crate::tcp::tunnel;
use crate::upstream::Exchange;
use engine::head::Known;
use engine::info::Protocol;
use model::Refusal;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

/// The client has gone away: it closed its connection or reset its stream.
pub(super) fn client_gone(source: &mut Source<'_>, responder: &mut Responder<'_>, cx: &mut Context<'_>) -> bool {
    match source {
        Source::H1(reader) => reader.poll_gone(cx).is_ready(),
        Source::H2(_) | Source::Empty => responder.poll_reset(cx).is_ready(),
    }
}

/// Sends the response head and body to the client.
pub(super) async fn stream_back(
    call: &mut Call<'_>,
    mut answered: Attempt,
    journey: &Journey<'_>,
) -> Result<Ended, Refusal> {
    let cluster = &journey.cluster;
    call.info.details = "via_upstream";
    cluster.stats.responses.note(call.response.status);
    cluster.stats.upstream_rq_completed.inc();
    if journey.retries > 0 && call.response.status < 500 {
        cluster.stats.upstream_rq_retry_success.inc();
        call.groups.each(|stats| stats.upstream_rq_retry_success.inc());
    }
    let (framing, keep_length) = downstream_framing(call, &mut answered.exchange);
    // The time runs from the request's end: an answer that comes before has none.
    if !call.service.manager.suppress_envoy_headers && !call.upgrade && call.body.is_done() {
        let millis = clock::since(answered.sent_at).as_millis();
        call.response.set(b"x-envoy-upstream-service-time", itoa::Buffer::new().format(millis).as_bytes());
    }
    if journey.levels.choice.host.include_attempt_count_in_response {
        call.response.set(b"x-envoy-attempt-count", call.info.attempts.to_string().as_bytes());
    }
    load::tell(call);
    for cookie in &journey.cookies {
        call.response.push(b"set-cookie", cookie);
    }
    if let (true, Responder::H1 { keep_alive, .. }) = (call.upgrade, &mut call.responder) {
        // The upgrade was declined: what the client sends next cannot be told apart from the protocol it wanted.
        *keep_alive = false;
    }
    respond::finish_head(call, Some(&journey.levels), Some(&journey.levels));
    respond::send_head(call, framing, keep_length)?;
    call.watch.set_attempt(Duration::ZERO);
    let outcome = pump_back(call, &mut answered).await;
    call.info.request_duration = Some(clock::since(call.started));
    let took = clock::since(answered.sent_at);
    cluster.stats.upstream_rq_time.record(took);
    call.groups.answered(call.response.status, Some(took));
    cluster.stats.upstream_cx_rx_bytes_total.add(call.info.bytes_sent);
    cluster.stats.upstream_cx_tx_bytes_total.add(call.info.bytes_received);
    let Attempt { exchange, host, uploaded, .. } = answered;
    let complete = outcome.is_ok() && uploaded;
    exchange.finish(cluster, &host, complete);
    outcome?;
    let reusable = complete && call.body.is_done() && matches!(call.responder, Responder::H1 { keep_alive: true, .. });
    Ok(if reusable { Ended::Reusable } else { Ended::Close })
}

/// How the client finds the end of the response body.
fn downstream_framing(call: &Call<'_>, exchange: &mut Exchange) -> (Framing, bool) {
    let status = call.response.status;
    let bodiless = call.request.method() == b"HEAD" || status == 204 || status == 304;
    // Between two HTTP/2 connections trailers may follow all the same.
    let over = exchange.body().is_done() || call.info.protocol != Protocol::Http2;
    if bodiless && over {
        return (Framing::None, call.response.get_known(Known::ContentLength).is_some());
    }
    if exchange.body().is_done() {
        return (Framing::None, false);
    }
    let length =
        call.response.get_known(Known::ContentLength).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let framing = match length {
        Some(length) => Framing::Length(length),
        None if call.info.protocol == Protocol::Http10 => Framing::Close,
        None => Framing::Chunked,
    };
    (framing, false)
}

/// Moves the response body, and what is left of the request body, until the response is complete.
async fn pump_back(call: &mut Call<'_>, answered: &mut Attempt) -> Result<(), Refusal> {
    let mut download = Transfer::default();
    let mut pace = call.leftovers.rate.map(Pace::new);
    let Call { body, responder, watch, info, trailers, .. } = call;
    let Attempt { exchange, upload, uploaded, .. } = answered;
    let outcome = poll_fn(|cx| {
        let before = download.bytes;
        let mut source = Paced { source: exchange.body(), pace: pace.as_mut() };
        match download.poll(cx, &mut source, &mut responder.sink()) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(CopyError::Source(BodyError::Closed))) => {
                return Poll::Ready(Err(Refusal::UpstreamReset));
            }
            Poll::Ready(Err(CopyError::Source(BodyError::Malformed))) => {
                return Poll::Ready(Err(Refusal::UpstreamProtocolError));
            }
            Poll::Ready(Err(CopyError::Sink)) => return Poll::Ready(Err(Refusal::DownstreamGone)),
            Poll::Pending => {}
        }
        if !*uploaded {
            match upload.poll(cx, body, &mut exchange.sink()) {
                Poll::Ready(Ok(()) | Err(CopyError::Sink)) => *uploaded = true,
                Poll::Ready(Err(CopyError::Source(error))) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {}
            }
        }
        if *uploaded && client_gone(body.source(), responder, cx) {
            return Poll::Ready(Err(Refusal::DownstreamGone));
        }
        if download.bytes != before {
            watch.touch_answer();
        }
        watch.poll(cx).map(|alarm| Err(alarm_refusal(alarm)))
    })
    .await;
    info.bytes_sent += download.bytes;
    info.bytes_received = upload.bytes;
    *trailers = download.trailers.take();
    outcome
}

/// `101`: from here on bytes are passed both ways until either side closes.
pub(super) async fn switch_protocols(
    call: &mut Call<'_>,
    answered: Attempt,
    journey: &Journey<'_>,
) -> Result<Ended, Refusal> {
    journey.cluster.stats.responses.note(101);
    call.service.stats.downstream_cx_upgrades_total.inc();
    call.info.details = "via_upstream";
    respond::finish_head(call, Some(&journey.levels), Some(&journey.levels));
    respond::send_head(call, Framing::None, true)?;
    let Attempt { exchange, .. } = answered;
    let Call { body, responder, info, .. } = call;
    let Responder::H1 { writer, .. } = responder else { return Err(Refusal::UpgradeDenied) };
    poll_fn(|cx| writer.poll_flush(cx)).await.map_err(|_| Refusal::DownstreamGone)?;
    let Source::H1(reader) = body.source() else { return Err(Refusal::UpgradeDenied) };
    let mut upstream = exchange.into_tunnel().ok_or(Refusal::UpgradeDenied)?;
    let downstream = tunnel::End { io: reader.io().clone(), early: reader.take_rest() };
    let upstream_end = tunnel::End { io: upstream.reader.io().clone(), early: upstream.reader.take_rest() };
    let moved = tunnel::run(downstream, upstream_end, journey_idle(journey), std::future::pending()).await;
    info.bytes_received += moved.up;
    info.bytes_sent += moved.down;
    Ok(Ended::Close)
}

fn journey_idle(journey: &Journey<'_>) -> Duration {
    journey.forward.idle_timeout.unwrap_or(Duration::from_secs(300))
}
