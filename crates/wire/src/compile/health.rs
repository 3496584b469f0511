//! Active health checks (`core.v3.HealthCheck`).

use super::{Result, duration, flag, header, known, matcher, not_empty, positive, uint, unpack};
use crate::pb::envoy::config::cluster::v3::Cluster;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::extensions::health_check::event_sinks::file::v3::HealthCheckEventFileSink;
use crate::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use crate::problem::{At, gather};
use core::RequestMethod;
use core::health_check::payload::Payload as PayloadKind;
use core::health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck};
use model::header::Edits;
use model::health::{GrpcProbe, HealthCheck, HttpProbe, Intervals, Probe, StatusRange, TcpProbe};
use std::time::Duration;

pub(super) fn check(at: &At<'_>, pb: &Cluster) -> Result<Option<HealthCheck>> {
    match pb.health_checks.as_slice() {
        [] => Ok(None),
        [one] => health_check(&at.item("health_checks", 0), one).map(Some),
        _ => at.field("health_checks").wrong("a cluster can have one health check only"),
    }
}

fn health_check(at: &At<'_>, pb: &core::HealthCheck) -> Result<HealthCheck> {
    let required = |name: &str, value| {
        positive(at, name, value)?.ok_or_else(|| crate::Problems::from(at.field(name).problem("is required")))
    };
    let threshold = |name: &str, value| match uint(value) {
        None => at.field(name).wrong("is required"),
        // Envoy takes 0 as 1.
        Some(count) => Ok(count.max(1)),
    };
    if pb.alt_port.is_some() {
        return at.field("alt_port").wrong("is not implemented; give the endpoint a health_check_config");
    }
    Ok(HealthCheck {
        probe: probe(at, pb)?,
        timeout: required("timeout", &pb.timeout)?,
        intervals: intervals(at, pb, required("interval", &pb.interval)?)?,
        unhealthy_threshold: threshold("unhealthy_threshold", &pb.unhealthy_threshold)?,
        healthy_threshold: threshold("healthy_threshold", &pb.healthy_threshold)?,
        reuse_connection: flag(&pb.reuse_connection).unwrap_or(true),
        event_logs: event_logs(at, pb)?,
        always_log_failures: pb.always_log_health_check_failures,
        always_log_successes: pb.always_log_health_check_success,
        alpn: pb.tls_options.iter().flat_map(|tls| &tls.alpn_protocols).map(|name| name.as_str().into()).collect(),
        socket_match: pb.transport_socket_match_criteria.as_ref().map(super::data::pairs),
    })
}

fn intervals(at: &At<'_>, pb: &core::HealthCheck, normal: Duration) -> Result<Intervals> {
    let unhealthy = positive(at, "unhealthy_interval", &pb.unhealthy_interval)?.unwrap_or(normal);
    let no_traffic = positive(at, "no_traffic_interval", &pb.no_traffic_interval)?.unwrap_or(Duration::from_secs(60));
    let quiet = positive(at, "no_traffic_healthy_interval", &pb.no_traffic_healthy_interval)?;
    Ok(Intervals {
        normal,
        unhealthy,
        unhealthy_edge: positive(at, "unhealthy_edge_interval", &pb.unhealthy_edge_interval)?.unwrap_or(unhealthy),
        healthy_edge: positive(at, "healthy_edge_interval", &pb.healthy_edge_interval)?.unwrap_or(normal),
        no_traffic,
        no_traffic_healthy: quiet.unwrap_or(no_traffic),
        initial_jitter: duration(at, "initial_jitter", &pb.initial_jitter)?.unwrap_or_default(),
        jitter: duration(at, "interval_jitter", &pb.interval_jitter)?.unwrap_or_default(),
        jitter_percent: pb.interval_jitter_percent,
    })
}

fn event_logs(at: &At<'_>, pb: &core::HealthCheck) -> Result<Vec<std::path::PathBuf>> {
    let mut files = gather(pb.event_logger.iter().enumerate().map(|(index, sink)| {
        let at = at.item("event_logger", index);
        let any = at.required("typed_config", &sink.typed_config)?;
        let at = at.field("typed_config");
        let sink: HealthCheckEventFileSink = unpack(&at, any)?;
        Ok(not_empty(&at, "event_log_path", &sink.event_log_path)?.into())
    }))?;
    if !pb.event_log_path.is_empty() {
        files.push(pb.event_log_path.as_str().into());
    }
    Ok(files)
}

fn probe(at: &At<'_>, pb: &core::HealthCheck) -> Result<Probe> {
    match at.required("health_checker", &pb.health_checker)? {
        HealthChecker::HttpHealthCheck(pb) => http(&at.field("http_health_check"), pb).map(Probe::Http),
        HealthChecker::TcpHealthCheck(pb) => tcp(&at.field("tcp_health_check"), pb).map(Probe::Tcp),
        HealthChecker::GrpcHealthCheck(pb) => grpc(&at.field("grpc_health_check"), pb).map(Probe::Grpc),
        HealthChecker::CustomHealthCheck(_) => at.field("custom_health_check").wrong("is not implemented"),
    }
}

fn http(at: &At<'_>, pb: &HttpHealthCheck) -> Result<HttpProbe> {
    let method = known::<RequestMethod>(at, "method", pb.method)?;
    let body = pb.send.as_ref().map(|send| payload(&at.field("send"), send)).transpose()?.unwrap_or_default();
    let takes_body =
        matches!(method, RequestMethod::Post | RequestMethod::Put | RequestMethod::Patch | RequestMethod::Options);
    if method == RequestMethod::Connect {
        return at.field("method").wrong("CONNECT cannot check health");
    }
    if !body.is_empty() && !takes_body {
        return at.field("send").wrong("needs the method POST, PUT, PATCH or OPTIONS");
    }
    let limit = pb.response_buffer_size.as_ref().map_or(1024, |limit| limit.value);
    let matching = pb.service_name_matcher.as_ref();
    let expected = ranges(at, "expected_statuses", &pb.expected_statuses)?;
    Ok(HttpProbe {
        host: pb.host.as_str().into(),
        path: not_empty(at, "path", &pb.path)?.into(),
        method: match method {
            RequestMethod::MethodUnspecified => "GET",
            other => other.as_str_name(),
        },
        http2: match known(at, "codec_client_type", pb.codec_client_type)? {
            CodecClientType::Http1 => false,
            CodecClientType::Http2 => true,
            CodecClientType::Http3 => return at.field("codec_client_type").wrong("HTTP3 is not implemented"),
        },
        request_edits: Edits {
            remove: header::remove(at, "request_headers_to_remove", &pb.request_headers_to_remove)?,
            add: header::add(at, "request_headers_to_add", &pb.request_headers_to_add)?,
        },
        body,
        receive: payloads(at, &pb.receive)?,
        response_limit: usize::try_from(limit).unwrap_or(usize::MAX),
        expected: if expected.is_empty() { vec![StatusRange { start: 200, end: 201 }] } else { expected },
        retriable: ranges(at, "retriable_statuses", &pb.retriable_statuses)?,
        service_name: matching.map(|m| matcher::string(&at.field("service_name_matcher"), m)).transpose()?,
    })
}

fn ranges(at: &At<'_>, field: &str, pb: &[Int64Range]) -> Result<Vec<StatusRange>> {
    gather(pb.iter().enumerate().map(|(index, range)| {
        let at = at.item(field, index);
        if range.start >= range.end {
            return at.wrong(format!("[{}, {}) holds no status", range.start, range.end));
        }
        if range.start < 100 || range.end > 600 {
            return at.wrong(format!("[{}, {}) is not within [100, 600)", range.start, range.end));
        }
        Ok(StatusRange { start: range.start as u16, end: range.end as u16 })
    }))
}

fn tcp(at: &At<'_>, pb: &TcpHealthCheck) -> Result<TcpProbe> {
    let send = pb.send.as_ref().map(|send| payload(&at.field("send"), send)).transpose()?;
    Ok(TcpProbe { send: send.unwrap_or_default(), receive: payloads(at, &pb.receive)? })
}

fn grpc(at: &At<'_>, pb: &GrpcHealthCheck) -> Result<GrpcProbe> {
    let metadata = header::add(at, "initial_metadata", &pb.initial_metadata)?;
    Ok(GrpcProbe {
        service: pb.service_name.as_str().into(),
        authority: pb.authority.as_str().into(),
        metadata: Edits { remove: Vec::new(), add: metadata },
    })
}

fn payloads(at: &At<'_>, pb: &[Payload]) -> Result<Vec<Box<[u8]>>> {
    gather(pb.iter().enumerate().map(|(index, one)| payload(&at.item("receive", index), one)))
}

fn payload(at: &At<'_>, pb: &Payload) -> Result<Box<[u8]>> {
    match at.required("payload", &pb.payload)? {
        PayloadKind::Binary(bytes) => Ok(bytes.as_slice().into()),
        PayloadKind::Text(text) => match hex(text) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes.into()),
            _ => at.field("text").wrong(format!("`{text}` is not text of pairs of hexadecimal digits")),
        },
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::hex;

    #[test]
    fn hexadecimal_payloads() {
        assert_eq!(hex("00fFa1"), Some(vec![0, 0xff, 0xa1]));
        assert_eq!(hex("0"), None);
        assert_eq!(hex("zz"), None);
        assert_eq!(hex("é0"), None);
    }
}
