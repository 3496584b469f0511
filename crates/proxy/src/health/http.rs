//! The HTTP check: a request, and what its response says (`HealthCheck.HttpHealthCheck`).

use super::check::Subject;
use super::dial::{self, Connection};
use bytes::Bytes;
use engine::format::{self, Context};
use engine::head::Head;
use engine::info::{ConnectionFacts, StreamInfo};
use engine::resilience::health::{Failure, Outcome, found_in_order};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use model::header::Edits;
use model::health::{HealthCheck, HttpProbe};

/// What health checks call themselves; services tell them from traffic by it.
pub(super) const USER_AGENT: &str = "Envoy/HC";
/// A longer body is not read to its end; the connection is given up.
const LONGEST_BODY: usize = 1 << 20;

pub(super) async fn check(
    subject: &Subject,
    config: &HealthCheck,
    probe: &HttpProbe,
    connection: &mut Option<Connection>,
) -> Outcome {
    let Some(request) = request(subject, probe) else { return Outcome::Failed(Failure::Network) };
    let Some(response) = send(subject, config, probe.http2, request, connection).await else {
        return Outcome::Failed(Failure::Network);
    };
    let (parts, body) = response.into_parts();
    let Some((bytes, complete)) = read(body, probe).await else { return Outcome::Failed(Failure::Network) };
    let close = parts.headers.get(http::header::CONNECTION).is_some_and(|value| value == "close");
    if !complete || close {
        *connection = None;
    }
    judge(subject, probe, &parts, &bytes)
}

fn judge(subject: &Subject, probe: &HttpProbe, parts: &http::response::Parts, body: &[u8]) -> Outcome {
    let status = parts.status.as_u16();
    if !found_in_order(&probe.receive, body) {
        return Outcome::Failed(Failure::Answer(status));
    }
    if !probe.expected.iter().any(|range| range.contains(status)) {
        let retriable = probe.retriable.iter().any(|range| range.contains(status));
        return Outcome::Failed(if retriable { Failure::Retriable(status) } else { Failure::Answer(status) });
    }
    if let Some(matcher) = &probe.service_name {
        subject.stats.health_check_verify_cluster.inc();
        let name = parts.headers.get("x-envoy-upstream-healthchecked-cluster");
        if !matcher.matches(name.map_or(b"", |name| name.as_bytes())) {
            return Outcome::Failed(Failure::Answer(status));
        }
    }
    Outcome::Healthy { degraded: parts.headers.contains_key("x-envoy-degraded") }
}

fn request(subject: &Subject, probe: &HttpProbe) -> Option<Request<Full<Bytes>>> {
    let mut head = Head::default();
    head.set_authority(subject.host(&probe.host).as_bytes());
    head.push(b"user-agent", USER_AGENT.as_bytes());
    edit(&mut head, &probe.request_edits);
    let scheme = if subject.cluster.tls.is_some() { "https" } else { "http" };
    let mut request = Request::builder().method(probe.method);
    if probe.http2 {
        let uri = Uri::builder().scheme(scheme).authority(head.authority()).path_and_query(&*probe.path);
        request = request.uri(uri.build().ok()?);
    } else {
        request = request.uri(&*probe.path).header(http::header::HOST, head.authority());
    }
    for field in head.fields() {
        request = request.header(head.slice(field.name), head.slice(field.value));
    }
    request.body(Full::new(Bytes::copy_from_slice(&probe.body))).ok()
}

/// Applies configured edits; there is no downstream that operators could speak of.
pub(super) fn edit(head: &mut Head, edits: &Edits) {
    let none = Head::default();
    let info = StreamInfo { start_unix_micros: crate::clock::unix_micros(), ..StreamInfo::default() };
    let facts = ConnectionFacts::default();
    let context = Context::new(&none, &info, &facts);
    engine::edits::apply(edits, head, |_, value, out| format::render(value, &context, "", out), &mut Vec::new());
}

/// Sends on the connection there is, else on a new one. `None`: no response came.
pub(super) async fn send(
    subject: &Subject,
    config: &HealthCheck,
    http2: bool,
    request: Request<Full<Bytes>>,
    connection: &mut Option<Connection>,
) -> Option<Response<Incoming>> {
    let usable = match connection {
        Some(Connection::Http1(send)) => send.ready().await.is_ok(),
        Some(Connection::Http2(send)) => send.ready().await.is_ok(),
        _ => false,
    };
    if !usable {
        *connection = Some(if http2 {
            Connection::Http2(dial::http2(subject, config).await.ok()?)
        } else {
            Connection::Http1(dial::http1(subject, config).await.ok()?)
        });
    }
    match connection {
        Some(Connection::Http1(send)) => send.send_request(request).await.ok(),
        Some(Connection::Http2(send)) => send.send_request(request).await.ok(),
        _ => None,
    }
}

/// The part of the body that is looked at, and whether all of it was read. `None`: it broke off.
async fn read(mut body: Incoming, probe: &HttpProbe) -> Option<(Vec<u8>, bool)> {
    let limit = if probe.response_limit == 0 { LONGEST_BODY } else { probe.response_limit };
    let (mut bytes, mut total) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        total += data.len();
        bytes.extend_from_slice(&data[..data.len().min(limit.saturating_sub(bytes.len()))]);
        if total > LONGEST_BODY {
            return Some((bytes, false));
        }
    }
    Some((bytes, true))
}
