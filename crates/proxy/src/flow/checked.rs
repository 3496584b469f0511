//! The health check filter: answers those who ask whether this proxy, or what stands behind it, is well.

use super::call::{Call, Ended};
use super::filters::Leftovers;
use super::respond::{self, Levels};
use crate::state::filters::{FilterState, Said};
use crate::telemetry::uptime;
use engine::Head;
use engine::route::matching;
use model::Refusal;
use model::filter::{HealthAnswer, HealthCheck};
use model::refusal::{Denied, Unwell};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Left for the response of a health check.
pub struct Check {
    cluster: Box<str>,
    /// Where to keep what the upstream says, and for how long.
    keep: Option<(Rc<Cell<Option<Said>>>, Duration)>,
}

/// `Some` when the filter has answered.
pub(super) async fn run(
    call: &mut Call<'_>,
    index: usize,
    config: &HealthCheck,
    levels: &Levels<'_>,
) -> Result<Option<Ended>, Refusal> {
    if !config.headers.iter().all(|wanted| matching::header(wanted, call.request)) {
        return Ok(None);
    }
    call.info.health_check = true;
    let unwell = |status, why| Err(Refusal::Denied(Denied::Unwell { status, why }));
    let mut check = Check { cluster: config.cluster.clone(), keep: None };
    let failed = call.worker.failed();
    let said = match (&config.answer, &call.service.filters[index]) {
        (HealthAnswer::Upstream(time), FilterState::Said(said)) if !time.is_zero() => {
            let fresh = said.get().filter(|said| said.until > uptime());
            if fresh.is_none() {
                check.keep = Some((said.clone(), *time));
            }
            fresh
        }
        _ => None,
    };
    call.leftovers.check = Some(check);
    if failed {
        return unwell(503, Unwell::Failed);
    }
    match &config.answer {
        HealthAnswer::Clusters(clusters) => match clusters.iter().find_map(|(name, least)| judge(call, name, *least)) {
            Some(why) => unwell(503, why),
            None if clusters.is_empty() => well(call, levels, "health_check_ok", (200, false)).await,
            None => well(call, levels, "health_check_ok_cluster_healthy", (200, false)).await,
        },
        HealthAnswer::Upstream(_) => match said {
            None => Ok(None),
            Some(said) if (200..300).contains(&said.status) => {
                well(call, levels, "health_check_cached", (said.status, said.degraded)).await
            }
            Some(said) => unwell(said.status, Unwell::Cached),
        },
    }
}

/// What is wrong with a cluster of which `least` percent are to be well.
fn judge(call: &Call<'_>, name: &str, least: f64) -> Option<Unwell> {
    let Some(cluster) = call.worker.cluster(name) else { return Some(Unwell::NoCluster) };
    let stats = &cluster.stats;
    let well = stats.membership_healthy.get() + stats.membership_degraded.get();
    match stats.membership_total.get() {
        0 if least >= 1.0 => Some(Unwell::ClusterEmpty),
        // As in Envoy, the percentage counts as a whole number.
        total if 100 * well < total * least as u64 => Some(Unwell::ClusterUnhealthy),
        _ => None,
    }
}

async fn well(
    call: &mut Call<'_>,
    levels: &Levels<'_>,
    details: &'static str,
    (status, degraded): (u16, bool),
) -> Result<Option<Ended>, Refusal> {
    call.info.details = details;
    respond::blank(call.response);
    if degraded {
        call.response.push(b"x-envoy-degraded", b"");
    }
    respond::plain(call, status, levels).await.map(Some)
}

/// What answers to checks tell, and what is remembered of them; and what other answers tell while this proxy is to be
/// taken for unwell.
pub(super) fn tell(leftovers: &mut Leftovers, response: &mut Head, failed: bool) {
    let Some(check) = leftovers.check.take() else {
        if failed {
            response.set(b"x-envoy-immediate-health-check-fail", b"true");
        }
        return;
    };
    response.set(b"x-envoy-upstream-healthchecked-cluster", check.cluster.as_bytes());
    if let Some((said, time)) = check.keep {
        let degraded = response.get(b"x-envoy-degraded").is_some();
        said.set(Some(Said { status: response.status, degraded, until: uptime() + time }));
    }
}
