//! Starting without a control plane, and ending without losing a request.

use crate::support::{Kind, Proxy, cluster, http};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tests::backend::{Backend, Log};
use tests::client::exchange;
use tests::peers;
use tests::process::{Process, get, ports, scratch};

const TO_A: &str = "- { match: { prefix: / }, route: { cluster: a } }\n";

fn backend() -> (Backend, Log) {
    let log: Log = Arc::new(Mutex::new(Vec::new()));
    (Backend::start("a", &log), log)
}

#[test]
fn a_drain_finishes_what_is_in_flight() {
    let (backend, log) = backend();
    let mut proxy = Proxy::start(Kind::Ripstop, "drain", &http("", TO_A, &cluster("a", backend.port, "")));
    let port = proxy.port;
    let mut unused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut idle = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    idle.write_all(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut first = [0; 1024];
    let length = idle.read(&mut first).unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&first[..length]));
    log.lock().unwrap().clear();
    let slow = std::thread::spawn(move || {
        exchange(port, b"GET /slow HTTP/1.1\r\nHost: a\r\nx-answer: delay-ms=1500;body=whole\r\n\r\n", 1)
    });
    let start = Instant::now();
    while log.lock().unwrap().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "the request does not reach the backend");
        std::thread::sleep(Duration::from_millis(5));
    }
    proxy.process.terminate();
    // A kept connection with nothing under way ends at once, with nothing said on it.
    idle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0);
    // One that has not been used yet may have a request on the way: it is served, and ends.
    unused.write_all(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut late = String::new();
    unused.read_to_string(&mut late).unwrap();
    assert!(late.starts_with("HTTP/1.1 200 OK\r\n") && late.contains("connection: close\r\n"), "{late}");
    assert!(!slow.is_finished());
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "a draining proxy takes no new connection");
    let answer = &slow.join().unwrap()[0];
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"whole"[..]));
    assert!(answer.headers.contains(&("connection".into(), "close".into())), "{answer:?}");
    assert_eq!(proxy.process.wait(Duration::from_secs(10)), Some(0));
}

#[test]
fn quitquitquit_ends_it() {
    let (backend, _) = backend();
    let mut proxy = Proxy::start(Kind::Ripstop, "quit", &http("", TO_A, &cluster("a", backend.port, "")));
    let mut admin = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.admin)).unwrap();
    admin.write_all(b"POST /quitquitquit HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert_eq!(proxy.process.wait(Duration::from_secs(10)), Some(0));
}

fn mesh(folder: &Path, egress: u16, backend: u16) {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: catalog}}\nspec:\n  selector: {{app: catalog}}\n  ports: [{{name: http, port: 80, targetPort: http}}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  selector: {{app: web}}\n  ports: [{{name: http, port: 80, targetPort: http}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: catalog-1}}\nspec: {{address: 127.0.0.1, ports: {{http: {backend}}}, serviceAccount: catalog, labels: {{app: catalog}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: web-1}}\nspec: {{address: 127.0.0.1, ports: {{http: 9}}, serviceAccount: web, labels: {{app: web}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: web}}\nspec:\n  workloadSelector: {{labels: {{app: web}}}}\n  egress:\n    - {{port: {{number: {egress}, protocol: HTTP, name: http}}, bind: 127.0.0.1, captureMode: NONE, hosts: [\"./catalog.default.svc.cluster.local\"]}}\n"
    );
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("mesh.yaml"), text).unwrap();
}

fn ads(control: u16) -> String {
    format!(
        "node: {{ id: web-1, cluster: web }}\nadmin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {{ADMIN}} }} }} }}\n\
         dynamic_resources:\n  lds_config: {{ ads: {{}}, resource_api_version: V3 }}\n  cds_config: {{ ads: {{}}, resource_api_version: V3 }}\n  \
         ads_config: {{ api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{{ envoy_grpc: {{ cluster_name: control }} }}] }}\n\
         static_resources:\n  clusters:\n{}",
        crate::support::indent(&cluster("control", control, crate::support::HTTP2), 2)
    )
}

#[test]
fn the_last_good_configuration_outlives_the_control_plane() {
    let (backend, _) = backend();
    let folder = scratch("last-good");
    let [egress, xds, control_admin] = ports();
    mesh(&folder.join("mesh"), egress, backend.port);
    let (config, state) = (folder.join("mesh").display().to_string(), folder.join("state").display().to_string());
    let (plain, admin) = (format!("127.0.0.1:{xds}"), format!("127.0.0.1:{control_admin}"));
    let arguments = [
        "control",
        "--config",
        &config,
        "--state",
        &state,
        "--listen",
        "127.0.0.1:0",
        "--listen-plaintext",
        &plain,
        "--admin",
        &admin,
    ];
    let mut control = Process::start("control", &folder, &peers::ripstop(), &arguments);
    control.ready(control_admin);
    let saved = folder.join("saved").display().to_string();
    let call = || exchange(egress, b"GET / HTTP/1.1\r\nHost: catalog\r\n\r\n", 1)[0].status;
    let proxy = Proxy::start_in(Kind::Ripstop, &folder, &ads(xds), &["--state", &saved]);
    assert_eq!(call(), 200);
    // It was saved once the control plane's configuration was in force.
    let start = Instant::now();
    while std::fs::read_dir(&saved).map_or(0, Iterator::count) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing is saved in {saved}");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(proxy);
    drop(control);
    let proxy = Proxy::start_in(Kind::Ripstop, &folder, &ads(xds), &["--state", &saved]);
    assert_eq!(call(), 200, "{}", proxy.process.log());
    let dump = get(proxy.admin, "/config_dump").unwrap();
    assert!(dump.contains("catalog"), "{dump}");
    let _ = std::fs::remove_dir_all(&folder);
}
