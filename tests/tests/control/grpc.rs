//! A Python gRPC client that speaks xDS itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tests::peers;

use crate::support::{ControlPlane, assert_share, eventually, helper, service, split, workload};

const CALLS: usize = 400;

/// A helper process that ends with the test.
struct Python {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Python {
    fn start(arguments: &[&str], bootstrap: Option<&str>) -> Self {
        let mut command = Command::new(peers::python());
        command.arg(helper()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(bootstrap) = bootstrap {
            command.env("GRPC_XDS_BOOTSTRAP_CONFIG", bootstrap);
        }
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// How many of `calls` were answered by `name`; all must succeed.
    fn answered_by(&mut self, name: &str, calls: usize) -> usize {
        writeln!(self.stdin, "{calls}").unwrap();
        let report: Value = serde_json::from_str(&self.line()).unwrap();
        assert_eq!(report["errors"], json!([]), "{report}");
        report["answers"][name].as_u64().unwrap_or(0) as usize
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_proxyless_client_splits_and_follows() {
    let mut servers = ["v1", "v2"].map(|name| Python::start(&["server", name], None));
    let ports: Vec<u16> = servers.iter_mut().map(|server| server.line().parse().unwrap()).collect();
    let port = "name: grpc, port: 50051, targetPort: http";
    let files = [
        (
            "services.yaml",
            service("echo", "app: echo", port)
                + &service("echo-v1", "app: echo, version: v1", port)
                + &service("echo-v2", "app: echo, version: v2", port),
        ),
        (
            "workloads.yaml",
            workload("echo-v1-1", ports[0], "app: echo, version: v1")
                + &workload("echo-v2-1", ports[1], "app: echo, version: v2"),
        ),
        ("route.yaml", split("echo", 50051, 80, 20)),
    ];
    let control = ControlPlane::start("grpc", &files);
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": format!("127.0.0.1:{}", control.port),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {"id": "visitor", "cluster": "visitors"},
    });
    let mut client = Python::start(&["client", "xds:///echo:50051"], Some(&bootstrap.to_string()));
    assert_share(client.answered_by("v2", CALLS), CALLS, 0.2);
    let proxies = control.settled(1, 1);
    assert_eq!(proxies[0]["agent"], "grpc");
    assert!(proxies[0]["types"].as_object().unwrap().values().all(|kind| kind["nack"].is_null()), "{proxies:#?}");

    control.write("route.yaml", &split("echo", 50051, 30, 70));
    eventually("the new split has arrived", || {
        let hits = client.answered_by("v2", 50);
        if hits > 25 { Ok(()) } else { Err(format!("{hits} of 50")) }
    });
    assert_share(client.answered_by("v2", CALLS), CALLS, 0.7);
    drop(client);
    control.stop();
}
