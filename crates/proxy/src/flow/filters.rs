//! The HTTP filters before the router: what they do to a request, and what they leave to be done to its response.

use super::call::{Call, Ended};
use super::respond::{self, Levels};
use engine::filter::cors::{self, Fields, Verdict};
use engine::filter::fault::{self, Abort};
use model::Refusal;
use model::filter::{FilterKind, HttpFilter, RouteFilter};

/// Left for the response.
#[derive(Default)]
pub struct Leftovers {
    pub cors: Fields,
    /// Bytes per second at which the body may go out.
    pub rate: Option<u64>,
    /// A peer's proxy asked for the load.
    pub tell_load: bool,
}

/// Runs the chain; `Some` when a filter has answered. `cluster` is where the route leads.
pub async fn run(call: &mut Call<'_>, levels: &Levels<'_>, cluster: &str) -> Result<Option<Ended>, Refusal> {
    let manager = call.service.manager.clone();
    for filter in &manager.filters {
        let own = of_route(levels, filter);
        if matches!(own, Some(RouteFilter::Disabled)) || (filter.disabled && own.is_none()) {
            continue;
        }
        let ended = match (&filter.kind, own) {
            (FilterKind::Fault(_), Some(RouteFilter::Fault(fault))) | (FilterKind::Fault(fault), _) => {
                inject(call, fault, cluster).await?;
                None
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
                cross_origin(call, verdict).await?
            }
            (FilterKind::Cors, _) => None,
        };
        if ended.is_some() {
            return Ok(ended);
        }
    }
    Ok(None)
}

/// The most specific word on a filter: of the weighted cluster, the route, the virtual host or the table.
fn of_route<'t>(levels: &Levels<'t>, filter: &HttpFilter) -> Option<&'t RouteFilter> {
    let said = [
        levels.weighted.map(|cluster| &cluster.filters),
        Some(&levels.choice.route.filters),
        Some(&levels.choice.host.filters),
        Some(&levels.table.filters),
    ];
    said.into_iter().flatten().find_map(|list| list.iter().find(|(name, _)| *name == filter.name).map(|(_, own)| own))
}

async fn inject(call: &mut Call<'_>, fault: &model::filter::Fault, cluster: &str) -> Result<(), Refusal> {
    let plan = fault::plan(fault, call.request, cluster, || call.worker.random());
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
    Err(match abort {
        Abort::Http(status) => Refusal::FaultAbort(status),
        Abort::Grpc(status) => Refusal::FaultAbortGrpc(status),
    })
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
            respond::finish_head(call, None);
            respond::reply(call, b"").await.map(Some)
        }
    }
}
