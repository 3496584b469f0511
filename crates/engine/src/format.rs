//! Evaluates command-operator formats (`%REQ(:path)%`) for headers, bodies and access logs.

use crate::date;
use crate::head::Head;
use crate::info::{ConnectionFacts, StreamInfo};
use model::format::{Format, Operator, Part};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// What operators can refer to.
pub struct Context<'a> {
    pub request: &'a Head,
    pub response: Option<&'a Head>,
    pub trailers: Option<&'a Head>,
    pub info: &'a StreamInfo,
    pub connection: &'a ConnectionFacts,
    /// The proxy's own answer.
    pub local_reply: &'a [u8],
}

impl<'a> Context<'a> {
    /// Of a request that has no answer yet.
    pub fn new(request: &'a Head, info: &'a StreamInfo, connection: &'a ConnectionFacts) -> Self {
        Context { request, response: None, trailers: None, info, connection, local_reply: b"" }
    }

    pub fn with(self, response: &'a Head) -> Self {
        Context { response: Some(response), ..self }
    }
}

/// Appends the formatted text; a missing value is written as `absent` (`-` in logs, nothing in headers).
pub fn render(format: &Format, context: &Context<'_>, absent: &str, out: &mut Vec<u8>) {
    for part in &format.parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Operator { operator, max_len } => {
                if !value(operator, *max_len, context, out) {
                    out.extend_from_slice(absent.as_bytes());
                }
            }
        }
    }
}

/// `%RESPONSE_CODE_DETAILS%`: what went wrong below the request is named inside the braces.
fn details(info: &StreamInfo, out: &mut Vec<u8>) -> bool {
    let details = info.refusal.map_or(info.details, |refusal| refusal.explain().details);
    match (details.strip_suffix('}'), &info.transport_failure) {
        (Some(open), Some(reason)) if info.refusal.is_some() => {
            out.extend_from_slice(open.as_bytes());
            out.push(b'|');
            out.extend(reason.bytes().map(|byte| if byte == b' ' { b'_' } else { byte }));
            out.push(b'}');
            true
        }
        _ => !details.is_empty() && text(out, details),
    }
}

/// Appends an operator's value, at most `max_len` bytes of it; false, and nothing is appended, when there is none.
pub fn value(operator: &Operator, max_len: Option<usize>, context: &Context<'_>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let found = operand(operator, context, out);
    match max_len {
        _ if !found => out.truncate(start),
        Some(max) => out.truncate(start.saturating_add(max)),
        None => {}
    }
    found
}

/// False when there is no value, whatever was appended.
fn operand(operator: &Operator, context: &Context<'_>, out: &mut Vec<u8>) -> bool {
    let info = context.info;
    let connection = context.connection;
    match operator {
        Operator::StartTime(None) => date::iso(info.start_unix_micros, out),
        Operator::StartTime(Some(format)) => date::formatted(info.start_unix_micros, format, out),
        Operator::RequestHeader { name, alternative } => {
            return header(Some(context.request), name, alternative.as_deref(), out);
        }
        Operator::ResponseHeader { name, alternative } => {
            return header(context.response, name, alternative.as_deref(), out);
        }
        Operator::ResponseTrailer { name, alternative } => {
            return header(context.trailers, name, alternative.as_deref(), out);
        }
        Operator::Protocol => return optional(out, (!info.raw).then(|| info.protocol.name())),
        Operator::ResponseCode => number(out, u64::from(info.status)),
        Operator::ResponseCodeDetails => {
            return details(info, out);
        }
        Operator::ResponseFlags => return text(out, &info.flags()),
        Operator::BytesReceived => number(out, info.bytes_received),
        Operator::BytesSent => number(out, info.bytes_sent),
        Operator::Duration => return millis(out, info.duration),
        Operator::RequestDuration => return millis(out, info.request_duration),
        Operator::ResponseDuration => return millis(out, info.response_duration),
        Operator::UpstreamHost => return optional(out, info.upstream_host.as_deref()),
        Operator::UpstreamCluster => return optional(out, info.cluster.as_deref()),
        Operator::UpstreamLocalAddress => return address(out, info.upstream_local, true),
        Operator::UpstreamRequestAttemptCount => number(out, u64::from(info.attempts)),
        Operator::UpstreamTransportFailureReason => return optional(out, info.transport_failure.as_deref()),
        Operator::DownstreamRemoteAddress => return address(out, info.remote, true),
        Operator::DownstreamRemoteAddressWithoutPort => return address(out, info.remote, false),
        Operator::DownstreamDirectRemoteAddress => return address(out, connection.peer, true),
        Operator::DownstreamDirectRemoteAddressWithoutPort => return address(out, connection.peer, false),
        Operator::DownstreamLocalAddress => return address(out, connection.local, true),
        Operator::DownstreamLocalAddressWithoutPort => return address(out, connection.local, false),
        Operator::DownstreamLocalPort => match connection.local {
            Some(local) => number(out, u64::from(local.port())),
            None => return false,
        },
        Operator::DownstreamPeerUriSan => {
            let uris = connection.tls.as_ref().map_or(&[][..], |tls| &tls.peer_uris);
            for (index, uri) in uris.iter().enumerate() {
                out.extend_from_slice(if index > 0 { b"," } else { b"" });
                out.extend_from_slice(uri.as_bytes());
            }
            return !uris.is_empty();
        }
        Operator::DownstreamPeerSubject => return tls_text(out, connection, |tls| &tls.peer_subject),
        Operator::DownstreamTlsVersion => return tls_text(out, connection, |tls| tls.version),
        Operator::DownstreamTlsCipher => return tls_text(out, connection, |tls| tls.cipher),
        Operator::RequestedServerName => {
            return !connection.server_name.is_empty() && text(out, &connection.server_name);
        }
        Operator::RouteName => return !info.route_name.is_empty() && text(out, &info.route_name),
        Operator::VirtualClusterName => return optional(out, info.virtual_cluster.as_deref()),
        Operator::ConnectionTerminationDetails => return false,
        Operator::ConnectionId => number(out, connection.id),
        Operator::FilterChainName => return !connection.filter_chain.is_empty() && text(out, &connection.filter_chain),
        Operator::LocalReplyBody => out.extend_from_slice(context.local_reply),
        Operator::Hostname(value) | Operator::Environment(value) => return text(out, value),
    }
    true
}

fn text(out: &mut Vec<u8>, value: &str) -> bool {
    out.extend_from_slice(value.as_bytes());
    true
}

fn optional(out: &mut Vec<u8>, value: Option<&str>) -> bool {
    value.is_some_and(|value| text(out, value))
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn millis(out: &mut Vec<u8>, value: Option<Duration>) -> bool {
    value.is_some_and(|value| {
        number(out, value.as_millis() as u64);
        true
    })
}

fn tls_text<'c>(
    out: &mut Vec<u8>,
    connection: &'c ConnectionFacts,
    pick: impl Fn(&'c crate::info::TlsFacts) -> &'c str,
) -> bool {
    optional(out, connection.tls.as_deref().map(pick).filter(|value| !value.is_empty()))
}

fn address(out: &mut Vec<u8>, address: Option<SocketAddr>, with_port: bool) -> bool {
    match address {
        None => return false,
        Some(SocketAddr::V4(address)) => {
            let [a, b, c, d] = address.ip().octets();
            number(out, u64::from(a));
            for octet in [b, c, d] {
                out.push(b'.');
                number(out, u64::from(octet));
            }
            if with_port {
                out.push(b':');
                number(out, u64::from(address.port()));
            }
        }
        // Writing to a Vec cannot fail.
        Some(address) if with_port => drop(write!(out, "{address}")),
        Some(address) => drop(write!(out, "{}", address.ip())),
    }
    true
}

fn header(head: Option<&Head>, name: &str, alternative: Option<&str>, out: &mut Vec<u8>) -> bool {
    let Some(head) = head else { return false };
    one_header(head, name, out) || alternative.is_some_and(|name| one_header(head, name, out))
}

fn one_header(head: &Head, name: &str, out: &mut Vec<u8>) -> bool {
    let value = match name {
        ":method" => Some(head.method()),
        ":path" => Some(head.path()),
        ":authority" | "host" => Some(head.authority()),
        ":scheme" => Some(head.scheme()),
        ":status" => {
            number(out, u64::from(head.status));
            return true;
        }
        // Of several fields the first, as in Envoy.
        name => {
            let value = head.get(name.as_bytes());
            out.extend_from_slice(value.unwrap_or_default());
            return value.is_some();
        }
    };
    value.is_some_and(|value| {
        out.extend_from_slice(value);
        !value.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators() {
        let mut request = Head::default();
        request.set_method(b"GET");
        request.set_path(b"/x?y");
        request.push(b"User-Agent", b"curl");
        let info = StreamInfo { status: 200, start_unix_micros: 1_500_000, ..StreamInfo::default() };
        let connection = ConnectionFacts {
            id: 7,
            peer: Some("127.0.0.1:5".parse().unwrap()),
            direct_remote: Some("127.0.0.1:5".parse().unwrap()),
            local: None,
            original: None,
            server_name: "".into(),
            tls: None,
            filter_chain: "".into(),
        };
        let context = Context::new(&request, &info, &connection);
        let req = |name: &str| Operator::RequestHeader { name: name.into(), alternative: None };
        for (operator, wanted) in [
            (req(":method"), "GET"),
            (req(":path"), "/x?y"),
            (req("user-agent"), "curl"),
            (req("absent"), "-"),
            (Operator::ResponseCode, "200"),
            (Operator::ResponseFlags, "-"),
            (Operator::StartTime(None), "1970-01-01T00:00:01.500Z"),
            (Operator::DownstreamDirectRemoteAddressWithoutPort, "127.0.0.1"),
            (Operator::UpstreamHost, "-"),
            (Operator::ConnectionId, "7"),
        ] {
            let format = Format { parts: vec![Part::Operator { operator, max_len: None }] };
            let mut out = Vec::new();
            render(&format, &context, "-", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wanted, "{format:?}");
        }
    }
    #[test]
    fn addresses() {
        for text in
            ["0.0.0.0:0", "192.0.2.10:80", "255.255.255.255:65535", "[::1]:80", "[2001:db8::1:0]:443", "[fe80::1%3]:1"]
        {
            let wanted: SocketAddr = text.parse().unwrap();
            for (with_port, wanted) in [(true, wanted.to_string()), (false, wanted.ip().to_string())] {
                let mut out = Vec::new();
                assert!(address(&mut out, Some(text.parse().unwrap()), with_port));
                assert_eq!(String::from_utf8(out).unwrap(), wanted);
            }
        }
    }
}
