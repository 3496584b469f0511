//! What Envoy and Ripstop did with the same bytes, and how it differs.

use crate::backend::Seen;
use crate::client::Answer;

/// Everything one proxy did with one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub answers: Vec<Answer>,
    pub seen: Vec<Seen>,
}

/// Envoy names a loopback client by the machine's own address in `x-forwarded-for`.
fn own_address() -> String {
    // Connecting a datagram socket sends nothing; it only chooses the address that would be used.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    socket.map_or_else(|_| "127.0.0.1".into(), |address| address.ip().to_string())
}

/// Values that differ from run to run by nature are replaced by what kind of value they are.
pub fn steady(name: &str, value: &str, ports: &[(String, &str)]) -> String {
    match name {
        "date" => return "DATE".into(),
        "x-request-id" if value.len() == 36 => return "UUID".into(),
        "x-envoy-upstream-service-time" => return "MILLIS".into(),
        // A retry is told what is left of the time.
        "x-envoy-expected-rq-timeout-ms" if value.len() == 5 && value.starts_with("14") => return "15000".into(),
        "x-envoy-expected-rq-timeout-ms" if value.len() == 4 && value.starts_with("17") => return "1800".into(),
        "x-forwarded-for" => return value.replace(&own_address(), "127.0.0.1"),
        "server" if matches!(value, "envoy" | "ripstop") => return "PROXY".into(),
        _ => {}
    }
    ports.iter().fold(value.to_string(), |text, (port, label)| relabel(&text, port, label))
}

/// Replaces the number `port` by `label`, but not where it is part of a longer number.
fn relabel(text: &str, port: &str, label: &str) -> String {
    let mut out = String::new();
    let mut from = 0;
    for (at, _) in text.match_indices(port) {
        let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
        let (before, after) = text.as_bytes().split_at(at);
        if !digit(before.last()) && !digit(after.get(port.len())) {
            out.push_str(&text[from..at]);
            out.push_str(label);
            from = at + port.len();
        }
    }
    out + &text[from..]
}

/// Lines that describe an outcome, the same for equal outcomes.
pub fn describe(outcome: &Outcome, ports: &[(String, &str)]) -> Vec<String> {
    let mut lines = Vec::new();
    for answer in &outcome.answers {
        lines.push(format!(
            "status {}{}{}",
            answer.status,
            if answer.cut { " cut" } else { "" },
            if answer.closed { " closed" } else { "" }
        ));
        let mut headers: Vec<String> =
            answer.headers.iter().map(|(name, value)| format!("< {name}: {}", steady(name, value, ports))).collect();
        headers.sort();
        lines.extend(headers);
        lines.push(format!("< body {}", shown(&answer.body)));
    }
    for seen in &outcome.seen {
        lines.push(format!("> {} saw {}", seen.backend, seen.line));
        lines.extend(seen.headers.iter().map(|(name, value)| format!("> {name}: {}", steady(name, value, ports))));
        lines.push(format!("> body {}", shown(&seen.body)));
    }
    lines
}

/// A body in a line: long ones as length and checksum.
pub fn shown(body: &[u8]) -> String {
    match body.len() {
        0..=300 => String::from_utf8_lossy(body).escape_debug().to_string(),
        length => {
            format!("{length} bytes, {:x}", body.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31) + u64::from(byte)))
        }
    }
}

/// The lines only one side has: `- ` Envoy's, `+ ` ours.
pub fn differences(envoy: &[String], ours: &[String]) -> Vec<String> {
    let mut left = ours.to_vec();
    let mut out = Vec::new();
    for line in envoy {
        match left.iter().position(|other| other == line) {
            Some(at) => drop(left.remove(at)),
            None => out.push(format!("- {line}")),
        }
    }
    out.extend(left.into_iter().map(|line| format!("+ {line}")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_ports() {
        let ports = [("4407".to_string(), "b")];
        assert_eq!(steady("x", "a:4407, 4407;18446744073", &ports), "a:b, b;18446744073");
    }
}
