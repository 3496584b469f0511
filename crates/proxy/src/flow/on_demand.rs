//! Requests that wait for what is discovered on demand (`filters.http.on_demand`): a cluster, a virtual host, or the table
//! of a scope.

use super::attempt::alarm_refusal;
use super::call::Call;
use engine::route::{host_name, virtual_host};
use model::Refusal;
use model::demand::{Demand, DemandKind, OnDemandClusters, Source};
use model::filter::FilterKind;
use model::route::RouteTable;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

type Table = Rc<Arc<RouteTable>>;

/// The route leads to a cluster that may not be there. Afterwards it is, or there is none.
pub(super) async fn cluster(call: &mut Call<'_>, wanted: &OnDemandClusters, name: &str) -> Result<(), Refusal> {
    let worker = call.worker.clone();
    if name.is_empty() || worker.has_cluster(name) {
        return Ok(());
    }
    let waiting = worker.demands.ask(Demand::cluster(name), &wanted.source);
    let there = waiting.until(|| worker.has_cluster(name));
    pause(call, async { _ = tokio::time::timeout(wanted.timeout, there).await }).await
}

/// No route was found in `table`. What was missing may come: `Some` is the table to look in then, another one.
pub(super) async fn table(call: &mut Call<'_>, table: &Table) -> Result<Option<Table>, Refusal> {
    let filters = &call.service.manager.filters;
    if !filters.iter().any(|filter| matches!(filter.kind, FilterKind::OnDemand(_)) && !filter.disabled) {
        return Ok(None);
    }
    let Some((demand, source)) = missing(call, table) else { return Ok(None) };
    let waiting = call.worker.demands.ask(demand.clone(), &source);
    let (routes, head) = (&call.service.routes, call.request.clone());
    let there = || {
        let now = routes.current(&head);
        let host = || virtual_host(&now, host_name(&now, &head)).is_some();
        match demand.kind {
            DemandKind::VirtualHost => host(),
            _ => !Arc::ptr_eq(&now, table),
        }
    };
    pause(call, waiting.until(there)).await?;
    Ok(there().then(|| routes.current(&head)))
}

/// What stands between the request and a virtual host.
fn missing(call: &Call<'_>, table: &RouteTable) -> Option<(Demand, Source)> {
    if let Some(source) = &table.more_hosts {
        let host = host_name(table, call.request);
        if host.is_empty() || virtual_host(table, host).is_some() {
            return None;
        }
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        return Some((Demand::virtual_host(&table.name, &host), source.clone()));
    }
    call.service.routes.missing(call.request).map(|(demand, source)| (demand, source.clone()))
}

/// Waits for `event`, unless the client goes or the request takes too long.
async fn pause(call: &mut Call<'_>, event: impl Future<Output = ()>) -> Result<(), Refusal> {
    let Call { watch, responder, .. } = call;
    let mut event = std::pin::pin!(event);
    poll_fn(|cx| {
        if event.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if responder.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Refusal::DownstreamGone));
        }
        watch.poll(cx).map(|alarm| Err(alarm_refusal(alarm)))
    })
    .await?;
    call.watch.touch();
    Ok(())
}
