//! Changes of the files while the control plane runs, and across a restart.

mod common;

use common::{Mesh, delta_request, open_delta};
use wire::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use wire::xds::server::Kind;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec: {ports: [{port: 80}]}\n";

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_content_also_across_a_restart() {
    let mut mesh = Mesh::start("broken").await;
    mesh.write("late.yaml", SERVICE);
    mesh.until("/api/v1/resources", "late.default.svc").await;
    mesh.write("late.yaml", &SERVICE.replace("ports", "portz"));
    let report = mesh.until("/api/v1/files", "portz").await;
    let file = report["files"].as_array().unwrap().iter().find(|file| file["file"] == "late.yaml").unwrap();
    assert_eq!(file["state"], "rejected, the last good text is in force");
    let error = file["error"].as_str().unwrap();
    assert!(error.contains("late.yaml:4:8: spec.portz: unknown field; did you mean `ports`?"), "{error}");
    assert_eq!((&file["problems"][0]["line"], &file["problems"][0]["column"]), (&4.into(), &8.into()));
    assert_eq!(report["revision"], 2);
    // The rest goes on: another file is taken in meanwhile.
    mesh.write("more.yaml", &SERVICE.replace("late", "more"));
    mesh.until("/api/v1/resources", "more.default.svc").await;

    mesh.restart().await;
    let report = mesh.report("/api/v1/resources").await;
    assert!(report.to_string().contains("late.default.svc"), "{report:#}");
    assert_eq!(report["revision"], 3);
    mesh.write("late.yaml", SERVICE);
    let repaired = |report: &serde_json::Value| !report.to_string().contains("portz");
    mesh.until_that("/api/v1/files", repaired).await;
    mesh.stop().await;
}

#[tokio::test]
async fn clients_are_told_and_the_report_shows_what_they_said() {
    let mesh = Mesh::start("told").await;
    let channel = mesh.local_channel().await;
    let (requests, mut answers) = open_delta(&channel, delta_request("web-1", Kind::Cluster, &["*"])).await.unwrap();
    let first = answers.message().await.unwrap().unwrap();
    let refusal = DeltaDiscoveryRequest {
        type_url: Kind::Cluster.type_url().into(),
        response_nonce: first.nonce,
        error_detail: Some(wire::pb::google::rpc::Status { message: "not this one".into(), ..Default::default() }),
        ..Default::default()
    };
    requests.send(refusal).await.unwrap();
    let report = mesh.until("/api/v1/proxies", "not this one").await;
    assert_eq!(report["proxies"][0]["id"], "web-1");
    assert_eq!(report["proxies"][0]["protocol"], "delta");

    // orders gets a second port: its cluster is pushed without being asked for.
    mesh.write("orders.yaml", &common::ORDERS.replace("ports: [", "ports: [{name: http-more, port: 81}, "));
    let second = answers.message().await.unwrap().unwrap();
    let names: Vec<_> = second.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["outbound|81||orders.default.svc.cluster.local"]);
    drop((requests, answers));
    mesh.until_that("/api/v1/proxies", |report| report["proxies"] == serde_json::json!([])).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_workload_that_is_not_known_yet_waits() {
    let mesh = Mesh::start("unknown").await;
    let channel = mesh.local_channel().await;
    let (_requests, mut answers) = open_delta(&channel, delta_request("web-2", Kind::Cluster, &["*"])).await.unwrap();
    mesh.until("/api/v1/proxies", "no WorkloadEntry is called").await;
    mesh.write("web-2.yaml", &common::WEB.replace("web-1", "web-2"));
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!(answer.resources.len(), 1);
    mesh.stop().await;
}

#[tokio::test]
async fn readiness_metrics_and_what_there_is() {
    let mesh = Mesh::start("admin").await;
    assert_eq!(mesh.get("/ready").await, (200, "LIVE\n".into()));
    let (_, metrics) = mesh.get("/metrics").await;
    assert!(metrics.contains("ripstop_control_revision 1\n"), "{metrics}");
    let report = mesh.report("/api/v1/resources?node=web-1").await;
    assert!(report["resources"]["LDS"]["outbound|9200"].is_string(), "{report:#}");
    assert_eq!(mesh.get("/api/v1/resources?node=nobody").await.0, 404);
    assert_eq!(mesh.get("/nothing").await.0, 404);
    mesh.stop().await;
}

#[tokio::test]
async fn a_unix_socket_serves_and_is_taken_over_after_a_crash() {
    let mut mesh = Mesh::start_on_unix_socket("unix").await;
    for _ in 0..2 {
        let channel = mesh.local_channel().await;
        let (_requests, mut answers) =
            open_delta(&channel, delta_request("web-1", Kind::Listener, &["*"])).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().resources.len(), 1);
        // The socket's file stays behind, as after a crash.
        mesh.restart().await;
    }
    mesh.stop().await;
}
