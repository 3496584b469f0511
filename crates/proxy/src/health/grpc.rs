//! The gRPC check: `grpc.health.v1.Health/Check` (`HealthCheck.GrpcHealthCheck`).

use super::check::Subject;
use super::dial::Connection;
use super::http::{USER_AGENT, edit, send};
use bytes::{BufMut, Bytes};
use engine::head::Head;
use engine::resilience::health::{Failure, Outcome};
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use model::health::{GrpcProbe, HealthCheck};
use prost::Message;

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;
/// A response is a few bytes.
const LONGEST_RESPONSE: usize = 16 * 1024;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) async fn check(
    subject: &Subject,
    config: &HealthCheck,
    probe: &GrpcProbe,
    connection: &mut Option<Connection>,
) -> Outcome {
    let Some(request) = request(subject, probe) else { return Outcome::Failed(Failure::Network) };
    let Some(response) = send(subject, config, true, request, connection).await else {
        return Outcome::Failed(Failure::Network);
    };
    let (parts, body) = response.into_parts();
    let Ok(collected) = Limited::new(body, LONGEST_RESPONSE).collect().await else {
        return Outcome::Failed(Failure::Network);
    };
    let answered = parts.status == 200 && ok(collected.trailers().unwrap_or(&parts.headers));
    let well = answered && serving(&collected.to_bytes());
    if well { Outcome::Healthy { degraded: false } } else { Outcome::Failed(Failure::Answer(0)) }
}

fn ok(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "0")
}

/// One uncompressed message: flag, length, protobuf.
fn serving(body: &[u8]) -> bool {
    let Some((&[0, a, b, c, d], message)) = body.split_first_chunk::<5>() else { return false };
    let whole = u32::from_be_bytes([a, b, c, d]) as usize == message.len();
    whole && CheckResponse::decode(message).is_ok_and(|response| response.status == SERVING)
}

fn request(subject: &Subject, probe: &GrpcProbe) -> Option<Request<Full<Bytes>>> {
    let mut head = Head::default();
    head.push(b"content-type", b"application/grpc");
    head.push(b"te", b"trailers");
    head.push(b"user-agent", USER_AGENT.as_bytes());
    edit(&mut head, &probe.metadata);
    let scheme = if subject.cluster.tls.is_some() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(subject.host(&probe.authority));
    let uri = uri.path_and_query("/grpc.health.v1.Health/Check").build().ok()?;
    let mut request = Request::post(uri);
    for field in head.fields() {
        request = request.header(head.slice(field.name), head.slice(field.value));
    }
    let message = CheckRequest { service: probe.service.to_string() }.encode_to_vec();
    let mut body = Vec::with_capacity(message.len() + 5);
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.extend_from_slice(&message);
    request.body(Full::new(body.into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_serving_status() {
        assert!(serving(&[0, 0, 0, 0, 2, 8, 1]));
        assert!(!serving(&[0, 0, 0, 0, 2, 8, 2]));
        assert!(!serving(&[0, 0, 0, 0, 0]), "unknown");
        assert!(!serving(&[0, 0, 0, 0, 9, 8, 1]), "cut off");
        assert!(!serving(&[1, 0, 0, 0, 2, 8, 1]), "compressed");
        assert!(!serving(&[]));
    }
}
