//! Real Envoys as sidecars of a mesh, over state-of-the-world and delta ADS.

use std::sync::{Arc, Mutex};

use tests::backend::{Backend, Log};
use tests::peers;
use tests::process::{Process, ports};

use crate::support::{ControlPlane, Http, assert_share, eventually, service, split, workload};

const VISITS: usize = 400;

fn bootstrap(id: &str, service: &str, api: &str, xds: u16, admin: u16) -> String {
    format!(
        r#"
node: {{id: {id}, cluster: {service}}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
dynamic_resources:
  lds_config: {{ads: {{}}, resource_api_version: V3}}
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  ads_config:
    api_type: {api}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: control}}}}]
static_resources:
  clusters:
    - name: control
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{http2_protocol_options: {{}}}}
      load_assignment:
        cluster_name: control
        endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {xds}}}}}}}}}]}}]
"#
    )
}

/// web-1 calls catalog: v1 behind an Envoy with mTLS, v2 in plain text.
struct Shop {
    control: ControlPlane,
    web: Process,
    v1: Process,
    log: Log,
    /// web's own port for catalog, for the service that mixes both versions, and its HTTP proxy.
    catalog: u16,
    mixed: u16,
    proxy: u16,
    inbound: u16,
}

impl Shop {
    fn open(name: &str, api: &str) -> Self {
        let log: Log = Arc::new(Mutex::new(Vec::new()));
        let (v1, v2) = (Backend::start("v1", &log), Backend::start("v2", &log));
        let [catalog, mixed, proxy, inbound, web_admin, v1_admin, web_inbound] = ports::<7>();
        let workloads = [
            workload("web-1", web_inbound, "app: web, security.istio.io/tlsMode: istio"),
            workload("catalog-v1-1", inbound, "app: catalog, version: v1, security.istio.io/tlsMode: istio"),
            workload("catalog-v2-1", v2.port, "app: catalog, version: v2"),
        ];
        let http = "name: http, port: 80, targetPort: http";
        let services = [
            service("web", "app: web", http),
            service("catalog", "app: catalog", http),
            service("catalog-v1", "app: catalog, version: v1", http),
            service("catalog-v2", "app: catalog, version: v2", http),
            service("mixed", "app: catalog", http),
        ];
        let files = [
            ("services.yaml", services.concat()),
            ("workloads.yaml", workloads.concat()),
            ("sidecars.yaml", sidecars(catalog, mixed, proxy, inbound, v1.port)),
            ("route.yaml", split("catalog", 80, 80, 20)),
        ];
        let control = ControlPlane::start(name, &files);
        let start = |id: &str, service: &str, admin: u16| {
            let text = bootstrap(id, service, api, control.port, admin);
            let arguments = ["--config-yaml", &text, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"];
            Process::start(id, &control.folder, &peers::envoy(), &arguments)
        };
        let (mut web, mut server) = (start("web-1", "web", web_admin), start("catalog-v1-1", "catalog", v1_admin));
        web.ready(web_admin);
        server.ready(v1_admin);
        Self { control, web, v1: server, log, catalog, mixed, proxy, inbound }
    }

    /// How many of `VISITS` calls went to v2; all must succeed.
    fn visits(&self, port: u16) -> usize {
        self.log.lock().unwrap().clear();
        let mut http = Http::connect(port);
        for _ in 0..VISITS {
            let (status, body) = http.get("/", "whatever");
            assert_eq!(status, 200, "{body}\n{}\n{}", self.web.log(), self.v1.log());
        }
        self.log.lock().unwrap().iter().filter(|seen| seen.backend == "v2").count()
    }
}

fn sidecars(catalog: u16, mixed: u16, proxy: u16, inbound: u16, application: u16) -> String {
    let egress = |number: u16, host: &str| {
        let port = format!("{{number: {number}, protocol: HTTP, name: http}}");
        format!("    - {{port: {port}, bind: 127.0.0.1, captureMode: NONE, hosts: [\"{host}\"]}}\n")
    };
    let head = |name: &str, labels: &str| {
        let head = "apiVersion: networking.istio.io/v1\nkind: Sidecar\n";
        format!("{head}metadata: {{name: {name}}}\nspec:\n  workloadSelector: {{labels: {{{labels}}}}}\n")
    };
    let web = head("web", "app: web")
        + "  egress:\n"
        + &egress(catalog, "./catalog.default.svc.cluster.local")
        + &egress(mixed, "./mixed.default.svc.cluster.local")
        + &egress(proxy, "*/*");
    let ingress = format!(
        "  ingress:\n    - port: {{number: {inbound}, protocol: HTTP, name: http}}\n      bind: 127.0.0.1\n      captureMode: NONE\n      defaultEndpoint: 127.0.0.1:{application}\n"
    );
    format!("{web}---\n{}{ingress}", head("catalog-v1", "app: catalog, version: v1"))
}

/// One whole life, for either protocol.
fn joins_and_follows(name: &str, api: &str) {
    let shop = Shop::open(name, api);
    for proxy in shop.control.settled(2, 1) {
        assert_eq!(proxy["agent"], "envoy");
        let types = proxy["types"].as_object().unwrap();
        assert!(types.values().all(|kind| kind["nack"].is_null()), "{proxy:#}");
    }
    // The split, half of it over mTLS.
    assert_share(shop.visits(shop.catalog), VISITS, 0.2);
    // One service whose endpoints partly speak mTLS: each is spoken to in its own way.
    let v2 = shop.visits(shop.mixed);
    assert!(v2 > VISITS / 10 && v2 < VISITS * 9 / 10, "{v2}");

    let mut http = Http::connect(shop.proxy);
    for host in ["catalog", "catalog:80", "catalog.default", "catalog-v2.default.svc.cluster.local"] {
        assert_eq!(http.get("/", host).0, 200, "{host}");
    }
    assert_eq!(http.get("/", "unheard.of").0, 404);

    // A changed weight is followed while calls go on.
    shop.control.write("route.yaml", &split("catalog", 80, 30, 70));
    eventually("the file is read", || match shop.control.report("/api/v1/files")["revision"].as_u64() {
        Some(2) => Ok(()),
        other => Err(format!("revision {other:?}")),
    });
    shop.visits(shop.catalog);
    shop.control.settled(2, 2);
    assert_share(shop.visits(shop.catalog), VISITS, 0.7);
    strangers_are_refused(shop.inbound);
    shop.control.stop();
}

/// Plain text gets no answer where mTLS is required.
fn strangers_are_refused(inbound: u16) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", inbound)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn envoy_joins_by_state_of_the_world() {
    joins_and_follows("envoy-sotw", "GRPC");
}

#[test]
fn envoy_joins_by_delta() {
    joins_and_follows("envoy-delta", "DELTA_GRPC");
}
