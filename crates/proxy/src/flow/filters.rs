//! The HTTP filters before the router: what they do to a request, and what they leave to be done to its response.

use super::call::{Call, Ended, render};
use super::checked::{self, Check};
use super::limits::{self, Counted};
use super::on_demand;
use super::respond::{self, Levels};
use crate::http::h1::Framing;
use crate::state::filters::{ActiveFault, FilterState};
use engine::edits;
use engine::filter::cors::{self, Fields, Verdict};
use engine::filter::fault::{self, Abort};
use engine::filter::grpc_web::{self, Web};
use engine::filter::query;
use engine::format::{self, Context};
use model::Refusal;
use model::filter::{FilterKind, HeaderMutation, HttpFilter, RouteFilter, RouteFilters};
use model::header::AddHeader;
use model::refusal::Denied;
use std::time::Duration;

/// Left for the response.
#[derive(Default)]
pub struct Leftovers {
    pub cors: Fields,
    /// Bytes per second at which the body may go out.
    pub rate: Option<u64>,
    /// Headers, with their values, of an answer that a filter gives itself.
    pub own_answer: Vec<(AddHeader, Vec<u8>)>,
    pub retry_after: Option<Duration>,
    pub counted: Counted,
    /// The request came as gRPC-Web.
    pub web: Option<Web>,
    /// The request is a health check.
    pub check: Option<Check>,
    faults: Vec<ActiveFault>,
    /// A peer's proxy asked for the load.
    pub tell_load: bool,
}

/// Runs the chain; `Some` when a filter has answered. `cluster` is where the route leads.
pub async fn run(call: &mut Call<'_>, levels: &Levels<'_>, cluster: &str) -> Result<Option<Ended>, Refusal> {
    let manager = call.service.manager.clone();
    for (index, filter) in manager.filters.iter().enumerate() {
        let own = of_route(levels, filter);
        if matches!(own, Some(RouteFilter::Disabled)) || (filter.disabled && own.is_none()) {
            continue;
        }
        match (&filter.kind, own) {
            (FilterKind::Fault(_), Some(RouteFilter::Fault(fault))) | (FilterKind::Fault(fault), _) => {
                inject(call, index, fault, cluster).await?;
            }
            // As in Envoy, only for routes that forward.
            (FilterKind::Cors, Some(RouteFilter::Cors(policy))) if !cluster.is_empty() => {
                let of_host = levels.choice.host.filters.iter().find(|(name, _)| *name == filter.name);
                let verdict = match of_host {
                    Some((_, RouteFilter::Cors(host))) => {
                        cors::judge(&[policy, host], call.request, call.worker.random())
                    }
                    _ => cors::judge(&[policy], call.request, call.worker.random()),
                };
                if let Some(ended) = cross_origin(call, verdict).await? {
                    return Ok(Some(ended));
                }
            }
            (FilterKind::Cors, _) => {}
            (FilterKind::HeaderMutation(base), _) => {
                each_mutation(base, &filter.name, levels, |mutations| mutate_request(call, mutations));
            }
            (FilterKind::Buffer(_), Some(RouteFilter::Buffer(limit))) | (FilterKind::Buffer(limit), _) => {
                limits::buffer(call, *limit).await?;
            }
            (FilterKind::LocalRateLimit(_), Some(RouteFilter::LocalRateLimit(limit)))
            | (FilterKind::LocalRateLimit(limit), _) => limits::rate(call, limit)?,
            (FilterKind::OnDemand(_), Some(RouteFilter::OnDemand(clusters))) | (FilterKind::OnDemand(clusters), _) => {
                if let Some(wanted) = clusters {
                    Box::pin(on_demand::cluster(call, wanted, cluster)).await?;
                }
            }
            (FilterKind::GrpcWeb, _) => from_web(call),
            (FilterKind::HealthCheck(config), _) => {
                if let Some(ended) = checked::run(call, index, config, levels).await? {
                    return Ok(Some(ended));
                }
            }
            (FilterKind::AdmissionControl(config), _) => limits::admission(call, index, config)?,
            (FilterKind::AdaptiveConcurrency(config), _) => limits::concurrency(call, index, config)?,
        }
    }
    Ok(None)
}

/// The most specific word on a filter: of the weighted cluster, the route, the virtual host or the table.
fn of_route<'t>(levels: &Levels<'t>, filter: &HttpFilter) -> Option<&'t RouteFilter> {
    said(levels, &filter.name).into_iter().flatten().next()
}

/// What each level says of a filter, the most specific first.
fn said<'t>(levels: &Levels<'t>, name: &str) -> [Option<&'t RouteFilter>; 4] {
    let find = |list: &'t RouteFilters| list.iter().find(|(other, _)| **other == *name).map(|(_, own)| own);
    [
        levels.weighted.and_then(|cluster| find(&cluster.filters)),
        find(&levels.choice.route.filters),
        find(&levels.choice.host.filters),
        find(&levels.table.filters),
    ]
}

/// The filter's own mutations, then those of all levels.
fn each_mutation<'t>(
    base: &'t HeaderMutation,
    name: &str,
    levels: &Levels<'t>,
    mut apply: impl FnMut(&'t HeaderMutation),
) {
    apply(base);
    let mut all = said(levels, name);
    if base.most_specific_wins {
        all.reverse();
    }
    for own in all.into_iter().flatten() {
        if let RouteFilter::HeaderMutation(mutations) = own {
            apply(mutations);
        }
    }
}

fn mutate_request(call: &mut Call<'_>, mutations: &HeaderMutation) {
    let Call { request, info, connection, .. } = call;
    edits::mutate(&mutations.request, request, |head, value, out| {
        format::render(value, &Context::new(head, info, connection), "", out);
    });
    if !mutations.query.is_empty() {
        let path = query::mutate(call.request.path(), &mutations.query, |format| render(call, format));
        call.request.set_path(&path);
    }
}

/// What header mutation filters do to a response on its way out.
pub(super) fn mutate_response(call: &mut Call<'_>, levels: &Levels<'_>) {
    let manager = call.service.manager.clone();
    for filter in manager.filters.iter().rev() {
        let base = match &filter.kind {
            FilterKind::HeaderMutation(base) => base,
            FilterKind::HealthCheck(_) => {
                checked::tell(&mut call.leftovers, call.response, call.worker.failed());
                continue;
            }
            _ => continue,
        };
        let own = of_route(levels, filter);
        if matches!(own, Some(RouteFilter::Disabled)) || (filter.disabled && own.is_none()) {
            continue;
        }
        each_mutation(base, &filter.name, levels, |mutations| {
            let Call { request, response, info, connection, .. } = &mut *call;
            edits::mutate(&mutations.response, response, |response, value, out| {
                format::render(value, &Context::new(request, info, connection).with(response), "", out);
            });
        });
    }
}

/// gRPC-Web becomes gRPC.
fn from_web(call: &mut Call<'_>) {
    let Some(web) = grpc_web::request(call.request) else { return };
    call.leftovers.web = Some(web);
    if call.framing != Framing::None {
        call.framing = Framing::Chunked;
    }
    if web.text {
        call.body.read_base64();
    }
}

async fn inject(call: &mut Call<'_>, index: usize, fault: &model::filter::Fault, cluster: &str) -> Result<(), Refusal> {
    let plan = fault::plan(fault, call.request, cluster, || call.worker.random());
    if plan == fault::Plan::default() {
        return Ok(());
    }
    let active = match &call.service.filters[index] {
        FilterState::Faults(active) => active,
        _ => return Ok(()),
    };
    if fault.most_active.is_some_and(|most| active.get() >= most) {
        call.service.stats.fault_faults_overflow.inc();
        return Ok(());
    }
    call.leftovers.faults.push(ActiveFault::new(active));
    if let Some(delay) = plan.delay {
        call.info.delayed = true;
        call.service.stats.fault_delays_injected.inc();
        let alarm = tokio::select! {
            () = tokio::time::sleep(delay) => None,
            alarm = call.watch.expired() => Some(alarm),
        };
        // The client may be gone by now, which the next step notices.
        call.watch.touch();
        if let Some(alarm) = alarm {
            return Err(super::attempt::alarm_refusal(alarm));
        }
    }
    if let Some(rate) = plan.rate {
        call.service.stats.fault_response_rl_injected.inc();
        call.leftovers.rate = Some(rate);
    }
    let Some(abort) = plan.abort else { return Ok(()) };
    call.service.stats.fault_aborts_injected.inc();
    Err(Refusal::Denied(match abort {
        Abort::Http(status) => Denied::Fault(status),
        Abort::Grpc(status) => Denied::FaultGrpc(status),
    }))
}

async fn cross_origin(call: &mut Call<'_>, verdict: Verdict) -> Result<Option<Ended>, Refusal> {
    match verdict {
        Verdict::None => Ok(None),
        Verdict::Allowed(fields) => {
            call.leftovers.cors = fields;
            Ok(None)
        }
        Verdict::Preflight(fields) => {
            call.info.details = "cors_response";
            call.response.clear();
            call.response.status = 200;
            for (name, value) in &fields {
                call.response.push(name, value);
            }
            respond::finish_head(call, None, None);
            respond::reply(call, b"").await.map(Some)
        }
    }
}
