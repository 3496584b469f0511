//! Keeps connections ready for requests to come (`per_upstream_preconnect_ratio`).

use super::cluster::Cluster;
use super::connect;
use super::host::Host;
use model::cluster::UpstreamProtocol;
use std::rc::Rc;

/// Opens one more HTTP/1 connection to `host` when it has fewer than its requests call for. HTTP/2 connections carry
/// what is to come anyway.
pub fn preconnect(cluster: &Rc<Cluster>, host: &Rc<Host>) {
    let ratio = cluster.config.connections().preconnect;
    if ratio <= 1.0
        || cluster.config.protocol != UpstreamProtocol::Http1
        || !host.usable()
        || cluster.speaks_for_clients
    {
        return;
    }
    let wanted = (f64::from(host.active.get()) * ratio).ceil();
    let most = cluster.config.limits[0].max_connections;
    let open = host.connections.get();
    if f64::from(open) >= wanted || cluster.stats.upstream_cx_active.get() >= u64::from(most) {
        return;
    }
    let (cluster, host) = (cluster.clone(), host.clone());
    tokio::task::spawn_local(async move {
        // A failure shows when a request needs the connection.
        if let Ok(connected) = connect::connect(&cluster, &host, &[b"http/1.1"], "", None).await {
            host.keep_idle(Box::new(connect::http1(&cluster, connected)));
        }
    });
}
