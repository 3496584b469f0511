//! Which ports everything gets, and the files that follow from that: Sidecars and bootstraps.

use super::files::{MeshFiles, Workload};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The addresses of one sidecar, all on loopback.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placement {
    /// Where the mesh reaches the workload, by the application's port name.
    pub(crate) inbound: BTreeMap<String, u16>,
    /// HTTP proxy: any service by its name.
    pub(crate) proxy: u16,
    /// One address per service.
    pub(crate) outbound: BTreeMap<String, u16>,
    pub(crate) admin: u16,
}

/// Hands out free loopback ports, no port twice in this process.
///
/// They lie below those that the system gives to outgoing connections: one of these could be taken between the choice and
/// its use.
pub(crate) struct Ports;

const FIRST_PORT: u16 = 10_000;
/// Where Linux's range for outgoing connections begins, unless told otherwise.
const USUAL_END: u16 = 32_768;

impl Ports {
    pub(crate) fn take(&mut self) -> anyhow::Result<u16> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let range = u32::from(end_of_range() - FIRST_PORT);
        // Processes that run at the same time begin at different places.
        let start = std::process::id().wrapping_mul(7919);
        for _ in 0..range {
            let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % range;
            let port = FIRST_PORT + u16::try_from(offset)?;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        anyhow::bail!("no loopback port from {FIRST_PORT} to {} is free", end_of_range())
    }
}

fn end_of_range() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = text.split_whitespace().next().and_then(|low| low.parse().ok());
    low.filter(|low| *low > FIRST_PORT + 1000).unwrap_or(USUAL_END)
}

/// A placement for every workload; known ones keep theirs.
pub(crate) fn place(
    files: &MeshFiles,
    known: &BTreeMap<String, Placement>,
) -> anyhow::Result<BTreeMap<String, Placement>> {
    let mut ports = Ports;
    let mut placements = BTreeMap::new();
    for workload in &files.workloads {
        let mut placement = match known.get(&workload.name) {
            Some(placement) => placement.clone(),
            None => Placement {
                inbound: BTreeMap::new(),
                proxy: ports.take()?,
                outbound: BTreeMap::new(),
                admin: ports.take()?,
            },
        };
        for name in workload.ports.keys() {
            if !placement.inbound.contains_key(name) {
                placement.inbound.insert(name.clone(), ports.take()?);
            }
        }
        for service in &files.services {
            if !placement.outbound.contains_key(&service.name) {
                placement.outbound.insert(service.name.clone(), ports.take()?);
            }
        }
        placements.insert(workload.name.clone(), placement);
    }
    Ok(placements)
}

/// One Istio Sidecar per workload, as a List.
pub(crate) fn sidecars(files: &MeshFiles, placements: &BTreeMap<String, Placement>) -> String {
    let items: Vec<Value> = files
        .workloads
        .iter()
        .filter_map(|workload| Some(sidecar(files, workload, placements.get(&workload.name)?)))
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

fn sidecar(files: &MeshFiles, workload: &Workload, placement: &Placement) -> Value {
    let ingress: Vec<Value> = workload
        .ports
        .iter()
        .filter_map(|(name, port)| {
            let number = placement.inbound.get(name)?;
            Some(json!({
                "port": {"number": number, "protocol": protocol(name), "name": name},
                "bind": "127.0.0.1",
                "captureMode": "NONE",
                "defaultEndpoint": format!("127.0.0.1:{port}"),
            }))
        })
        .collect();
    let mut egress = vec![json!({
        "port": {"number": placement.proxy, "protocol": "HTTP", "name": "http-proxy"},
        "bind": "127.0.0.1",
        "captureMode": "NONE",
        "hosts": ["*/*"],
    })];
    for service in &files.services {
        let Some(number) = placement.outbound.get(&service.name) else { continue };
        egress.push(json!({
            "port": {"number": number, "protocol": protocol(&service.port_name), "name": service.port_name},
            "bind": "127.0.0.1",
            "captureMode": "NONE",
            "hosts": [format!("{0}/{1}.{0}.svc.cluster.local", service.namespace, service.name)],
        }));
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": workload.name, "namespace": workload.namespace},
        "spec": {
            "workloadSelector": {"labels": {"ripstop.dev/workload": workload.name}},
            "ingress": ingress,
            "egress": egress,
        },
    })
}

/// Kubernetes' and Istio's convention: the port's name begins with its protocol.
fn protocol(port_name: &str) -> &'static str {
    match port_name.split('-').next().unwrap_or_default() {
        "grpc" => "GRPC",
        "http2" | "h2c" => "HTTP2",
        "tcp" => "TCP",
        _ => "HTTP",
    }
}

/// The bootstrap of a workload's sidecar.
pub(crate) fn bootstrap(workload: &Workload, placement: &Placement, control: SocketAddr, trust_domain: &str) -> String {
    let secret = |name: &str| json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}});
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"exact": format!("spiffe://{trust_domain}/ns/ripstop-system/sa/control")}},
                ]},
                "validation_context_sds_secret_config": secret("ROOTCA"),
            },
        },
    });
    let address = |ip: String, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let bootstrap = json!({
        "node": {"id": workload.name, "cluster": workload.service, "metadata": {"NAMESPACE": workload.namespace}},
        "admin": {"address": address("127.0.0.1".into(), placement.admin)},
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}],
            },
        },
        "static_resources": {"clusters": [{
            "name": "control",
            "type": "STATIC",
            "connect_timeout": "5s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            "load_assignment": {"cluster_name": "control", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(control.ip().to_string(), control.port())}},
            ]}]},
        }]},
    });
    format!("{bootstrap:#}\n")
}

/// What a workload's program finds in its environment.
pub(crate) fn environment(files: &MeshFiles, placement: &Placement) -> Vec<(String, String)> {
    let mut variables = vec![
        ("HTTP_PROXY".to_string(), format!("http://127.0.0.1:{}", placement.proxy)),
        ("http_proxy".to_string(), format!("http://127.0.0.1:{}", placement.proxy)),
        ("NO_PROXY".to_string(), "127.0.0.1,localhost".to_string()),
    ];
    for service in &files.services {
        if let Some(port) = placement.outbound.get(&service.name) {
            let name = service.name.to_uppercase().replace(['-', '.'], "_");
            variables.push((format!("{name}_SERVICE_HOST"), "127.0.0.1".to_string()));
            variables.push((format!("{name}_SERVICE_PORT"), port.to_string()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_given_twice_or_could_be_taken_by_a_connection() {
        let taken: BTreeSet<u16> = (0..200).map(|_| Ports.take().unwrap()).collect();
        assert_eq!(taken.len(), 200);
        assert!(taken.iter().all(|port| (FIRST_PORT..end_of_range()).contains(port)), "{taken:?}");
    }
}
