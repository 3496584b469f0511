//! Load reports in responses (ORCA): `endpoint-load-metrics-bin`, or `endpoint-load-metrics` with its format in front.

use super::cluster::Cluster;
use super::host::Host;
use engine::Head;
use engine::balance::orca::Report;
use serde_json::Value;

const TEXT: &[u8] = b"endpoint-load-metrics";
const BINARY: &[u8] = b"endpoint-load-metrics-bin";
/// A longer report is not read.
const LONGEST: usize = 16 * 1024;

impl Cluster {
    /// Hands the report in `response`, if there is a good one, to a policy that reads reports.
    pub fn take_report(&self, host: &Host, response: &Head) {
        if !self.config.policy.wants_reports() {
            return;
        }
        if let Some(report) = read(response) {
            engine::balance::reported(&self.config.policy, &host.record, &report, self.now());
        }
    }
}

fn read(response: &Head) -> Option<Report<'_>> {
    if let Some(value) = response.get(BINARY).filter(|value| value.len() <= LONGEST) {
        return Report::binary(&base64(value)?);
    }
    let value = response.get(TEXT).filter(|value| value.len() <= LONGEST)?;
    let text = std::str::from_utf8(value).ok()?;
    match text.split_once(' ') {
        Some(("JSON", json)) => from_json(json),
        Some(("BIN", encoded)) => Report::binary(&base64(encoded.as_bytes())?),
        Some(("TEXT", pairs)) => Report::text(pairs),
        _ => None,
    }
}

fn from_json(text: &str) -> Option<Report<'static>> {
    let Value::Object(members) = serde_json::from_str(text).ok()? else { return None };
    let each = members.into_iter().flat_map(|(name, value)| match value {
        Value::Object(map) => {
            map.into_iter().filter_map(|(key, value)| Some((name.clone(), key, value.as_f64()?))).collect::<Vec<_>>()
        }
        value => value.as_f64().map(|value| (String::new(), name, value)).into_iter().collect(),
    });
    Report::members(each)
}

/// RFC 4648 section 4, with or without padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
    let mut out = Vec::with_capacity(end * 3 / 4);
    for chunk in text[..end].chunks(4) {
        let mut bits = 0u32;
        for byte in chunk {
            let six = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let bytes = match chunk.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - chunk.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..=bytes]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")] {
            assert_eq!(base64(text.as_bytes()).unwrap(), bytes.as_bytes(), "{text}");
        }
        assert_eq!(base64(b"a"), None);
        assert_eq!(base64(b"a?=="), None);
    }

    #[test]
    fn forms() {
        let mut message = vec![1 << 3 | 1];
        message.extend(0.5f64.to_le_bytes());
        let cases = [
            ("endpoint-load-metrics", "TEXT cpu_utilization=0.5"),
            ("endpoint-load-metrics", r#"JSON {"cpu_utilization": 0.5, "named_metrics": {"a": 1}}"#),
            ("endpoint-load-metrics", "BIN CQAAAAAAAOA/"),
            ("endpoint-load-metrics-bin", "CQAAAAAAAOA/"),
        ];
        for (name, value) in cases {
            let mut head = Head::default();
            head.push(name.as_bytes(), value.as_bytes());
            assert_eq!(read(&head).map(|report| report.cpu), Some(0.5), "{name}: {value}");
        }
    }
}
