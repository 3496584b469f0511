//! `/config_dump` and `/certs`: the configuration as it was accepted, secrets left out.

use super::Admin;
use crate::core::redact;
use runtime::http::Response;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use wire::json::view;

pub(super) async fn node(admin: &Admin) -> Value {
    let core = admin.core.lock().await;
    let schema = wire::schema::schema();
    view(&schema, "envoy.config.bootstrap.v3.Bootstrap", core.bootstrap_bytes())["node"].take()
}

/// The whole dump, or one list of it by `resource`.
pub(super) async fn config(admin: &Admin, resource: Option<&str>) -> Response {
    let core = admin.core.lock().await;
    let schema = wire::schema::schema();
    let mut bootstrap = view(&schema, "envoy.config.bootstrap.v3.Bootstrap", core.bootstrap_bytes());
    redact(&mut bootstrap);
    let statics = |kind: &str, wrap: &str| -> Vec<Value> {
        let list = bootstrap["static_resources"][kind].as_array().cloned().unwrap_or_default();
        list.into_iter().map(|one| json!({ wrap: one })).collect()
    };
    let dynamic = |kind: &str| core.dump(&schema, kind);
    let lists = [
        ("static_clusters", statics("clusters", "cluster")),
        ("dynamic_active_clusters", dynamic("cluster")),
        ("static_listeners", statics("listeners", "listener")),
        ("dynamic_listeners", dynamic("listener")),
        ("dynamic_route_configs", dynamic("route_config")),
        ("dynamic_endpoint_configs", dynamic("endpoint_config")),
    ];
    drop(core);
    if let Some(resource) = resource {
        let found = lists.iter().find(|(name, _)| *name == resource).map(|(_, list)| list.clone());
        return Response::json(format!("{:#}\n", json!({"configs": found.unwrap_or_default()})));
    }
    let [clusters, dynamic_clusters, listeners, dynamic_listeners, routes, endpoints] = lists.map(|(_, list)| list);
    let url = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    let dump = json!({"configs": [
        {"@type": url("BootstrapConfigDump"), "bootstrap": bootstrap},
        {"@type": url("ClustersConfigDump"), "static_clusters": clusters, "dynamic_active_clusters": dynamic_clusters},
        {"@type": url("ListenersConfigDump"), "static_listeners": listeners, "dynamic_listeners": dynamic_listeners},
        {"@type": url("RoutesConfigDump"), "dynamic_route_configs": routes},
        {"@type": url("EndpointsConfigDump"), "dynamic_endpoint_configs": endpoints},
    ]});
    Response::json(format!("{dump:#}\n"))
}

pub(super) async fn certificates(admin: &Admin) -> Response {
    let core = admin.core.lock().await;
    let snapshot = core.publisher.current();
    let mut entries = Vec::new();
    for (name, secret) in &snapshot.secrets {
        let (ca, chain) = match secret {
            model::tls::Secret::Certificate(certificate) => (None, Some(&certificate.chain)),
            model::tls::Secret::Validation(validation) => (validation.trusted_ca.as_ref(), None),
        };
        let details = |source: Option<&model::tls::DataSource>| source.map(describe).unwrap_or_default();
        entries.push(json!({"name": &**name, "ca_cert": details(ca), "cert_chain": details(chain)}));
    }
    Response::json(format!("{:#}\n", json!({ "certificates": entries })))
}

fn describe(source: &model::tls::DataSource) -> Vec<Value> {
    let (path, pem) = match source {
        model::tls::DataSource::Inline(bytes) => ("<inline>".to_string(), bytes.to_vec()),
        model::tls::DataSource::File(path) => (path.display().to_string(), std::fs::read(path).unwrap_or_default()),
    };
    CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).map(|der| certificate(&path, &der)).collect()
}

fn certificate(path: &str, der: &CertificateDer<'_>) -> Value {
    let names = identity::peer_names(der).ok();
    let uris: Vec<Value> = names.iter().flat_map(|names| &names.uris).map(|uri| json!({"uri": uri})).collect();
    let dns = names.iter().flat_map(|names| &names.dns).map(|dns| json!({"dns": dns}));
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (from, until) = identity::validity(der).unwrap_or((UNIX_EPOCH, UNIX_EPOCH));
    let left = until.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() / 86_400);
    json!({
        "path": path,
        "serial_number": identity::fingerprint(der),
        "subject_alt_names": uris.into_iter().chain(dns).collect::<Vec<_>>(),
        "days_until_expiration": left.to_string(),
        "valid_from_unix": seconds(from),
        "expiration_time_unix": seconds(until),
    })
}
