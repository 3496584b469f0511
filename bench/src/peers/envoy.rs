//! Envoy, and Ripstop, which takes the same configuration.
//!
//! Tuned as Envoy's benchmarking FAQ says: circuit breakers out of the way, no request ids, no dynamic stats, a
//! concurrency of one, no hot restart.

use super::{Job, Security, Side, Start, Wire, service};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const UNLIMITED: u32 = 1_000_000;

pub(super) fn envoy(program: &Path, job: &Job) -> anyhow::Result<Start> {
    let mut command = common(program, job)?;
    command.args(["--use-dynamic-base-id", "--disable-hot-restart"]);
    Ok(Start::Run(command))
}

pub(super) fn ripstop(program: &Path, job: &Job) -> anyhow::Result<Start> {
    let mut proxy = Command::new(program);
    proxy.arg("proxy").args(arguments(job)?);
    Ok(Start::Run(proxy))
}

fn common(program: &Path, job: &Job) -> anyhow::Result<Command> {
    let mut command = Command::new(program);
    command.args(arguments(job)?);
    Ok(command)
}

fn arguments(job: &Job) -> anyhow::Result<Vec<String>> {
    let path = job.folder.join("bootstrap.json");
    std::fs::write(&path, bootstrap(job).to_string())?;
    let path = path.display().to_string();
    Ok(["-c", &path, "--concurrency", "1", "-l", "error"].map(String::from).to_vec())
}

fn bootstrap(job: &Job) -> Value {
    if let Some(discovery) = job.discovery {
        return discovering(job, discovery);
    }
    let clusters: Vec<Value> = match job.services {
        0 => vec![cluster(job, "backend")],
        count => (0..count).map(|number| cluster(job, &service(number))).collect(),
    };
    json!({ "static_resources": { "listeners": [listener(job)], "clusters": clusters } })
}

/// Clusters come from a control plane.
fn discovering(job: &Job, discovery: std::net::SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(discovery) } });
    let control = json!({
        "name": "control",
        "connect_timeout": "5s",
        "load_assignment": { "cluster_name": "control", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        "typed_extension_protocol_options": http2_upstream(),
    });
    let ads = json!({
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{ "envoy_grpc": { "cluster_name": "control" } }],
    });
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "dynamic_resources": {
            "ads_config": ads, "cds_config": { "ads": {}, "resource_api_version": "V3" }
        },
        "static_resources": { "listeners": [listener(job)], "clusters": [control] },
    })
}

fn http2_upstream() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        }
    })
}

fn listener(job: &Job) -> Value {
    let filter = if job.to_clients.wire == Wire::Tcp { tcp_proxy() } else { connection_manager(job) };
    let mut chain = json!({ "filters": [filter] });
    if job.to_clients.security != Security::Plain {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{TLS}.DownstreamTlsContext"),
                "require_client_certificate": job.to_clients.security == Security::Mutual,
                "common_tls_context": tls(job, job.to_clients),
            }
        });
    }
    json!({ "name": "in", "address": address(job.listen), "filter_chains": [chain] })
}

fn tcp_proxy() -> Value {
    let config = json!({
        "@type": format!("{FILTERS}.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": "in", "cluster": "backend"
    });
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": config })
}

fn connection_manager(job: &Job) -> Value {
    let router = json!({ "@type": format!("{FILTERS}.http.router.v3.Router"), "dynamic_stats": false });
    let mut config = json!({
        "@type": format!("{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "generate_request_id": false,
        "route_config": { "virtual_hosts": virtual_hosts(job), "validate_clusters": job.discovery.is_none() },
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": router }],
    });
    if job.log {
        config["access_log"] = json!([access_log(job)]);
    }
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": config })
}

fn virtual_hosts(job: &Job) -> Vec<Value> {
    let route = |prefix: &str, to: &str| json!({ "match": { "prefix": prefix }, "route": { "cluster": to } });
    let host =
        |name: &str, domain: &str, routes: Vec<Value>| json!({ "name": name, "domains": [domain], "routes": routes });
    if job.services > 0 {
        let one = |name: String| host(&name, &name, vec![route("/", &name)]);
        return (0..job.services).map(|number| one(service(number))).collect();
    }
    let routes = match job.routes {
        0 => vec![route("/", "backend")],
        count => (0..count).map(|number| route(&format!("/route-{number}/"), "backend")).collect(),
    };
    vec![host("all", "*", routes)]
}

fn access_log(job: &Job) -> Value {
    let fields = json!({
        "time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(:PATH)%", "host": "%REQ(:AUTHORITY)%",
        "status": "%RESPONSE_CODE%", "bytes": "%BYTES_SENT%", "duration": "%DURATION%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    });
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": job.folder.join("access.log"),
            "log_format": { "json_format": fields },
        }
    })
}

fn cluster(job: &Job, name: &str) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(job.upstream) } });
    let limits = json!({
        "max_connections": UNLIMITED, "max_pending_requests": UNLIMITED, "max_requests": UNLIMITED,
    });
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [limits] },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    });
    if job.to_upstream.wire == Wire::Http2 {
        cluster["typed_extension_protocol_options"] = http2_upstream();
    }
    if job.to_upstream.security != Security::Plain {
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{TLS}.UpstreamTlsContext"),
                "sni": crate::tls::SERVER_NAME,
                "common_tls_context": tls(job, job.to_upstream),
            }
        });
    }
    cluster
}

fn tls(job: &Job, side: Side) -> Value {
    let file = |path: &Path| json!({ "filename": path });
    let mut context = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": file(&job.tls.certificate), "private_key": file(&job.tls.key)
        }],
        "alpn_protocols": if side.wire == Wire::Http2 { ["h2"] } else { ["http/1.1"] },
    });
    if side.security == Security::Mutual {
        context["validation_context"] = json!({ "trusted_ca": file(&job.tls.authority) });
    }
    context
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
