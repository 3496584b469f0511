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
use crate::http::web::{Wrapped, Wrapping};
use crate::upstream::{Exchange, Passage};
use engine::filter::grpc_web;
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
    let mut is_call = false;
    if let Some(web) = call.leftovers.web {
        let over = answered.exchange.body().is_done();
        is_call = grpc_web::is_answer(call.response, over);
        if is_call || over {
            web.answer(call.response);
        } else {
            let body = whole_body(call, &mut answered).await?;
            web.explain(call.response, &body);
        }
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
    let lost = call.upgrade || journey.passage == Passage::Raw;
    if let (true, Responder::H1 { keep_alive, .. }) = (lost, &mut call.responder) {
        // The upgrade was declined: what the client sends next cannot be told apart from the protocol it wanted. And
        // an answer that comes before its request has ended is the last.
        *keep_alive = false;
    }
    respond::finish_head(call, Some(&journey.levels), Some(&journey.levels));
    respond::send_head(call, framing, keep_length)?;
    call.watch.set_attempt(Duration::ZERO);
    let outcome = pump_back(call, &mut answered).await;
    if let Some(status) = told_status(call).filter(|_| is_call) {
        call.worker.note_call(&cluster.name, call.request.path(), status);
    }
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

/// The response's body, of which as much is kept as a message of gRPC may tell.
async fn whole_body(call: &mut Call<'_>, answered: &mut Attempt) -> Result<Vec<u8>, Refusal> {
    let mut kept = Vec::new();
    let Call { watch, .. } = call;
    let exchange = &mut answered.exchange;
    poll_fn(|cx| {
        let mut source = exchange.body();
        loop {
            match source.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let data = source.data();
                    let count = data.len();
                    kept.extend_from_slice(&data[..count.min(grpc_web::LONGEST_MESSAGE - kept.len())]);
                    source.consume(count);
                    watch.touch_answer();
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::UpstreamReset)),
                Poll::Pending => return watch.poll(cx).map(|alarm| Err(alarm_refusal(alarm))),
            }
        }
    })
    .await?;
    Ok(kept)
}

/// The gRPC status that the upstream told, if it did.
fn told_status(call: &Call<'_>) -> Option<u8> {
    let heads = [call.trailers.as_deref(), Some(&*call.response)];
    let told = heads.into_iter().flatten().find_map(|head| head.get(b"grpc-status"))?;
    std::str::from_utf8(told).ok()?.parse().ok()
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
    let mut wrapping = call.leftovers.web.map(Wrapping::new);
    let Call { body, responder, watch, info, trailers, .. } = call;
    let Attempt { exchange, upload, uploaded, .. } = answered;
    let outcome = poll_fn(|cx| {
        let before = download.bytes;
        let paced = Paced { source: exchange.body(), pace: pace.as_mut() };
        let mut source = Wrapped { source: paced, wrapping: wrapping.as_mut() };
        match download.poll(cx, &mut source, &mut responder.sink()) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(CopyError::Source(BodyError::Closed))) => {
                return Poll::Ready(Err(Refusal::UpstreamReset));
            }
            Poll::Ready(Err(CopyError::Source(BodyError::Malformed | BodyError::NotBase64))) => {
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
    *trailers = download.trailers.take().or_else(|| wrapping.and_then(|wrapping| wrapping.trailers));
    outcome
}
