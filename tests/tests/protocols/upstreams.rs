//! nginx and HAProxy as upstreams: keep-alive, ranges, large bodies both ways, and a reload in the middle of load.

use crate::support::{Kind, Proxy, cluster, http};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tests::client::{Answer, exchange};
use tests::process::{Process, ports, scratch};

fn nginx(folder: &Path, port: u16) -> Process {
    let at = folder.display();
    std::fs::create_dir_all(folder.join("www")).unwrap();
    std::fs::create_dir_all(folder.join("tmp")).unwrap();
    std::fs::write(folder.join("www/small"), "hello").unwrap();
    std::fs::write(folder.join("www/big"), big()).unwrap();
    let text = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 1;\nevents {{}}\nhttp {{\n  access_log off; \
         client_max_body_size 64m; client_body_temp_path {at}/tmp; proxy_temp_path {at}/tmp;\n  fastcgi_temp_path {at}/tmp; \
         uwsgi_temp_path {at}/tmp; scgi_temp_path {at}/tmp;\n  server {{\n    listen 127.0.0.1:{port};\n    root {at}/www;\n    \
         location /sink {{ client_body_in_single_buffer on; client_body_buffer_size 64m; proxy_pass http://127.0.0.1:{port}/took; \
         }}\n    location /took {{ return 200 \"$http_content_length\"; }}\n    location /nothing {{ return 204; }}\n    \
         location /moved {{ return 301 /else; }}\n  }}\n}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), text).unwrap();
    let (config, prefix) = (folder.join("nginx.conf").display().to_string(), at.to_string());
    let process = Process::start("nginx", folder, &program("nginx"), &["-c", &config, "-p", &prefix]);
    answers(port, &process);
    process
}

fn haproxy(folder: &Path, port: u16, server: u16) -> Process {
    let text = format!(
        "global\n  maxconn 500\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 10s\n  timeout server 10s\n\
         frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  server s 127.0.0.1:{server}\n"
    );
    let config = folder.join("haproxy.cfg");
    std::fs::write(&config, text).unwrap();
    let process = Process::start("haproxy", folder, &program("haproxy"), &["-f", &config.display().to_string()]);
    answers(port, &process);
    process
}

pub(crate) fn program(name: &str) -> PathBuf {
    let path = Path::new("/usr/sbin").join(name);
    assert!(path.exists(), "{} is missing; run `cargo xtask peers`", path.display());
    path
}

pub(crate) fn answers(port: u16, process: &Process) {
    let start = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed().as_secs() < 10, "{} does not listen:\n{}", process.name, process.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn big() -> Vec<u8> {
    (0..3_000_000u32).map(|number| (number % 251) as u8).collect()
}

fn ask(port: u16, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut raw = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n").into_bytes();
    raw.extend_from_slice(body);
    exchange(port, &raw, 1).remove(0)
}

fn speaks_all_of_http(port: u16) {
    let small = ask(port, "GET", "/small", "", b"");
    assert_eq!((small.status, small.body.as_slice()), (200, &b"hello"[..]));
    let head = ask(port, "HEAD", "/small", "", b"");
    assert!(head.body.is_empty() && head.headers.contains(&("content-length".into(), "5".into())), "{head:?}");
    assert_eq!(ask(port, "GET", "/big", "", b"").body, big());
    let range = ask(port, "GET", "/big", "Range: bytes=1000-1999\r\n", b"");
    assert_eq!((range.status, range.body.as_slice()), (206, &big()[1000..2000]));
    let tag = small.headers.iter().find(|(name, _)| name == "etag").map(|(_, value)| value.clone()).unwrap();
    assert_eq!(ask(port, "GET", "/small", &format!("If-None-Match: {tag}\r\n"), b"").status, 304);
    assert_eq!(ask(port, "GET", "/nothing", "", b"").status, 204);
    assert_eq!(ask(port, "GET", "/moved", "", b"").status, 301);
    assert_eq!(ask(port, "GET", "/none", "", b"").status, 404);
    let body = big();
    let length = format!("Content-Length: {}\r\n", body.len());
    assert_eq!(ask(port, "POST", "/sink", &length, &body).body, body.len().to_string().as_bytes());
    let mut chunked = Vec::new();
    for part in body.chunks(100_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(
        ask(port, "POST", "/sink", "Transfer-Encoding: chunked\r\n", &chunked).body,
        body.len().to_string().as_bytes()
    );
    let expecting = format!("{length}Expect: 100-continue\r\n");
    assert_eq!(ask(port, "POST", "/sink", &expecting, &body).body, body.len().to_string().as_bytes());
    let many = "GET /small HTTP/1.1\r\nHost: test\r\n\r\n".repeat(20);
    let answers = exchange(port, many.as_bytes(), 20);
    assert!(answers.len() == 20 && answers.iter().all(|answer| answer.body == b"hello"), "{answers:?}");
}

#[test]
fn nginx_and_haproxy() {
    let folder = scratch("upstreams");
    let [web, balancer] = ports();
    let _web = nginx(&folder, web);
    let _balancer = haproxy(&folder, balancer, web);
    let routes = "- { match: { prefix: / }, route: { cluster: up } }\n";
    for port in [web, balancer] {
        let proxy = Proxy::start(Kind::Ripstop, "upstreams-proxy", &http("", routes, &cluster("up", port, "")));
        speaks_all_of_http(proxy.port);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// nginx closes its idle connections when it reloads; requests that were just sent on them must not fail.
#[test]
fn an_upstream_reload_costs_no_request() {
    let folder = scratch("reload");
    let [web] = ports();
    let server = nginx(&folder, web);
    let routes = "- { match: { prefix: / }, route: { cluster: up, retry_policy: { retry_on: 'connect-failure,refused-stream,reset-before-request', num_retries: 2 } } }\n";
    let proxy = Proxy::start(Kind::Ripstop, "reload-proxy", &http("", routes, &cluster("up", web, "")));
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let port = proxy.port;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served) = (stop.clone(), served.clone());
            std::thread::spawn(move || {
                let ten = "GET /small HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10);
                while !stop.load(Ordering::Relaxed) {
                    let answers = exchange(port, ten.as_bytes(), 10);
                    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
                    assert!(failed.is_empty() && answers.len() == 10, "{failed:?}");
                    served.fetch_add(10, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 1..=5 {
        let wanted = round * 200;
        while served.load(Ordering::Relaxed) < wanted && clients.iter().all(|client| !client.is_finished()) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let reload = Command::new("kill").args(["-HUP", &server.id().to_string()]).status();
        assert!(reload.is_ok_and(|status| status.success()));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request failed");
    }
    drop(server);
    let _ = std::fs::remove_dir_all(&folder);
}
