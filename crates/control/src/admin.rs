//! The control plane's administration over HTTP: readiness, reports, metrics.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use api::FileError;
use runtime::http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use wire::xds::server::Kind;

use crate::registry::Registry;
use crate::sources::intake::Intake;
use crate::translate::{Agent, Node};
use crate::xds::hub::Hub;

/// A file as it is shown.
#[derive(Debug, Clone)]
struct FileReport {
    file: String,
    revision: u64,
    /// Some of its text is in force, possibly an older one.
    in_force: bool,
    error: Option<FileError>,
    warnings: Vec<String>,
}

/// What the sources last said; written by the one who reads them.
#[derive(Debug, Default)]
pub(crate) struct Files(Mutex<Vec<FileReport>>);

impl Files {
    pub(crate) fn update(&self, intake: &Intake, registry: &Registry) {
        let mut warnings: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for warning in &registry.warnings {
            if let Some(file) = intake.objects().file_of(&warning.object) {
                warnings.entry(file).or_default().push(format!("{}: {}", warning.object, warning.message));
            }
        }
        let reports = intake.files().iter().map(|(file, state)| FileReport {
            file: file.clone(),
            revision: state.revision,
            in_force: state.accepted.is_some(),
            error: state.error.clone(),
            warnings: warnings.remove(file.as_str()).unwrap_or_default(),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reports.collect();
    }

    fn list(&self) -> Vec<FileReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) struct Admin {
    pub(crate) hub: Arc<Hub>,
    pub(crate) files: Arc<Files>,
}

impl Admin {
    pub(crate) fn answer(&self, request: &Request) -> Response {
        if request.method != Method::GET {
            let text = "only GET is served here\n";
            return Response::text(text).with_status(StatusCode::METHOD_NOT_ALLOWED);
        }
        match request.path.as_str() {
            "/ready" => Response::text("LIVE\n"),
            "/api/v1/proxies" => pretty(&json!({"revision": self.revision(), "proxies": self.hub.proxies.list()})),
            "/api/v1/files" => pretty(&self.files()),
            "/api/v1/resources" => self.resources(request.parameter("node").as_deref()),
            "/metrics" => Response::text(self.metrics()),
            _ => {
                let paths = "/ready\n/api/v1/proxies\n/api/v1/files\n/api/v1/resources[?node=ID]\n/metrics\n";
                Response::text(format!("There is:\n{paths}")).with_status(StatusCode::NOT_FOUND)
            }
        }
    }

    fn revision(&self) -> u64 {
        self.hub.world().revision
    }

    fn files(&self) -> Value {
        let files: Vec<Value> = self.files.list().iter().map(file_json).collect();
        json!({"revision": self.revision(), "files": files})
    }

    /// Without a node: the services. With one: names and versions of what it gets.
    fn resources(&self, node: Option<&str>) -> Response {
        let world = self.hub.world();
        let Some(id) = node else {
            let services = world.registry.services.values().map(|service| {
                let ports = service.ports.iter().map(|port| {
                    let endpoints: Vec<Value> = port
                        .endpoints
                        .iter()
                        .map(|endpoint| {
                            let address = format!("{}:{}", endpoint.address, endpoint.port);
                            json!({"address": address, "workload": endpoint.workload, "identity": endpoint.identity})
                        })
                        .collect();
                    json!({"port": port.number, "name": port.name, "endpoints": endpoints})
                });
                (service.host.clone(), json!(ports.collect::<Vec<_>>()))
            });
            return pretty(
                &json!({"revision": world.revision, "services": services.collect::<serde_json::Map<_, _>>()}),
            );
        };
        let node = Node { id: id.to_owned(), service: String::new(), namespace: None, agent: Agent::Ripstop };
        match world.snapshot(&node, None) {
            Some(snapshot) => {
                let kinds = Kind::ALL.into_iter().map(|kind| {
                    let list = snapshot
                        .get(kind)
                        .values()
                        .map(|resource| (resource.name.to_string(), json!(&*resource.version)));
                    (kind.short_name().to_owned(), Value::Object(list.collect()))
                });
                pretty(&json!({"revision": world.revision, "resources": kinds.collect::<serde_json::Map<_, _>>()}))
            }
            None => {
                let text = format!("{id:?} is no workload that is known here\n");
                Response::text(text).with_status(StatusCode::NOT_FOUND)
            }
        }
    }

    fn metrics(&self) -> String {
        let (proxies, files) = (self.hub.proxies.list(), self.files.list());
        let refusing = proxies.iter().filter(|proxy| proxy.types.values().any(|kind| kind.nack.is_some())).count();
        let mut out = String::new();
        for (name, help, value) in [
            ("ripstop_control_revision", "Grows with every accepted change.", self.revision()),
            ("ripstop_control_proxies", "Connected xDS clients.", proxies.len() as u64),
            ("ripstop_control_proxies_refusing", "Clients that refused what they were sent last.", refusing as u64),
            (
                "ripstop_control_files_rejected",
                "Configuration files whose present text is not in force.",
                files.iter().filter(|file| file.error.is_some()).count() as u64,
            ),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
        }
        out
    }
}

fn file_json(report: &FileReport) -> Value {
    let state = match (&report.error, report.in_force) {
        (None, _) => "accepted",
        (Some(_), true) => "rejected, the last good text is in force",
        (Some(_), false) => "rejected",
    };
    let mut value = json!({"file": report.file, "state": state, "revision": report.revision});
    if let Some(error) = &report.error {
        let problems = error.problems.iter().map(|problem| {
            json!({
                "line": problem.place.map(|place| place.line),
                "column": problem.place.map(|place| place.column),
                "path": problem.path,
                "message": problem.message,
            })
        });
        value["problems"] = json!(problems.collect::<Vec<_>>());
        value["error"] = json!(error.to_string());
    }
    if !report.warnings.is_empty() {
        value["warnings"] = json!(report.warnings);
    }
    value
}

fn pretty(value: &Value) -> Response {
    Response::json(format!("{value:#}\n"))
}
