//! The event log: one JSON line per event, in the shape of `envoy.data.core.v3.HealthCheckEvent`.

use super::check::Subject;
use engine::resilience::health::{Event, Failure};
use model::Address;
use model::endpoint::Endpoint;
use model::health::{HealthCheck, Probe};
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The files of one check. A file that cannot be written is reported; it must not stop the checks.
pub(super) struct Log(Vec<File>);

impl Log {
    pub(super) fn open(config: &HealthCheck) -> Log {
        let open = |path: &std::path::PathBuf| match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "health check events cannot be logged");
                None
            }
        };
        Log(config.event_logs.iter().filter_map(open).collect())
    }

    pub(super) fn write(&mut self, subject: &Subject, config: &HealthCheck, event: Event) {
        if self.0.is_empty() {
            return;
        }
        let line = format!("{}\n", line(subject, &config.probe, event, OffsetDateTime::now_utc()));
        for file in &mut self.0 {
            if let Err(error) = file.write_all(line.as_bytes()) {
                tracing::warn!(%error, "a health check event is lost");
            }
        }
    }
}

fn line(subject: &Subject, probe: &Probe, event: Event, now: OffsetDateTime) -> Value {
    let kind = match probe {
        Probe::Http(_) => "HTTP",
        Probe::Tcp(_) => "TCP",
        Probe::Grpc(_) => "GRPC",
    };
    let (name, content) = event_of(event);
    let mut out = Map::new();
    out.insert("health_checker_type".into(), kind.into());
    out.insert("host".into(), host(&subject.address));
    out.insert("cluster_name".into(), (&*subject.cluster.name).into());
    out.insert(name.into(), content);
    out.insert("timestamp".into(), now.format(&Rfc3339).unwrap_or_default().into());
    if let Some(metadata) = metadata(&subject.endpoint) {
        out.insert("metadata".into(), metadata);
    }
    let at = &subject.locality;
    out.insert("locality".into(), json!({"region": at.region, "zone": at.zone, "sub_zone": at.sub_zone}));
    Value::Object(out)
}

fn event_of(event: Event) -> (&'static str, Value) {
    match event {
        Event::EjectUnhealthy(failure) => ("eject_unhealthy_event", failed(failure, None)),
        Event::AddHealthy { first } => ("add_healthy_event", json!({"first_check": first})),
        Event::Failure { failure, first } => ("health_check_failure_event", failed(failure, Some(first))),
        Event::Success => ("successful_health_check_event", json!({})),
        Event::Degraded => ("degraded_healthy_host", json!({})),
        Event::NoLongerDegraded => ("no_longer_degraded_host", json!({})),
    }
}

fn failed(failure: Failure, first: Option<bool>) -> Value {
    let mut out = json!({"failure_type": failure_type(failure), "http_status_code": failure.status()});
    if let Some(first) = first {
        out["first_check"] = first.into();
    }
    out
}

fn failure_type(failure: Failure) -> &'static str {
    match failure {
        Failure::Answer(_) | Failure::Retriable(_) => "ACTIVE",
        Failure::Passive => "PASSIVE",
        Failure::Network => "NETWORK",
        Failure::Timeout => "NETWORK_TIMEOUT",
    }
}

fn host(address: &Address) -> Value {
    match address {
        Address::Tcp(address) => json!({"socket_address": {
            "protocol": "TCP",
            "address": address.ip().to_string(),
            "port_value": address.port(),
            "resolver_name": "",
            "ipv4_compat": false,
            "network_namespace_filepath": "",
        }}),
        Address::Unix(path) => json!({"pipe": {"path": path.display().to_string(), "mode": 0}}),
    }
}

fn metadata(endpoint: &Endpoint) -> Option<Value> {
    let object = |pairs: &[(Box<str>, Box<str>)]| -> Value {
        let pairs = pairs.iter().map(|(key, value)| (key.to_string(), serde_json::from_str(value).unwrap_or_default()));
        Value::Object(pairs.collect())
    };
    let known = [("envoy.lb", &*endpoint.lb_metadata), ("envoy.transport_socket_match", &*endpoint.socket_match)];
    let known = known.into_iter().filter(|(_, pairs)| !pairs.is_empty());
    let filters: Map<String, Value> = known.map(|(name, pairs)| (name.to_string(), object(pairs))).collect();
    (!filters.is_empty()).then(|| json!({"filter_metadata": filters, "typed_filter_metadata": {}}))
}
