//! Filters that limit: rate limits, admission control, adaptive concurrency, and bodies that must be complete.

use super::attempt::alarm_refusal;
use super::call::{Call, render};
use crate::http::body::Input;
use crate::http::h1::Framing;
use crate::state::filters::{Admitted, FilterState, Permit};
use crate::telemetry::uptime;
use engine::edits;
use engine::filter::admission;
use engine::format::{self, Context};
use engine::head::Known;
use model::Refusal;
use model::filter::{AdaptiveConcurrency, AdmissionControl, BodyBuffer, LocalRateLimit};
use model::refusal::Denied;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What must be told to the limits when the request is over.
#[derive(Default)]
pub struct Counted {
    permits: Vec<Permit>,
    admitted: Vec<Admitted>,
}

impl Counted {
    /// The request is over; `grpc` is the status of a gRPC answer.
    pub fn settle(&mut self, status: u16, grpc: Option<u8>) {
        for mut permit in self.permits.drain(..) {
            if status > 0 {
                permit.answered();
            }
        }
        for mut admitted in self.admitted.drain(..) {
            admitted.success = admission::succeeded(&admitted.config, status, grpc);
        }
    }
}

pub(super) fn rate(call: &mut Call<'_>, limit: &LocalRateLimit) -> Result<(), Refusal> {
    let share = |ppm: u32| call.worker.random() % 1_000_000 < u64::from(ppm);
    let Some(bucket) = limit.bucket.as_ref().filter(|_| share(limit.enabled_ppm)) else { return Ok(()) };
    let left = bucket.take(uptime());
    if left.taken {
        return Ok(());
    }
    if !share(limit.enforced_ppm) {
        let Call { request, info, connection, .. } = call;
        edits::add_all(&limit.request_headers, request, |head, value, out| {
            format::render(value, &Context::new(head, info, connection), "", out);
        });
        return Ok(());
    }
    call.service.stats.local_rate_limited.inc();
    for add in &limit.response_headers {
        let value = render(call, &add.value);
        call.leftovers.own_answer.push((add.clone(), value));
    }
    if limit.retry_after && limit.status == 429 {
        call.leftovers.retry_after = Some(left.next.max(Duration::from_secs(1)));
    }
    Err(Refusal::Denied(Denied::RateLimit { status: limit.status, exhausted: limit.resource_exhausted }))
}

pub(super) fn admission(call: &mut Call<'_>, index: usize, config: &Arc<AdmissionControl>) -> Result<(), Refusal> {
    let FilterState::Admission(history) = &call.service.filters[index] else { return Ok(()) };
    if !config.enabled {
        return Ok(());
    }
    let admitted = history.borrow_mut().admits(config, uptime(), call.worker.random_unit());
    if !admitted {
        call.service.stats.admission_control_rq_rejected.inc();
        return Err(Refusal::Denied(Denied::Admission));
    }
    let admitted = Admitted { history: history.clone(), config: config.clone(), success: false };
    call.leftovers.counted.admitted.push(admitted);
    Ok(())
}

pub(super) fn concurrency(call: &mut Call<'_>, index: usize, config: &Arc<AdaptiveConcurrency>) -> Result<(), Refusal> {
    let FilterState::Concurrency(controller) = &call.service.filters[index] else { return Ok(()) };
    if !config.enabled {
        return Ok(());
    }
    match Permit::ask(controller, config, call.worker.random_unit()) {
        Some(permit) => call.leftovers.counted.permits.push(permit),
        None => {
            call.service.stats.adaptive_concurrency_rq_blocked.inc();
            return Err(Refusal::Denied(Denied::Concurrency(config.status)));
        }
    }
    Ok(())
}

/// Waits until the request's body is complete.
pub(super) async fn buffer(call: &mut Call<'_>, limit: BodyBuffer) -> Result<(), Refusal> {
    if call.framing == Framing::None || call.upgrade {
        return Ok(());
    }
    if matches!(call.framing, Framing::Length(length) if length > u64::from(limit.most)) {
        return Err(Refusal::BodyTooLarge);
    }
    if call.expects_continue {
        call.expects_continue = false;
        call.request.remove_known(Known::Expect);
        call.responder.send_continue().await;
    }
    let most = limit.most as usize;
    call.body.keep_up_to(most, most);
    let Call { body, watch, responder, .. } = call;
    let length = poll_fn(|cx| {
        loop {
            match body.poll_data(cx) {
                Poll::Ready(Ok(true)) => {
                    let count = body.data().len();
                    body.consume(count);
                    if body.kept().is_none() {
                        return Poll::Ready(Err(Refusal::BodyTooLarge));
                    }
                    watch.touch();
                }
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(body.kept().map_or(0, <[u8]>::len))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending if responder.poll_reset(cx).is_ready() => {
                    return Poll::Ready(Err(Refusal::DownstreamGone));
                }
                Poll::Pending => return watch.poll(cx).map(|alarm| Err(alarm_refusal(alarm))),
            }
        }
    })
    .await?;
    call.body.rewind();
    call.framing = Framing::Length(length as u64);
    Ok(())
}
