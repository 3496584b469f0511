//! What several kinds share: ports, protocols, durations, and the collector of semantic problems.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A port number from 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A port by number or by name, as `targetPort` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    Number(Port),
    Name(String),
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(PortVisitor { names: false })? {
            PortRef::Number(port) => Ok(port),
            PortRef::Name(name) => Err(de::Error::custom(format_args!("{name:?} is not a port number"))),
        }
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor { names: true })
    }
}

struct PortVisitor {
    names: bool,
}

impl Visitor<'_> for PortVisitor {
    type Value = PortRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.names {
            "a port number from 1 to 65535 or a port's name"
        } else {
            "a port number from 1 to 65535"
        })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<PortRef, E> {
        match u16::try_from(value) {
            Ok(port) if port > 0 => Ok(PortRef::Number(Port(port))),
            _ => Err(E::invalid_value(de::Unexpected::Signed(value), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<PortRef, E> {
        if self.names && !value.is_empty() && value.parse::<u32>().is_err() {
            return Ok(PortRef::Name(value.to_owned()));
        }
        Err(E::custom(format_args!("expected {}, found the string {value:?}", Expected(&self))))
    }
}

struct Expected<'a>(&'a PortVisitor);

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
}

/// What is spoken on a port; decides between routing requests and forwarding bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    Grpc,
    Tcp,
}

impl AppProtocol {
    /// From `appProtocol`, else from the port's name up to its first `-`, as Istio selects protocols. Where neither
    /// says anything, HTTP: bytes of another protocol must be declared.
    pub fn of_port(name: Option<&str>, app_protocol: Option<&str>) -> Self {
        let from_name = || name.and_then(|name| Self::from_word(name.split('-').next().unwrap_or(name)));
        app_protocol.and_then(Self::from_word).or_else(from_name).unwrap_or(Self::Http)
    }

    /// Istio's `protocol` fields and Kubernetes' standard application protocols.
    pub fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "http" | "http1" | "kubernetes.io/ws" => Some(Self::Http),
            "http2" | "h2c" | "kubernetes.io/h2c" => Some(Self::Http2),
            "grpc" => Some(Self::Grpc),
            "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" | "postgres" | "kubernetes.io/wss" => Some(Self::Tcp),
            _ => None,
        }
    }

    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }

    /// The server insists on HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

/// A field that must name a protocol.
impl<'de> Deserialize<'de> for AppProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| {
            de::Error::custom(format_args!("{word:?} is not a protocol; write HTTP, HTTP2, GRPC, TCP or TLS"))
        })
    }
}

/// Gateway API's duration: `10s`, `1h30m`, `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    pub fn parse(text: &str) -> Option<Self> {
        let (mut rest, mut total) = (text, Duration::ZERO);
        if text.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..digits].parse().ok().filter(|_| digits <= 5)?;
            rest = &rest[digits..];
            let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            total += match &rest[..end] {
                "h" => Duration::from_secs(number * 3600),
                "m" => Duration::from_secs(number * 60),
                "s" => Duration::from_secs(number),
                "ms" => Duration::from_millis(number),
                _ => return None,
            };
            rest = &rest[end..];
        }
        Some(Self(total))
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format_args!("{text:?} is not a duration; write for instance 10s, 1h30m or 250ms"))
        })
    }
}

/// Collects what types cannot say, by path.
#[derive(Debug, Default)]
pub struct Checker {
    pub problems: Vec<(String, String)>,
}

impl Checker {
    pub fn wrong(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push((path.into(), message.into()));
    }

    pub fn require(&mut self, condition: bool, path: impl Into<String>, message: impl Into<String>) {
        if !condition {
            self.wrong(path, message);
        }
    }

    /// Reports the second of two equal values.
    pub fn unique<T: PartialEq + fmt::Display>(&mut self, values: &[(String, T)], what: &str) {
        for (index, (path, value)) in values.iter().enumerate() {
            if let Some((first, _)) = values[..index].iter().find(|(_, other)| other == value) {
                self.wrong(path.clone(), format!("{what} {value} is already used by {first}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("10s", 10_000), ("1h30m", 5_400_000), ("250ms", 250), ("1m1s1ms", 61_001), ("0s", 0)] {
            assert_eq!(TimeSpan::parse(text), Some(TimeSpan(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "123456s", "1d"] {
            assert_eq!(TimeSpan::parse(text), None, "{text}");
        }
    }

    #[test]
    fn protocols() {
        use AppProtocol::{Grpc, Http, Http2, Tcp};
        for (name, app, expected) in [
            (None, None, Http),
            (Some("http-web"), None, Http),
            (Some("grpc"), None, Grpc),
            (Some("tcp-db"), None, Tcp),
            (Some("metrics"), None, Http),
            (Some("http"), Some("kubernetes.io/h2c"), Http2),
            (Some("grpc"), Some("example.com/custom"), Grpc),
        ] {
            assert_eq!(AppProtocol::of_port(name, app), expected, "{name:?} {app:?}");
        }
    }
}
