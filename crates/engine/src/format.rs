//! Evaluates command-operator formats (`%REQ(:path)%`) for headers, bodies and access logs.

use crate::head::Head;
use crate::info::{ConnectionFacts, StreamInfo};
use model::format::{Format, Operator, Part};
use std::fmt::Write;
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
                let start = out.len();
                if !operand(operator, context, out) {
                    out.truncate(start);
                    out.extend_from_slice(absent.as_bytes());
                } else if let Some(max) = max_len {
                    out.truncate(out.len().min(start + max));
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

/// Appends one operator's value; false when there is none.
pub fn operand(operator: &Operator, context: &Context<'_>, out: &mut Vec<u8>) -> bool {
    let info = context.info;
    let connection = context.connection;
    match operator {
        Operator::StartTime(format) => return start_time(info.start_unix_micros, format.as_deref(), out),
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
            let uris = connection.tls.as_ref().map(|tls| tls.peer_uris.join(","));
            return optional(out, uris.as_deref().filter(|text| !text.is_empty()));
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
        Operator::Hostname => return optional(out, std::env::var("HOSTNAME").ok().as_deref()),
        Operator::ConnectionId => number(out, connection.id),
        Operator::FilterChainName => return !connection.filter_chain.is_empty() && text(out, &connection.filter_chain),
        Operator::LocalReplyBody => out.extend_from_slice(context.local_reply),
        Operator::Environment(value) => return text(out, value),
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
    // Writing to a Vec cannot fail.
    let _ = write!(Text(out), "{value}");
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
    let Some(address) = address else { return false };
    let _ = if with_port { write!(Text(out), "{address}") } else { write!(Text(out), "{}", address.ip()) };
    true
}

struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
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

/// Envoy's default is ISO 8601 with milliseconds; `%s`, `%Y`, `%m`, `%d`, `%H`, `%M`, `%S`, `%3f`, `%6f`, `%T`, `%F`
/// and `%Z` are understood in custom formats.
fn start_time(micros: u64, format: Option<&str>, out: &mut Vec<u8>) -> bool {
    let civil = Civil::from_unix(micros / 1_000_000);
    let format = format.unwrap_or("%Y-%m-%dT%H:%M:%S.%3fZ");
    let mut text = Text(out);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            let _ = text.write_char(c);
            continue;
        }
        let _ = match chars.next() {
            Some('Y') => write!(text, "{:04}", civil.year),
            Some('m') => write!(text, "{:02}", civil.month),
            Some('d') => write!(text, "{:02}", civil.day),
            Some('H') => write!(text, "{:02}", civil.hour),
            Some('M') => write!(text, "{:02}", civil.minute),
            Some('S') => write!(text, "{:02}", civil.second),
            Some('T') => write!(text, "{:02}:{:02}:{:02}", civil.hour, civil.minute, civil.second),
            Some('F') => write!(text, "{:04}-{:02}-{:02}", civil.year, civil.month, civil.day),
            Some('Z') => text.write_str("UTC"),
            Some('s') => write!(text, "{}", micros / 1_000_000),
            Some('f') => write!(text, "{:09}", micros % 1_000_000 * 1000),
            Some(digit @ ('3' | '6' | '9')) if chars.as_str().starts_with('f') => {
                chars.next();
                match digit {
                    '3' => write!(text, "{:03}", micros % 1_000_000 / 1000),
                    '6' => write!(text, "{:06}", micros % 1_000_000),
                    _ => write!(text, "{:09}", micros % 1_000_000 * 1000),
                }
            }
            Some(other) => text.write_char('%').and_then(|()| text.write_char(other)),
            None => text.write_char('%'),
        };
    }
    true
}

/// A date and time of day in UTC.
#[derive(Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    pub month: u64,
    pub day: u64,
    pub hour: u64,
    pub minute: u64,
    pub second: u64,
    /// 0 is Sunday.
    pub weekday: u64,
}

impl Civil {
    /// From seconds since the Unix epoch, by Howard Hinnant's `civil_from_days`.
    pub fn from_unix(seconds: u64) -> Civil {
        let days = seconds / 86_400;
        let rest = seconds % 86_400;
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
        Civil {
            year: (year_of_era + era * 400) as i64 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_index + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
            weekday: (days + 4) % 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates() {
        let date = |seconds| {
            let c = Civil::from_unix(seconds);
            (c.year, c.month, c.day, c.hour, c.minute, c.second, c.weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 0, 0, 0, 4));
        assert_eq!(date(951_782_400), (2000, 2, 29, 0, 0, 0, 2));
        assert_eq!(date(1_795_392_645), (2026, 11, 23, 0, 10, 45, 1));
    }

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
}
