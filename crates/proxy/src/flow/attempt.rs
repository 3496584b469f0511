//! Attempts: each sends the request to one host and waits for the response head; again where that is safe and wanted.

use super::call::Call;
use super::forward::{Journey, Retrying};
use super::load;
use super::mirror;
use super::relay::client_gone;
use super::watch::Alarm;
use crate::clock;
use crate::http::body::{CopyError, Transfer};
use crate::upstream::exchange::{self, Exchange, Wish};
use crate::upstream::{Bound, Cluster, Host, Passage, Want, preconnect};
use engine::balance;
use engine::resilience::outlier::Sign;
use engine::resilience::retry::{self, Ending};
use engine::resilience::{budget, deadline};
use model::Refusal;
use model::retry::RetryPolicy;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// An attempt under way, or answered.
pub(super) struct Attempt {
    pub(super) exchange: Exchange,
    pub(super) host: Rc<Host>,
    /// Moves the request body; may be unfinished.
    pub(super) upload: Transfer,
    pub(super) uploaded: bool,
    pub(super) sent_at: Instant,
    pub(super) in_flight: InFlight,
}

impl Attempt {
    /// Ends it without passing its response on; the connection stays when nothing more comes.
    pub(super) fn leave(mut self, cluster: &Cluster) {
        let complete = self.uploaded && self.exchange.body().is_done();
        let Attempt { exchange, host, in_flight, .. } = self;
        exchange.finish(cluster, &host, complete);
        drop(in_flight);
    }

    fn give_up(self, cluster: &Cluster) {
        let Attempt { exchange, host, in_flight, .. } = self;
        exchange.finish(cluster, &host, false);
        drop(in_flight);
    }
}

/// Counts a request while an attempt is under way, and tells the balancer how it ended.
pub(super) struct InFlight {
    cluster: Rc<Cluster>,
    host: Rc<Host>,
    priority: usize,
    since: Instant,
    told: Cell<bool>,
}

impl InFlight {
    fn new(cluster: &Rc<Cluster>, host: &Rc<Host>, priority: usize) -> Self {
        let active = &cluster.active_requests[priority];
        host.active.set(host.active.get() + 1);
        host.requests.set(host.requests.get() + 1);
        active.set(active.get() + 1);
        cluster.stats.upstream_rq_active.inc();
        cluster.stats.upstream_rq_total.inc();
        cluster.sent(host);
        let (cluster, host) = (cluster.clone(), host.clone());
        InFlight { cluster, host, priority, since: clock::now(), told: Cell::new(false) }
    }

    /// The response head came, or will not come. Only the first word counts.
    fn ended(&self, ending: balance::Ending, load: Option<f64>) {
        if !self.told.replace(true) {
            self.cluster.answered(&self.host, &balance::Outcome { ending, latency: clock::since(self.since), load });
        }
    }

    fn failed(&self, refusal: Refusal) {
        let gone = matches!(refusal, Refusal::DownstreamGone | Refusal::BadRequest(_));
        self.ended(if gone { balance::Ending::Abandoned } else { balance::Ending::Failed }, None);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.ended(balance::Ending::Abandoned, None);
        let active = &self.cluster.active_requests[self.priority];
        self.host.active.set(self.host.active.get().saturating_sub(1));
        active.set(active.get().saturating_sub(1));
        self.cluster.stats.upstream_rq_active.dec();
    }
}

/// Why an attempt brought no response head.
struct Failed {
    refusal: Refusal,
    sent: bool,
    /// It died on a pooled connection before any byte of a response.
    stale: bool,
    host: Option<Rc<Host>>,
}

impl Failed {
    fn unsent(refusal: Refusal, host: Option<&Rc<Host>>) -> Self {
        Failed { refusal, sent: false, stale: false, host: host.cloned() }
    }

    /// No further attempt could end better.
    fn is_final(&self) -> bool {
        matches!(
            self.refusal,
            Refusal::DownstreamGone
                | Refusal::BadRequest(_)
                | Refusal::NoHealthyUpstream
                | Refusal::UpstreamTimeout
                | Refusal::StreamIdleTimeout
                | Refusal::StreamDuration
                | Refusal::UpstreamStreamDuration
        )
    }
}

enum Outcome {
    /// The response head is in `call.response`.
    Answered(Attempt),
    /// It took too long; with hedging it goes on.
    Late(Attempt),
    Failed(Failed),
}

/// Attempts until there is a response head to forward, or no more attempt is due.
pub(super) async fn travel(call: &mut Call<'_>, journey: &mut Journey<'_>) -> Result<Attempt, Refusal> {
    loop {
        let outcome = match start(call, journey).await {
            Ok(attempt) => answer(call, journey, attempt).await,
            Err(failed) => Outcome::Failed(failed),
        };
        journey.retrying = None;
        match outcome {
            Outcome::Answered(attempt) => {
                note_answer(call, journey, &attempt);
                journey.cluster.heed(&attempt.host, call.response);
                if !wanted(call, journey, &Ending::Response(call.response)) {
                    return Ok(attempt);
                }
                if !grant(call, journey, false) {
                    return Ok(attempt);
                }
                attempt.give_up(&journey.cluster);
            }
            Outcome::Late(attempt) => {
                journey.cluster.stats.upstream_rq_per_try_timeout.inc();
                journey.cluster.note(&attempt.host, Sign::Timeout);
                journey.late.push(attempt);
                if !grant(call, journey, true) {
                    return wait_for_late(call, journey, Refusal::UpstreamTimeout).await;
                }
            }
            Outcome::Failed(failed) => {
                if forgivable(call, journey, &failed) {
                    // The upstream closed an idle connection as we used it (RFC 9112 section 9.3.1): not a failure.
                    journey.fresh = true;
                    journey.tried.pop();
                    call.body.rewind();
                    continue;
                }
                note_failure(journey, &failed);
                let ending = Ending::Failed { refusal: failed.refusal, sent: failed.sent };
                let late = matches!(failed.refusal, Refusal::PerTryTimeout | Refusal::PerTryIdleTimeout);
                if failed.is_final() || !wanted(call, journey, &ending) || !grant(call, journey, late) {
                    return wait_for_late(call, journey, failed.refusal).await;
                }
            }
        }
        journey.fresh = false;
        call.body.rewind();
        back_off(call, journey).await?;
    }
}

fn forgivable(call: &Call<'_>, journey: &Journey<'_>, failed: &Failed) -> bool {
    failed.stale && !journey.fresh && call.body.can_rewind() && retry::idempotent(call.request.method())
}

/// What is still under way may yet answer; else the request ends with `refusal`.
async fn wait_for_late(call: &mut Call<'_>, journey: &mut Journey<'_>, refusal: Refusal) -> Result<Attempt, Refusal> {
    if journey.late.is_empty() || refusal == Refusal::DownstreamGone {
        return Err(refusal);
    }
    call.watch.end_attempt();
    let Call { body, response, responder, watch, .. } = call;
    poll_fn(|cx| {
        if let Poll::Ready(index) = poll_late(cx, journey, response) {
            return Poll::Ready(Ok(journey.late.swap_remove(index)));
        }
        if journey.late.is_empty() {
            return Poll::Ready(Err(refusal));
        }
        if client_gone(body.source(), responder, cx) {
            return Poll::Ready(Err(Refusal::DownstreamGone));
        }
        watch.poll(cx).map(|alarm| Err(alarm_refusal(alarm)))
    })
    .await
}

/// The first late attempt with a response head; those that failed are dropped.
fn poll_late(cx: &mut Context<'_>, journey: &mut Journey<'_>, response: &mut engine::Head) -> Poll<usize> {
    let mut index = 0;
    while index < journey.late.len() {
        match journey.late[index].exchange.poll_head(cx, response) {
            Poll::Ready(Ok(())) => return Poll::Ready(index),
            Poll::Ready(Err(_)) => journey.late.swap_remove(index).give_up(&journey.cluster),
            Poll::Pending => index += 1,
        }
    }
    Poll::Pending
}

/// Ends what was still under way beside the attempt that answered.
pub(super) fn give_up_late(journey: &mut Journey<'_>) {
    for attempt in journey.late.drain(..) {
        attempt.give_up(&journey.cluster);
    }
}

/// What an answer says of its host. A gRPC answer without a body tells by its own status.
fn note_answer(call: &mut Call<'_>, journey: &Journey<'_>, attempt: &Attempt) {
    let load = load::take(&journey.cluster, call.response);
    let response = &*call.response;
    let status = match response.get(b"grpc-status") {
        Some(code) if call.request.is_grpc() => engine::grpc::http_status(code),
        _ => response.status,
    };
    journey.cluster.note(&attempt.host, Sign::Status(status));
    journey.cluster.take_report(&attempt.host, response);
    let ending = if status < 500 { balance::Ending::Answered } else { balance::Ending::Failed };
    attempt.in_flight.ended(ending, load);
}

fn note_failure(journey: &Journey<'_>, failed: &Failed) {
    let (cluster, Some(host)) = (&journey.cluster, &failed.host) else { return };
    let stats = &cluster.stats;
    match failed.refusal {
        Refusal::DownstreamGone | Refusal::BadRequest(_) => {}
        Refusal::UpstreamTimeout => {
            stats.upstream_rq_timeout.inc();
            cluster.note(host, Sign::Timeout);
        }
        Refusal::PerTryTimeout => {
            stats.upstream_rq_per_try_timeout.inc();
            cluster.note(host, Sign::Timeout);
        }
        Refusal::PerTryIdleTimeout => {
            stats.upstream_rq_per_try_idle_timeout.inc();
            cluster.note(host, Sign::Timeout);
        }
        Refusal::UpstreamStreamDuration => stats.upstream_rq_max_duration_reached.inc(),
        Refusal::UpstreamProtocolError => {
            stats.upstream_cx_protocol_error.inc();
            cluster.note(host, Sign::LocalOrigin);
        }
        Refusal::UpstreamRefusedStream | Refusal::UpstreamOverflow => {}
        _ => {
            stats.upstream_rq_rx_reset.inc();
            cluster.note(host, Sign::LocalOrigin);
        }
    }
}

/// The policy's conditions ask for another attempt, and the request can be sent again.
fn wanted(call: &Call<'_>, journey: &Journey<'_>, ending: &Ending<'_>) -> bool {
    let Some(policy) = &journey.policy else { return false };
    call.body.can_rewind() && retry::wanted(policy, call.request, ending)
}

/// Counts and grants another attempt within the policy, the circuit breaker and the budget.
fn grant(call: &mut Call<'_>, journey: &mut Journey<'_>, late: bool) -> bool {
    let Some(policy) = &journey.policy else { return false };
    if !call.body.can_rewind() {
        return false;
    }
    let (cluster, priority) = (&journey.cluster, journey.forward.priority as usize);
    if journey.retries >= policy.num_retries {
        cluster.stats.upstream_rq_retry_limit_exceeded.inc();
        call.groups.each(|stats| stats.upstream_rq_retry_limit_exceeded.inc());
        return false;
    }
    let limits = &cluster.config.limits[priority];
    let (retries, active) = (cluster.active_retries[priority].get(), cluster.active_requests[priority].get());
    if !budget::may_start(limits, retries, active) || !cluster.withdraw_retry() {
        cluster.stats.upstream_rq_retry_overflow.inc();
        call.groups.each(|stats| stats.upstream_rq_retry_overflow.inc());
        return false;
    }
    journey.retries += 1;
    cluster.stats.upstream_rq_retry.inc();
    call.groups.each(|stats| stats.upstream_rq_retry.inc());
    journey.retrying = Some(Retrying::new(cluster, priority));
    if journey.levels.choice.host.include_is_timeout_retry {
        call.request.set(b"x-envoy-is-timeout-retry", if late { b"true" } else { b"false" });
    }
    true
}

/// Waits before the next attempt: as long as the upstream says, else fully jittered and doubling.
async fn back_off(call: &mut Call<'_>, journey: &Journey<'_>) -> Result<(), Refusal> {
    let Some(policy) = &journey.policy else { return Ok(()) };
    let now = call.info.start_unix_micros / 1_000_000 + clock::since(call.started).as_secs();
    let told =
        policy.rate_limited_back_off.as_ref().and_then(|limited| retry::reset_after(limited, call.response, now));
    let delay = match told {
        Some(wait) => {
            journey.cluster.stats.upstream_rq_retry_backoff_ratelimited.inc();
            wait.mul_f64(1.0 + call.worker.random_unit() / 2.0)
        }
        None => {
            journey.cluster.stats.upstream_rq_retry_backoff_exponential.inc();
            let mut backoff = kit::Backoff::new(policy.back_off_base, policy.back_off_max);
            (0..journey.retries).map(|_| backoff.next(call.worker.random_unit())).last().unwrap_or_default()
        }
    };
    call.response.clear();
    call.watch.end_attempt();
    tokio::select! {
        () = tokio::time::sleep(delay) => Ok(()),
        alarm = call.watch.expired() => Err(alarm_refusal(alarm)),
    }
}

pub(super) fn alarm_refusal(alarm: Alarm) -> Refusal {
    match alarm {
        Alarm::Route => Refusal::UpstreamTimeout,
        Alarm::Attempt => Refusal::PerTryTimeout,
        Alarm::AttemptIdle => Refusal::PerTryIdleTimeout,
        Alarm::Idle => Refusal::StreamIdleTimeout,
        Alarm::Duration => Refusal::StreamDuration,
        Alarm::UpstreamDuration => Refusal::UpstreamStreamDuration,
    }
}

/// Picks a host and sends the request head to it.
async fn start(call: &mut Call<'_>, journey: &mut Journey<'_>) -> Result<Attempt, Failed> {
    let host = pick(call, journey)?;
    let cluster = &journey.cluster;
    let priority = journey.forward.priority as usize;
    if cluster.active_requests[priority].get() >= cluster.config.limits[priority].max_requests {
        cluster.stats.upstream_rq_pending_overflow.inc();
        return Err(Failed::unsent(Refusal::UpstreamOverflow, None));
    }
    let in_flight = InFlight::new(cluster, &host, priority);
    call.info.upstream_host = Some(host.name.clone());
    call.watch.end_attempt();
    let acquired = {
        let origin = exchange::origin(cluster, call.connection);
        let Call { request, watch, info, .. } = &mut *call;
        let (downstream, authority) = (info.protocol, request.authority());
        let wish = Wish { downstream, passage: journey.passage, authority, fresh: journey.fresh, priority, origin };
        match exchange::pooled(cluster, &host, &wish) {
            Some(acquired) => Ok(acquired),
            None => tokio::select! {
                biased;
                // Apart, so that requests which find a connection need not carry the room to open one.
                acquired = Box::pin(exchange::open(cluster, &host, &wish)) => acquired,
                alarm = watch.expired() => {
                    in_flight.failed(alarm_refusal(alarm));
                    return Err(Failed::unsent(alarm_refusal(alarm), Some(&host)));
                }
            },
        }
    };
    let acquired = match acquired {
        Ok(acquired) => acquired,
        Err(error) => {
            if error.refusal != Refusal::UpstreamOverflow {
                in_flight.failed(error.refusal);
            }
            call.info.transport_failure = Some(error.reason);
            return Err(Failed::unsent(error.refusal, Some(&host)));
        }
    };
    cluster.note(&host, Sign::ConnectOk);
    if journey.passage != Passage::Raw {
        preconnect(cluster, &host);
    }
    if let model::route::HostRewrite::Auto = journey.forward.host_rewrite
        && !host.endpoint.hostname.is_empty()
    {
        call.request.set_authority(host.endpoint.hostname.as_bytes());
    }
    let mut exchange = Exchange::start(acquired, call.request, call.framing, journey.passage)
        .map_err(|refusal| Failed::unsent(refusal, Some(&host)))?;
    if let Some(version) = journey.tunnel.and_then(|rules| rules.proxy_protocol) {
        exchange.introduce(version, exchange::origin_of(call.connection));
    }
    call.info.upstream_local = exchange.local();
    let sent_at = clock::now();
    call.watch.set_upstream_duration(sent_at, cluster.config.max_stream_duration);
    call.watch.set_attempt_idle(journey.deadlines.per_try_idle, sent_at);
    Ok(Attempt { exchange, host, upload: Transfer::default(), uploaded: false, sent_at, in_flight })
}

/// The next host, and the headers that tell it about this attempt.
fn pick(call: &mut Call<'_>, journey: &mut Journey<'_>) -> Result<Rc<Host>, Failed> {
    call.info.attempts += 1;
    if journey.levels.choice.host.include_request_attempt_count {
        call.request.set(b"x-envoy-attempt-count", itoa::Buffer::new().format(call.info.attempts).as_bytes());
    }
    let spent = if call.info.attempts > 1 { clock::since(call.started) } else { Duration::ZERO };
    if let Some(expected) = journey.deadlines.expected(spent, journey.hedge) {
        let suppress = call.service.manager.suppress_envoy_headers;
        deadline::tell(journey.forward, call.request, expected, suppress);
    }
    load::ask(&journey.cluster, call.request);
    let retrying = !journey.tried.is_empty();
    let policy = journey.policy.as_deref().filter(|_| retrying);
    let attempts = policy.map_or(0, |policy| policy.host_selection_attempts);
    let (hash, subset) = (journey.hash, journey.subset());
    let leaving = policy.is_some_and(|policy| policy.leave_priorities_after > 0);
    let tried_priorities = leaving.then_some(&mut journey.tried_priorities);
    let want = Want { hash, subset, attempts, tried_priorities };
    let tried = &journey.tried;
    let unwanted = |host: &Rc<Host>| policy.is_some_and(|policy| avoided(policy, tried, host));
    let bound = Bound { original: call.connection.original, request: Some(call.request) };
    let chosen = journey.cluster.choose(want, bound, unwanted);
    let (host, priority) = chosen.map_err(|refusal| Failed::unsent(refusal, None))?;
    journey.tried.push(host.clone());
    if let Some(policy) = &journey.policy {
        journey.leave_priority(priority, policy.leave_priorities_after);
    }
    Ok(host)
}

/// A retry would rather not meet this host.
fn avoided(policy: &RetryPolicy, tried: &[Rc<Host>], host: &Rc<Host>) -> bool {
    let has = |wanted: &(Box<str>, Box<str>)| host.endpoint.lb_metadata.contains(wanted);
    policy.avoid_previous_hosts && tried.iter().any(|other| Rc::ptr_eq(other, host))
        || policy.avoid_metadata.iter().any(|metadata| metadata.iter().all(has))
}

/// Sends the body and waits for the response head, of this attempt or of one that was late.
async fn answer(call: &mut Call<'_>, journey: &mut Journey<'_>, mut attempt: Attempt) -> Outcome {
    let progress = await_head(call, journey, &mut attempt).await;
    call.info.bytes_received = attempt.upload.bytes;
    match progress {
        Ok(None) => {
            call.info.response_duration = Some(clock::since(call.started));
            call.watch.touch_answer();
            Outcome::Answered(attempt)
        }
        Ok(Some(index)) => {
            call.info.response_duration = Some(clock::since(call.started));
            let answered = std::mem::replace(&mut journey.late[index], attempt);
            call.info.upstream_host = Some(answered.host.name.clone());
            Outcome::Answered(answered)
        }
        Err(Refusal::PerTryTimeout) if journey.hedge && attempt.uploaded => Outcome::Late(attempt),
        Err(refusal) => {
            let Attempt { exchange, host, in_flight, .. } = attempt;
            in_flight.failed(refusal);
            let stale = refusal == Refusal::UpstreamReset && exchange.is_reused();
            let failed = Failed { refusal, sent: exchange.has_sent(), stale, host: Some(host.clone()) };
            exchange.finish(&journey.cluster, &host, false);
            drop(in_flight);
            Outcome::Failed(failed)
        }
    }
}

/// `None`: `attempt` answered; else the late one with this index.
async fn await_head(
    call: &mut Call<'_>,
    journey: &mut Journey<'_>,
    attempt: &mut Attempt,
) -> Result<Option<usize>, Refusal> {
    let Call { body, response, responder, watch, upgrade, .. } = call;
    poll_fn(|cx| {
        if !attempt.uploaded {
            let before = attempt.upload.bytes;
            match attempt.upload.poll(cx, body, &mut attempt.exchange.sink()) {
                Poll::Ready(Ok(())) => {
                    attempt.uploaded = true;
                    if journey.retries == 0 && !*upgrade {
                        watch.set_route(clock::now(), journey.deadlines.route);
                    }
                    watch.set_attempt(journey.deadlines.per_try);
                    mirror::send(&mut journey.shadows, body);
                }
                Poll::Ready(Err(CopyError::Source(error))) => return Poll::Ready(Err(error.into())),
                // The upstream takes no more; its answer, if any, is already on the way.
                Poll::Ready(Err(CopyError::Sink)) => attempt.uploaded = true,
                Poll::Pending => {}
            }
            if attempt.upload.bytes != before {
                watch.touch();
            }
        }
        if let Poll::Ready(head) = attempt.exchange.poll_head(cx, response) {
            return Poll::Ready(head.map(|()| None));
        }
        if let Poll::Ready(index) = poll_late(cx, journey, response) {
            return Poll::Ready(Ok(Some(index)));
        }
        if attempt.uploaded && client_gone(body.source(), responder, cx) {
            return Poll::Ready(Err(Refusal::DownstreamGone));
        }
        if let Poll::Ready(alarm) = watch.poll(cx) {
            return Poll::Ready(Err(alarm_refusal(alarm)));
        }
        Poll::Pending
    })
    .await
}
