//! The administration server, with Envoy's paths and shapes.

mod clusters;
mod dump;
mod logging;
mod stats;

use crate::core::{Core, Lifecycle};
use crate::state::clusters::hosts_at_rest;
use crate::telemetry::stats::{Owner, Totals};
use crate::telemetry::{ClusterStats, Registry};
use engine::balance::Availability;
use runtime::http::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tokio::sync::{Mutex, Notify};

/// What the server can see and do.
pub struct Admin {
    pub core: Arc<Mutex<Core>>,
    pub registry: Arc<Registry>,
    pub lifecycle: Arc<Lifecycle>,
    pub started: Instant,
    pub concurrency: usize,
    pub command_line: Vec<(String, String)>,
    /// Told when `/quitquitquit` asks to stop.
    pub quit: Arc<Notify>,
    pub overload: crate::overload::Figures,
}

const HELP: &str = "admin commands are:
  /: this help
  /certs: certificates in use
  /clusters: hosts of every cluster (?format=json)
  /config_dump: configuration as it was accepted (?resource=static_clusters and the like)
  /healthcheck/fail (POST): be not ready
  /healthcheck/ok (POST): be ready again
  /help: this help
  /listeners: where listeners listen (?format=json)
  /logging (POST): levels of the log (?level=LEVEL for all, ?PART=LEVEL for one)
  /memory: memory of this process
  /quitquitquit (POST): end the process after draining
  /ready: 200 when traffic is served
  /server_info: version, state and options
  /stats: counters (?filter=REGEX, ?usedonly, ?format=json|prometheus)
  /stats/prometheus: counters for Prometheus
";

impl Admin {
    pub async fn answer(&self, request: Request) -> Response {
        match (request.path.as_str(), &request.method) {
            ("/" | "/help", _) => Response::text(HELP),
            ("/ready", _) => self.ready(),
            ("/stats", _) => self.stats(&request, request.parameter("format").as_deref() == Some("prometheus")).await,
            ("/stats/prometheus", _) => self.stats(&request, true).await,
            ("/clusters", _) => self.clusters(&request).await,
            ("/listeners", _) => self.listeners(&request).await,
            ("/config_dump", _) => dump::config(self, request.parameter("resource").as_deref()).await,
            ("/certs", _) => dump::certificates(self).await,
            ("/server_info", _) => self.server_info().await,
            ("/memory", _) => {
                let bytes = crate::telemetry::resident_bytes().to_string();
                Response::json(json!({"allocated": bytes, "total_physical_bytes": bytes}).to_string())
            }
            ("/logging", &Method::POST) => logging::answer(&request),
            ("/quitquitquit" | "/healthcheck/fail" | "/healthcheck/ok", &Method::POST) => self.act(&request.path),
            ("/logging" | "/quitquitquit" | "/healthcheck/fail" | "/healthcheck/ok", _) => {
                let text = format!("Method {} not allowed, POST required.\n", request.method);
                Response::text(text).with_status(StatusCode::METHOD_NOT_ALLOWED)
            }
            _ => {
                let text = format!("invalid path. {HELP}");
                Response::text(text).with_status(StatusCode::NOT_FOUND)
            }
        }
    }

    fn state(&self) -> &'static str {
        if self.registry.unwell.load(Ordering::Relaxed) { "DRAINING" } else { self.lifecycle.state() }
    }

    fn ready(&self) -> Response {
        let state = self.state();
        let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Response::text(format!("{state}\n")).with_status(status)
    }

    fn act(&self, path: &str) -> Response {
        match path {
            "/quitquitquit" => self.quit.notify_one(),
            path => self.registry.unwell.store(path.ends_with("/fail"), Ordering::Relaxed),
        }
        Response::text("OK\n")
    }

    async fn stats(&self, request: &Request, prometheus: bool) -> Response {
        let pattern = match request.parameter("filter").map(|pattern| regex::Regex::new(&pattern)).transpose() {
            Ok(pattern) => pattern,
            Err(error) => {
                return Response::text(format!("Invalid regex: {error}\n")).with_status(StatusCode::BAD_REQUEST);
            }
        };
        let filter = stats::Filter { pattern, used_only: request.parameter("usedonly").is_some() };
        let (read, extra) = (self.read().await, self.server_stats());
        if prometheus {
            let mut response = Response::text(stats::prometheus(&read, &extra, &filter));
            response.content_type = "text/plain; version=0.0.4";
            return response;
        }
        match request.parameter("format").as_deref() {
            Some("json") => Response::json(stats::json(&read, &extra, &filter)),
            _ => Response::text(stats::text(&read, &extra, &filter)),
        }
    }

    /// What workers count, and what they would count of the clusters that they did not use yet.
    async fn read(&self) -> BTreeMap<Owner, Totals> {
        let core = self.core.lock().await;
        let (snapshot, health) = (core.publisher.current().clone(), core.publisher.health().clone());
        drop(core);
        let mut read = self.registry.read();
        for cluster in snapshot.clusters.values() {
            let totals = read.entry(Owner::Cluster(cluster.stat_name.clone())).or_default();
            if totals.contains_key("membership_total") {
                continue;
            }
            let hosts = hosts_at_rest(&snapshot, &health, cluster);
            let count = |wanted| hosts.iter().filter(|host| host.availability() == wanted).count() as u64;
            let (healthy, degraded) = (count(Availability::Healthy), count(Availability::Degraded));
            totals.extend(ClusterStats::unused(hosts.len() as u64, healthy, degraded));
        }
        read
    }

    fn server_stats(&self) -> Totals {
        let mut all = stats::server(&[
            ("server.live", u64::from(self.state() == "LIVE")),
            ("server.uptime", self.started.elapsed().as_secs()),
            ("server.concurrency", self.concurrency as u64),
            ("server.memory_physical_size", crate::telemetry::resident_bytes()),
            ("control_plane.connected_state", u64::from(self.lifecycle.connected())),
            ("control_plane.update_success", self.lifecycle.accepted()),
            ("control_plane.update_rejected", self.lifecycle.rejected()),
        ]);
        let overload = self.overload.read();
        let overload: Vec<(&str, u64)> = overload.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        all.extend(stats::server(&overload));
        all
    }

    async fn clusters(&self, request: &Request) -> Response {
        let core = self.core.lock().await;
        let reports = core.publisher.report().await;
        let (snapshot, health) = (core.publisher.current(), core.publisher.health());
        match request.parameter("format").as_deref() {
            Some("json") => Response::json(clusters::json(&reports, snapshot, health)),
            _ => Response::text(clusters::text(&reports, snapshot, health)),
        }
    }

    async fn listeners(&self, request: &Request) -> Response {
        let core = self.core.lock().await;
        let mut all: Vec<_> = core.publisher.listening().iter().collect();
        all.sort_by_key(|(name, _)| *name);
        if request.parameter("format").as_deref() != Some("json") {
            let lines =
                all.iter().flat_map(|(name, listening)| listening.actual.iter().map(move |a| format!("{name}::{a}\n")));
            return Response::text(lines.collect::<String>());
        }
        let statuses = all.iter().map(|(name, listening)| {
            let address = listening.actual.first().and_then(model::Address::tcp).map(|address| {
                json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
            });
            json!({"name": &***name, "local_address": address})
        });
        Response::json(json!({"listener_statuses": statuses.collect::<Vec<_>>()}).to_string())
    }

    async fn server_info(&self) -> Response {
        let node = dump::node(self).await;
        let uptime = format!("{}s", self.started.elapsed().as_secs());
        let options: serde_json::Map<_, _> =
            self.command_line.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let info = json!({
            "version": format!("ripstop/{}", env!("CARGO_PKG_VERSION")),
            "state": self.state(),
            "uptime_current_epoch": uptime,
            "uptime_all_epochs": uptime,
            "hot_restart_version": "disabled",
            "command_line_options": options,
            "node": node,
        });
        Response::json(format!("{info:#}\n"))
    }
}
