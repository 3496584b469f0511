//! One endpoint's checks, again and again.

use super::dial::Connection;
use super::{Report, events, grpc, http, tcp};
use crate::telemetry::Registry;
use crate::telemetry::stats::{HealthStats, Owner};
use crate::tls::prepare::Transports;
use engine::resilience::health::{Checked, Failure, Outcome};
use model::Address;
use model::cluster::Cluster;
use model::endpoint::{Endpoint, Locality};
use model::health::{ActiveHealth, HealthCheck, News, Probe};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};

/// What is checked, and who wants to know.
pub(super) struct Subject {
    pub(super) cluster: Arc<Cluster>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) locality: Locality,
    pub(super) address: Address,
    pub(super) transports: watch::Receiver<Arc<Transports>>,
    pub(super) stats: Arc<HealthStats>,
    pub(super) registry: Arc<Registry>,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// Told when the endpoint itself said that it is not well.
    pub(super) said_unwell: Arc<Notify>,
}

impl Subject {
    /// The `Host` or `:authority`: the endpoint's own, else the check's, else the cluster's name.
    pub(super) fn host<'a>(&'a self, configured: &'a str) -> &'a str {
        let own = self.endpoint.check.as_ref().map_or("", |check| &check.hostname);
        [own, configured].into_iter().find(|name| !name.is_empty()).unwrap_or(&self.cluster.name)
    }

    /// Some worker has connected to the cluster.
    fn has_traffic(&self) -> bool {
        self.registry.counter(&Owner::Cluster(self.cluster.stat_name.clone()), "upstream_cx_total") > 0
    }
}

/// Checks until aborted.
pub(super) async fn run(subject: Subject, known: ActiveHealth) {
    let Some(config) = subject.cluster.health_check.clone() else { return };
    let mut log = events::Log::open(&config);
    let mut checked = Checked::new(known);
    let mut connection = None;
    tokio::time::sleep(config.intervals.initial_jitter.mul_f64(fastrand::f64())).await;
    let mut outcome = attempt(&subject, &config, &mut connection).await;
    loop {
        let before = checked.health();
        let verdict = checked.note(&config, outcome);
        for event in &verdict.events {
            log.write(&subject, &config, *event);
        }
        if checked.health() != before {
            let (cluster, address) = (subject.cluster.name.clone(), subject.address.clone());
            if subject.reports.send(Report { cluster, address, news: News::Checked(checked.health()) }).is_err() {
                return;
            }
        }
        let wait = verdict.wait(&config.intervals, subject.has_traffic(), fastrand::f64);
        outcome = tokio::select! {
            () = subject.said_unwell.notified() => {
                subject.stats.health_check_failure.inc();
                subject.stats.health_check_passive_failure.inc();
                Outcome::Failed(Failure::Passive)
            }
            () = tokio::time::sleep(wait) => attempt(&subject, &config, &mut connection).await,
        };
    }
}

async fn attempt(subject: &Subject, config: &HealthCheck, connection: &mut Option<Connection>) -> Outcome {
    let stats = &subject.stats;
    stats.health_check_attempt.inc();
    let probe = async {
        match &config.probe {
            Probe::Http(probe) => http::check(subject, config, probe, connection).await,
            Probe::Tcp(probe) => tcp::check(subject, config, probe, connection).await,
            Probe::Grpc(probe) => grpc::check(subject, config, probe, connection).await,
        }
    };
    let outcome = tokio::time::timeout(config.timeout, probe).await;
    let outcome = outcome.unwrap_or(Outcome::Failed(Failure::Timeout));
    match outcome {
        Outcome::Healthy { .. } => stats.health_check_success.inc(),
        Outcome::Failed(failure) => {
            stats.health_check_failure.inc();
            if failure.network() {
                stats.health_check_network_failure.inc();
                *connection = None;
            }
        }
    }
    if !config.reuse_connection {
        *connection = None;
    }
    outcome
}
