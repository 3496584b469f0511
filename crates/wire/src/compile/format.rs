//! Command-operator strings: `%REQ(:path)%`, `%START_TIME(%s)%`, `%RESP(x?y):10%`, `%%`.

use super::Result;
use crate::problem::At;
use model::format::{Format, Operator, Part};

/// Parses a format string.
pub fn format(at: &At<'_>, text: &str) -> Result<Format> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        literal.push_str(&rest[..start]);
        let after = &rest[start + 1..];
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal).into()));
        }
        let (part, after) = command(after).map_err(|message| at.problem(message))?;
        parts.push(part);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
    Ok(Format { parts })
}

/// `NAME`, `NAME(ARGUMENT)`, either with `:LENGTH`, up to the closing `%`; and what follows it.
fn command(text: &str) -> std::result::Result<(Part, &str), String> {
    let incorrect = || {
        let shown: String = text.chars().take(40).collect();
        format!("incorrect command operator at `%{shown}`; write %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%")
    };
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if name.is_empty() {
        return Err(incorrect());
    }
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        // The argument may hold `%`, as in START_TIME(%Y): it ends at `)%` or `):`.
        let close = inner.match_indices(')').map(|(at, _)| at).find(|at| inner[at + 1..].starts_with(['%', ':']));
        let close = close.ok_or_else(incorrect)?;
        argument = Some(&inner[..close]);
        rest = &inner[close + 1..];
    }
    let mut max_len = None;
    if let Some(length) = rest.strip_prefix(':') {
        let end = length.find('%').ok_or_else(incorrect)?;
        max_len = Some(length[..end].parse().map_err(|_| incorrect())?);
        rest = &length[end..];
    }
    let rest = rest.strip_prefix('%').ok_or_else(incorrect)?;
    let operator = operator(name, argument)?;
    if max_len.is_some() && !takes_length(&operator) {
        return Err(format!("the operator {name} takes no length"));
    }
    Ok((Part::Operator { operator, max_len }, rest))
}

fn operator(name: &str, argument: Option<&str>) -> std::result::Result<Operator, String> {
    if let Some(operator) = plain(name) {
        return match argument {
            None | Some("") => Ok(operator),
            Some(_) => Err(format!("the operator {name} takes no argument")),
        };
    }
    let header = || match argument.map(|text| text.split_once('?').unwrap_or((text, ""))) {
        None | Some(("", _)) => Err(format!("the operator {name} needs a header name, as in %{name}(x-name)%")),
        Some((_, second)) if second.contains('?') => Err(format!("the operator {name} takes one alternative only")),
        Some((first, second)) => {
            let second = (!second.is_empty()).then(|| super::lower(second));
            Ok((super::lower(first), second))
        }
    };
    match name {
        "START_TIME" => Ok(Operator::StartTime(argument.filter(|text| !text.is_empty()).map(Into::into))),
        "REQ" => header().map(|(name, alternative)| Operator::RequestHeader { name, alternative }),
        "RESP" => header().map(|(name, alternative)| Operator::ResponseHeader { name, alternative }),
        "TRAILER" => header().map(|(name, alternative)| Operator::ResponseTrailer { name, alternative }),
        "ENVIRONMENT" => match argument {
            Some(variable) if !variable.is_empty() => {
                Ok(Operator::Environment(std::env::var(variable).unwrap_or_default().into()))
            }
            _ => Err("the operator ENVIRONMENT needs the name of a variable".into()),
        },
        _ => Err(format!("unknown or unimplemented command operator {name}")),
    }
}

fn takes_length(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::RequestHeader { .. }
            | Operator::ResponseHeader { .. }
            | Operator::ResponseTrailer { .. }
            | Operator::Environment(_)
    )
}

/// The operators without an argument.
fn plain(name: &str) -> Option<Operator> {
    Some(match name {
        "PROTOCOL" => Operator::Protocol,
        "RESPONSE_CODE" => Operator::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Operator::ResponseFlags,
        "BYTES_RECEIVED" => Operator::BytesReceived,
        "BYTES_SENT" => Operator::BytesSent,
        "DURATION" => Operator::Duration,
        "REQUEST_DURATION" => Operator::RequestDuration,
        "RESPONSE_DURATION" => Operator::ResponseDuration,
        "UPSTREAM_HOST" => Operator::UpstreamHost,
        "UPSTREAM_CLUSTER" => Operator::UpstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS" => Operator::UpstreamLocalAddress,
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Operator::UpstreamRequestAttemptCount,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamTransportFailureReason,
        "DOWNSTREAM_REMOTE_ADDRESS" => Operator::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Operator::DownstreamDirectRemoteAddress,
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::DownstreamDirectRemoteAddressWithoutPort,
        "DOWNSTREAM_LOCAL_ADDRESS" => Operator::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Operator::DownstreamLocalPort,
        "DOWNSTREAM_PEER_URI_SAN" => Operator::DownstreamPeerUriSan,
        "DOWNSTREAM_PEER_SUBJECT" => Operator::DownstreamPeerSubject,
        "DOWNSTREAM_TLS_VERSION" => Operator::DownstreamTlsVersion,
        "DOWNSTREAM_TLS_CIPHER" => Operator::DownstreamTlsCipher,
        "REQUESTED_SERVER_NAME" => Operator::RequestedServerName,
        "ROUTE_NAME" => Operator::RouteName,
        "LOCAL_REPLY_BODY" => Operator::LocalReplyBody,
        "VIRTUAL_CLUSTER_NAME" => Operator::VirtualClusterName,
        "HOSTNAME" => Operator::Hostname(hostname()),
        "CONNECTION_ID" => Operator::ConnectionId,
        "CONNECTION_TERMINATION_DETAILS" => Operator::ConnectionTerminationDetails,
        "FILTER_CHAIN_NAME" => Operator::FilterChainName,
        _ => return None,
    })
}

/// Of this machine, which does not change while a proxy runs.
fn hostname() -> Box<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "-".into(), |name| name.trim_ascii_end().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::format::DEFAULT_ACCESS_LOG;
    use proptest::prelude::*;

    fn parse(text: &str) -> std::result::Result<Vec<Part>, String> {
        format(&At::ROOT, text).map(|format| format.parts).map_err(|problems| problems.to_string())
    }

    fn operator(operator: Operator, max_len: Option<usize>) -> Part {
        Part::Operator { operator, max_len }
    }

    #[test]
    fn parses_operators() {
        let header = |name: &str, alternative: Option<&str>| Operator::RequestHeader {
            name: name.into(),
            alternative: alternative.map(Into::into),
        };
        let table = [
            ("plain", vec![Part::Literal("plain".into())]),
            ("50%% off", vec![Part::Literal("50% off".into())]),
            ("%REQ(X-A?:PATH):7%", vec![operator(header("x-a", Some(":path")), Some(7))]),
            ("%START_TIME(%Y-%m)%", vec![operator(Operator::StartTime(Some("%Y-%m".into())), None)]),
            (
                "a%PROTOCOL%b",
                vec![Part::Literal("a".into()), operator(Operator::Protocol, None), Part::Literal("b".into())],
            ),
        ];
        for (text, parts) in table {
            assert_eq!(parse(text).unwrap(), parts, "{text}");
        }
        assert_eq!(parse(DEFAULT_ACCESS_LOG).unwrap().len(), 31);
    }

    #[test]
    fn errors_name_the_operator() {
        for (text, wanted) in [
            ("%NO_SUCH%", "NO_SUCH"),
            ("%REQ%", "REQ needs a header name"),
            ("%PROTOCOL(x)%", "PROTOCOL takes no argument"),
            ("%PROTOCOL:4%", "PROTOCOL takes no length"),
            ("%REQ(a?b?c)%", "REQ takes one alternative only"),
            ("50%", "incorrect command operator"),
            ("%REQ(a):x%", "incorrect command operator"),
            ("%REQ(a%", "incorrect command operator"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn literals_survive(text in "[^%]{0,40}") {
            let parsed = format(&At::ROOT, &text).unwrap();
            prop_assert_eq!(parsed.as_literal(), Some(text.as_str()));
        }

        #[test]
        fn never_panics(text in "[%A-Z():?a-z0-9é_-]{0,30}") {
            let _ = format(&At::ROOT, &text);
        }
    }
}
