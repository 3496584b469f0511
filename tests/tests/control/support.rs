//! A control plane in this process, its mesh's files, and what to ask of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use control::{Control, Options, Plain};
use serde_json::Value;
use tests::process::{get, scratch};
use tokio::sync::oneshot;

/// Four standard deviations: a right split fails once in 16,000 runs.
const SIGMAS: f64 = 4.0;

pub(crate) struct ControlPlane {
    thread: Option<std::thread::JoinHandle<()>>,
    end: Option<oneshot::Sender<()>>,
    admin: u16,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
}

impl ControlPlane {
    pub(crate) fn start(name: &str, files: &[(&str, String)]) -> Self {
        let folder = scratch(name);
        let (config, state) = (folder.join("mesh"), folder.join("state"));
        std::fs::create_dir_all(&config).unwrap();
        for (file, text) in files {
            std::fs::write(config.join(file), text).unwrap();
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            config,
            state,
            listen: None,
            listen_plaintext: Some(Plain::Tcp(any)),
            admin: Some(any),
            trust_domain: "cluster.local".into(),
        };
        let (end, ended) = oneshot::channel();
        let (told, addresses) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let handle = Control::start(options).await.unwrap();
                told.send((handle.listen_plaintext().unwrap().port(), handle.admin().unwrap().port())).unwrap();
                // Also when the test fails and drops its end.
                let _ = ended.await;
                handle.shutdown().await;
            });
        });
        let (port, admin) = addresses.recv().expect("the control plane starts");
        Self { thread: Some(thread), end: Some(end), admin, port, folder }
    }

    /// Replaces a file in one step, as editors do.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let new = self.folder.join(".new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.join("mesh").join(file)).unwrap();
    }

    pub(crate) fn report(&self, path: &str) -> Value {
        let answer = get(self.admin, path).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Waits until every client has accepted the present revision, and returns what they said.
    pub(crate) fn settled(&self, clients: usize, revision: u64) -> Vec<Value> {
        eventually("all clients have accepted the revision", || {
            let report = self.report("/api/v1/proxies");
            let proxies = report["proxies"].as_array().unwrap().clone();
            let accepted = |proxy: &Value| {
                let types = proxy["types"].as_object().unwrap();
                proxy["revision"] == revision && types.values().all(|kind| kind["sent"] == kind["acked"])
            };
            if proxies.len() == clients && proxies.iter().all(accepted) {
                Ok(proxies)
            } else {
                Err(format!("{report:#}"))
            }
        })
    }

    pub(crate) fn stop(mut self) {
        drop(self.end.take());
        self.thread.take().unwrap().join().expect("the control plane ends");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Repeats `probe` until it holds.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) if start.elapsed() > Duration::from_secs(30) => panic!("not reached: {what}: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Fails when `hits` of `total` are too far from `share`.
pub(crate) fn assert_share(hits: usize, total: usize, share: f64) {
    let bound = SIGMAS * (share * (1.0 - share) / total as f64).sqrt();
    let seen = hits as f64 / total as f64;
    assert!((seen - share).abs() <= bound, "{hits} of {total}; {share} ± {bound:.3} were to be expected");
}

pub(crate) fn service(name: &str, selector: &str, port: &str) -> String {
    let head = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n");
    format!("{head}spec:\n  selector: {{{selector}}}\n  ports: [{{{port}}}]\n---\n")
}

pub(crate) fn workload(name: &str, port: u16, labels: &str) -> String {
    let head = format!("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\n");
    let account = name.split('-').next().unwrap();
    let spec =
        format!("{{address: 127.0.0.1, ports: {{http: {port}}}, serviceAccount: {account}, labels: {{{labels}}}}}");
    format!("{head}spec: {spec}\n---\n")
}

/// Splits calls of `service` between its versions.
pub(crate) fn split(service: &str, port: u16, v1: u32, v2: u32) -> String {
    let head =
        format!("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {service}}}\nspec:\n");
    let parent = format!("  parentRefs: [{{group: \"\", kind: Service, name: {service}}}]\n");
    let one =
        |version: u32, weight| format!("      - {{name: {service}-v{version}, port: {port}, weight: {weight}}}\n");
    format!("{head}{parent}  rules:\n    - backendRefs:\n{}{}", one(1, v1), one(2, v2))
}

/// A connection that is used again and again.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Status and body.
    pub(crate) fn get(&mut self, target: &str, host: &str) -> (u16, String) {
        // In one piece: several would wait for each other's acknowledgement.
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line:?}"));
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

pub(crate) fn helper() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/xds_client.py")
}
