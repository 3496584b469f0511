//! Sends a request upstream, again where that is safe and wanted, and streams the response back.

use super::call::{Call, Ended};
use super::respond::{self, Levels, Responder};
use super::watch::Alarm;
use crate::http::body::{CopyError, Source, Transfer};
use crate::http::h1::{Framing, reader::BodyError};
use crate::tcp::tunnel;
use crate::upstream::exchange::{self, Exchange, Wish};
use crate::upstream::{Cluster, Host};
use engine::edits;
use engine::format::{self, Context};
use engine::head::Known;
use engine::info::Protocol;
use engine::resilience::outlier::Sign;
use engine::resilience::retry::{self, Ending};
use engine::route::{self, rewrite};
use model::Refusal;
use model::route::Forward;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

/// Body bytes kept for another attempt.
const REPLAY_LIMIT: usize = 64 * 1024;

/// A request on its way to one cluster.
struct Journey<'t> {
    cluster: Rc<Cluster>,
    forward: &'t Forward,
    levels: Levels<'t>,
    tried: Vec<Rc<Host>>,
    retries: u32,
    /// The last pooled connection died before answering: take a new one.
    fresh: bool,
}

/// An answered attempt.
struct Answered {
    exchange: Exchange,
    host: Rc<Host>,
    /// Moves the request body; may be unfinished.
    upload: Transfer,
    uploaded: bool,
    sent_at: Instant,
    _in_flight: InFlight,
}

/// Counts a request while an attempt is under way.
struct InFlight {
    cluster: Rc<Cluster>,
    host: Rc<Host>,
}

impl InFlight {
    fn new(cluster: &Rc<Cluster>, host: &Rc<Host>) -> Self {
        host.active.set(host.active.get() + 1);
        host.requests.set(host.requests.get() + 1);
        cluster.active_requests.set(cluster.active_requests.get() + 1);
        cluster.stats.upstream_rq_active.inc();
        cluster.stats.upstream_rq_total.inc();
        InFlight { cluster: cluster.clone(), host: host.clone() }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.host.active.set(self.host.active.get().saturating_sub(1));
        self.cluster.active_requests.set(self.cluster.active_requests.get().saturating_sub(1));
        self.cluster.stats.upstream_rq_active.dec();
    }
}

/// Forwards the request along `forward`.
pub async fn forward<'t>(call: &mut Call<'_>, levels: &mut Levels<'t>, forward: &'t Forward) -> Result<Ended, Refusal> {
    let not_found = Refusal::ClusterNotFound(forward.cluster_not_found_status);
    let random = call.worker.random();
    let (name, weighted) = route::pick_cluster(forward, call.request, random).ok_or(not_found)?;
    levels.weighted = weighted;
    let cluster = call.worker.cluster(&name).ok_or(not_found)?;
    call.info.cluster = Some(name);
    if !upgrade_allowed(call, forward) {
        return Err(Refusal::UpgradeDenied);
    }
    if cluster.active_requests.get() >= cluster.config.limits.max_requests {
        cluster.stats.upstream_rq_pending_overflow.inc();
        return Err(Refusal::UpstreamOverflow);
    }
    prepare(call, levels, forward);
    if let Some(idle) = forward.idle_timeout {
        call.watch.set_idle(idle, call.started);
    }
    if call.expects_continue && call.framing != Framing::None {
        call.request.remove_known(Known::Expect);
        call.responder.send_continue().await;
    }
    call.body.keep_up_to(REPLAY_LIMIT);
    if call.body.is_done() {
        call.watch.set_route(Instant::now(), timeout(call, forward));
    }
    let mut journey = Journey { cluster, forward, levels: *levels, tried: Vec::new(), retries: 0, fresh: false };
    let answered = travel(call, &mut journey).await?;
    if call.response.status == 101 && call.upgrade {
        return switch_protocols(call, answered, &journey).await;
    }
    stream_back(call, answered, &journey).await
}

fn timeout(call: &Call<'_>, forward: &Forward) -> std::time::Duration {
    if call.upgrade { std::time::Duration::ZERO } else { forward.timeout }
}

fn upgrade_allowed(call: &Call<'_>, forward: &Forward) -> bool {
    if !call.upgrade || forward.upgrades.is_empty() {
        return true;
    }
    let wanted = call.request.get_known(Known::Upgrade).unwrap_or_default().to_ascii_lowercase();
    forward.upgrades.iter().find(|(name, _)| name.as_bytes() == wanted).is_none_or(|(_, allowed)| *allowed)
}

/// Header edits and rewrites of the route, once per request.
fn prepare(call: &mut Call<'_>, levels: &Levels<'_>, forward: &Forward) {
    let mut scratch = Vec::new();
    let Call { request, info, connection, .. } = call;
    levels.each(
        |edits| &edits.request,
        |edits| {
            let render = |head: &engine::Head, add: &model::format::Format, out: &mut Vec<u8>| {
                let context = Context { request: head, response: None, trailers: None, info, connection };
                format::render(add, &context, "", out);
            };
            edits::apply(edits, request, render, &mut scratch);
        },
    );
    let suppress = call.service.manager.suppress_envoy_headers;
    let head = &mut *call.request;
    if let Some(path) = rewrite::path(forward, &levels.choice.route.matches, head) {
        if !suppress {
            let original = head.path().to_vec();
            head.set(b"x-envoy-original-path", &original);
        }
        head.set_path(&path);
    }
    if let Some(host) = rewrite::host(forward, levels.weighted, head, "") {
        let original = head.authority().to_vec();
        if !suppress && original != host {
            head.set(b"x-envoy-original-host", &original);
        }
        if forward.append_x_forwarded_host {
            engine::request::append_list(head, b"x-forwarded-host", &original, b",");
        }
        head.set_authority(&host);
    }
}

/// Tells the upstream how long its answer is waited for: what is left of the route's timeout, or of this attempt's.
fn expected_timeout(call: &mut Call<'_>, forward: &Forward) {
    if call.service.manager.suppress_envoy_headers {
        return;
    }
    let per_try = forward.retry.as_ref().map(|retry| retry.per_try_timeout).unwrap_or_default();
    let spent = if call.info.attempts > 1 { call.started.elapsed() } else { std::time::Duration::ZERO };
    let left = forward.timeout.saturating_sub(spent);
    let expected = match (forward.timeout.is_zero(), per_try.is_zero()) {
        (true, true) => return,
        (true, false) => per_try,
        (false, true) => left,
        (false, false) => left.min(per_try),
    };
    let millis = expected.as_millis();
    call.request.set(b"x-envoy-expected-rq-timeout-ms", itoa::Buffer::new().format(millis).as_bytes());
}

/// Attempts until there is a response head to forward, or no more attempt is due.
async fn travel(call: &mut Call<'_>, journey: &mut Journey<'_>) -> Result<Answered, Refusal> {
    loop {
        call.info.attempts += 1;
        if journey.levels.choice.host.include_request_attempt_count {
            call.request.set(b"x-envoy-attempt-count", call.info.attempts.to_string().as_bytes());
        }
        expected_timeout(call, journey.forward);
        let policy = journey.forward.retry.as_deref();
        let attempts = policy.map_or(1, |policy| policy.host_selection_attempts);
        let avoid: &[Rc<Host>] =
            if policy.is_some_and(|policy| policy.avoid_previous_hosts) { &journey.tried } else { &[] };
        let host = journey.cluster.pick(avoid, attempts)?;
        journey.tried.push(host.clone());
        match attempt(call, journey, &host).await {
            Ok(answered) => {
                journey.cluster.note(&host, Sign::Status(call.response.status));
                let again = may_retry(call, journey, &Ending::Response(call.response));
                if !again {
                    return Ok(answered);
                }
                let Answered { exchange, host, .. } = answered;
                exchange.finish(&journey.cluster, &host, false);
            }
            Err(Failed { refusal, sent, stale }) => {
                if refusal == Refusal::DownstreamGone || matches!(refusal, Refusal::BadRequest(_)) {
                    return Err(refusal);
                }
                let stale_retry =
                    stale && !journey.fresh && call.body.can_rewind() && retry::idempotent(call.request.method());
                if stale_retry {
                    // The upstream closed an idle connection as we used it (RFC 9112 section 9.3.1): not a failure.
                    journey.fresh = true;
                    journey.tried.pop();
                } else {
                    note_failure(journey, &host, refusal);
                    let final_answer = matches!(
                        refusal,
                        Refusal::UpstreamTimeout | Refusal::StreamIdleTimeout | Refusal::MaxStreamDuration
                    );
                    if final_answer || !may_retry(call, journey, &Ending::Failed { refusal, sent }) {
                        return Err(refusal);
                    }
                }
            }
        }
        if !call.body.rewind() {
            return Err(Refusal::UpstreamReset);
        }
        if !std::mem::take(&mut journey.fresh) {
            back_off(call, journey).await?;
        } else {
            journey.fresh = true;
        }
    }
}

fn note_failure(journey: &Journey<'_>, host: &Rc<Host>, refusal: Refusal) {
    let stats = &journey.cluster.stats;
    match refusal {
        Refusal::UpstreamTimeout => {
            stats.upstream_rq_timeout.inc();
            journey.cluster.note(host, Sign::Status(504));
        }
        Refusal::PerTryTimeout => {
            stats.upstream_rq_per_try_timeout.inc();
            journey.cluster.note(host, Sign::Status(504));
        }
        Refusal::UpstreamProtocolError => {
            stats.upstream_cx_protocol_error.inc();
            journey.cluster.note(host, Sign::LocalOrigin);
        }
        Refusal::UpstreamRefusedStream | Refusal::UpstreamOverflow => {}
        _ => {
            stats.upstream_rq_rx_reset.inc();
            journey.cluster.note(host, Sign::LocalOrigin);
        }
    }
}

/// Counts and grants another attempt within the policy and the cluster's limit.
fn may_retry(call: &Call<'_>, journey: &mut Journey<'_>, ending: &Ending<'_>) -> bool {
    let Some(policy) = &journey.forward.retry else { return false };
    if !retry::wanted(policy, call.request, ending) || !call.body.can_rewind() || call.upgrade {
        return false;
    }
    let stats = &journey.cluster.stats;
    if journey.retries >= policy.num_retries {
        stats.upstream_rq_retry_limit_exceeded.inc();
        return false;
    }
    // A share of the requests in flight, and never less than the configured floor, bounds a retry storm.
    let budget = journey.cluster.config.limits.max_retries.max(journey.cluster.active_requests.get() / 5);
    if journey.cluster.active_retries.get() >= budget {
        stats.upstream_rq_retry_overflow.inc();
        return false;
    }
    journey.retries += 1;
    stats.upstream_rq_retry.inc();
    true
}

/// Waits before the next attempt: fully jittered, doubling, within the route's timeout.
async fn back_off(call: &mut Call<'_>, journey: &Journey<'_>) -> Result<(), Refusal> {
    let Some(policy) = &journey.forward.retry else { return Ok(()) };
    let mut backoff = kit::Backoff::new(policy.back_off_base, policy.back_off_max);
    let mut delay = std::time::Duration::ZERO;
    for _ in 0..journey.retries {
        delay = backoff.next(call.worker.random_unit());
    }
    call.watch.set_attempt(std::time::Duration::ZERO);
    let retries = &journey.cluster.active_retries;
    retries.set(retries.get() + 1);
    let outcome = tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        alarm = call.watch.expired() => Err(alarm_refusal(alarm)),
    };
    retries.set(retries.get() - 1);
    outcome
}

fn alarm_refusal(alarm: Alarm) -> Refusal {
    match alarm {
        Alarm::Route => Refusal::UpstreamTimeout,
        Alarm::Attempt => Refusal::PerTryTimeout,
        Alarm::Idle => Refusal::StreamIdleTimeout,
        Alarm::Duration => Refusal::MaxStreamDuration,
    }
}

/// Why an attempt brought no response head.
struct Failed {
    refusal: Refusal,
    sent: bool,
    /// It died on a pooled connection before any byte of a response.
    stale: bool,
}

impl Failed {
    fn unsent(refusal: Refusal) -> Self {
        Failed { refusal, sent: false, stale: false }
    }
}

/// One attempt on one host, up to the response head.
async fn attempt(call: &mut Call<'_>, journey: &Journey<'_>, host: &Rc<Host>) -> Result<Answered, Failed> {
    let cluster = &journey.cluster;
    let in_flight = InFlight::new(cluster, host);
    call.info.upstream_host = Some(host.name.clone());
    if let Some(policy) = &journey.forward.retry {
        call.watch.set_attempt(policy.per_try_timeout);
    }
    let acquired = {
        let Call { request, watch, info, upgrade, .. } = &mut *call;
        let authority = std::str::from_utf8(request.authority()).unwrap_or_default();
        let wish = Wish { downstream: info.protocol, upgrade: *upgrade, authority, fresh: journey.fresh };
        tokio::select! {
            biased;
            acquired = exchange::acquire(cluster, host, wish) => acquired,
            alarm = watch.expired() => return Err(Failed::unsent(alarm_refusal(alarm))),
        }
    };
    let acquired = match acquired {
        Ok(acquired) => acquired,
        Err(error) => {
            call.info.transport_failure = Some(error.reason);
            return Err(Failed::unsent(error.refusal));
        }
    };
    cluster.note(host, Sign::ConnectOk);
    if let model::route::HostRewrite::Auto = journey.forward.host_rewrite
        && !host.endpoint.hostname.is_empty()
    {
        call.request.set_authority(host.endpoint.hostname.as_bytes());
    }
    let mut exchange = Exchange::start(acquired, call.request, call.framing, call.upgrade).map_err(Failed::unsent)?;
    call.info.upstream_local = exchange.local();
    let sent_at = Instant::now();
    let mut upload = Transfer::default();
    let mut uploaded = false;
    let outcome = await_head(call, journey, &mut exchange, &mut upload, &mut uploaded).await;
    call.info.bytes_received = upload.bytes;
    match outcome {
        Ok(()) => {
            call.info.response_duration = Some(call.started.elapsed());
            Ok(Answered { exchange, host: host.clone(), upload, uploaded, sent_at, _in_flight: in_flight })
        }
        Err(refusal) => {
            let failed = Failed {
                refusal,
                sent: exchange.has_sent(),
                stale: refusal == Refusal::UpstreamReset && exchange.is_reused(),
            };
            exchange.finish(cluster, host, false);
            Err(failed)
        }
    }
}

/// Sends the body while waiting for the response head.
async fn await_head(
    call: &mut Call<'_>,
    journey: &Journey<'_>,
    exchange: &mut Exchange,
    upload: &mut Transfer,
    uploaded: &mut bool,
) -> Result<(), Refusal> {
    let route_timeout = timeout(call, journey.forward);
    let Call { body, response, responder, watch, .. } = call;
    poll_fn(|cx| {
        if !*uploaded {
            let before = upload.bytes;
            match upload.poll(cx, body, &mut exchange.sink()) {
                Poll::Ready(Ok(())) => {
                    *uploaded = true;
                    watch.set_route(Instant::now(), route_timeout);
                }
                Poll::Ready(Err(CopyError::Source(error))) => return Poll::Ready(Err(error.into())),
                // The upstream takes no more; its answer, if any, is already on the way.
                Poll::Ready(Err(CopyError::Sink)) => *uploaded = true,
                Poll::Pending => {}
            }
            if upload.bytes != before {
                watch.touch();
            }
        }
        if let Poll::Ready(head) = exchange.poll_head(cx, response) {
            return Poll::Ready(head);
        }
        if *uploaded && client_gone(body.source(), responder, cx) {
            return Poll::Ready(Err(Refusal::DownstreamGone));
        }
        if let Poll::Ready(alarm) = watch.poll(cx) {
            return Poll::Ready(Err(alarm_refusal(alarm)));
        }
        Poll::Pending
    })
    .await
}

fn client_gone(source: &mut Source<'_>, responder: &mut Responder<'_>, cx: &mut std::task::Context<'_>) -> bool {
    match source {
        Source::H1(reader) => reader.poll_gone(cx).is_ready(),
        Source::H2(_) | Source::Empty => responder.poll_reset(cx).is_ready(),
    }
}

/// Sends the response head and body to the client.
async fn stream_back(call: &mut Call<'_>, mut answered: Answered, journey: &Journey<'_>) -> Result<Ended, Refusal> {
    let cluster = &journey.cluster;
    call.info.details = "via_upstream";
    cluster.stats.responses.note(call.response.status);
    cluster.stats.upstream_rq_completed.inc();
    if journey.retries > 0 && call.response.status < 500 {
        cluster.stats.upstream_rq_retry_success.inc();
    }
    let (framing, keep_length) = downstream_framing(call, &mut answered.exchange);
    if !call.service.manager.suppress_envoy_headers && !call.upgrade {
        let millis = answered.sent_at.elapsed().as_millis();
        call.response.set(b"x-envoy-upstream-service-time", itoa::Buffer::new().format(millis).as_bytes());
    }
    if journey.levels.choice.host.include_attempt_count_in_response {
        call.response.set(b"x-envoy-attempt-count", call.info.attempts.to_string().as_bytes());
    }
    if let (true, Responder::H1 { keep_alive, .. }) = (call.upgrade, &mut call.responder) {
        // The upgrade was declined: what the client sends next cannot be told apart from the protocol it wanted.
        *keep_alive = false;
    }
    respond::finish_head(call, Some(&journey.levels));
    respond::send_head(call, framing, keep_length)?;
    call.watch.set_attempt(std::time::Duration::ZERO);
    let outcome = pump_back(call, &mut answered).await;
    call.info.request_duration = Some(call.started.elapsed());
    cluster.stats.upstream_rq_time.record(answered.sent_at.elapsed());
    cluster.stats.upstream_cx_rx_bytes_total.add(call.info.bytes_sent);
    cluster.stats.upstream_cx_tx_bytes_total.add(call.info.bytes_received);
    let Answered { exchange, host, uploaded, .. } = answered;
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
    if bodiless {
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
async fn pump_back(call: &mut Call<'_>, answered: &mut Answered) -> Result<(), Refusal> {
    let mut download = Transfer::default();
    let Call { body, responder, watch, info, .. } = call;
    let Answered { exchange, upload, uploaded, .. } = answered;
    let outcome = poll_fn(|cx| {
        let before = download.bytes;
        match download.poll(cx, &mut exchange.body(), &mut responder.sink()) {
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
            watch.touch();
        }
        watch.poll(cx).map(|alarm| Err(alarm_refusal(alarm)))
    })
    .await;
    info.bytes_sent += download.bytes;
    info.bytes_received = upload.bytes;
    outcome
}

/// `101`: from here on bytes are passed both ways until either side closes.
async fn switch_protocols(call: &mut Call<'_>, answered: Answered, journey: &Journey<'_>) -> Result<Ended, Refusal> {
    journey.cluster.stats.responses.note(101);
    call.service.stats.downstream_cx_upgrades_total.inc();
    call.info.details = "via_upstream";
    respond::finish_head(call, Some(&journey.levels));
    respond::send_head(call, Framing::None, true)?;
    let Answered { exchange, .. } = answered;
    let Call { body, responder, info, .. } = call;
    let Responder::H1 { writer, .. } = responder else { return Err(Refusal::UpgradeDenied) };
    poll_fn(|cx| writer.poll_flush(cx)).await.map_err(|_| Refusal::DownstreamGone)?;
    let Source::H1(reader) = body.source() else { return Err(Refusal::UpgradeDenied) };
    let mut upstream = exchange.into_tunnel().ok_or(Refusal::UpgradeDenied)?;
    let downstream = tunnel::End { io: reader.io().clone(), early: reader.take_rest() };
    let upstream_end = tunnel::End { io: upstream.reader.io().clone(), early: upstream.reader.take_rest() };
    let moved = tunnel::run(downstream, upstream_end, journey_idle(journey)).await;
    info.bytes_received += moved.up;
    info.bytes_sent += moved.down;
    Ok(Ended::Close)
}

fn journey_idle(journey: &Journey<'_>) -> std::time::Duration {
    journey.forward.idle_timeout.unwrap_or(std::time::Duration::from_secs(300))
}
