//! How long a request may take: the route's configuration, changed by what trusted callers say in headers.

use crate::head::Head;
use model::route::{Forward, GrpcTimeout};
use std::time::Duration;

const EXPECTED: &[u8] = b"x-envoy-expected-rq-timeout-ms";
const UPSTREAM: &[u8] = b"x-envoy-upstream-rq-timeout-ms";
const PER_TRY: &[u8] = b"x-envoy-upstream-rq-per-try-timeout-ms";

/// Zero disables each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// From the end of the request to the end of the response.
    pub route: Duration,
    pub per_try: Duration,
    pub per_try_idle: Duration,
    /// From the first byte of the request to the last of the response.
    pub stream: Duration,
}

/// What configuration and `grpc-timeout` say. `stream` is the connection manager's `max_stream_duration`.
pub fn deadlines(forward: &Forward, head: &mut Head, stream: Duration) -> Deadlines {
    let asked = match forward.grpc_timeout {
        GrpcTimeout::Ignored => None,
        _ => head.get(b"grpc-timeout").and_then(parse_grpc),
    };
    let retry = forward.retry.as_ref();
    let mut deadlines = Deadlines {
        route: forward.timeout,
        per_try: retry.map_or(Duration::ZERO, |retry| retry.per_try_timeout),
        per_try_idle: retry.map_or(Duration::ZERO, |retry| retry.per_try_idle_timeout),
        stream: forward.max_stream_duration.unwrap_or(stream),
    };
    match (forward.grpc_timeout, asked) {
        (GrpcTimeout::Route { max, offset }, asked) if head.is_grpc() => {
            let asked = asked.unwrap_or_default();
            // Zero is endless, so an offset never makes zero.
            let asked = if offset < asked { asked - offset } else { asked };
            deadlines.route = capped(asked, max);
        }
        (GrpcTimeout::Stream { max, offset }, Some(asked)) => {
            let asked = if max.is_zero() { asked } else { asked.min(max) };
            // No time at all is over at once, which zero would not say.
            deadlines.stream = asked.saturating_sub(offset).max(Duration::from_nanos(1));
        }
        _ => {}
    }
    if !deadlines.stream.is_zero() && head.is_grpc() {
        set_grpc(head, deadlines.stream);
    }
    deadlines.settle();
    deadlines
}

/// Zero is endless in both.
fn capped(asked: Duration, max: Duration) -> Duration {
    match (asked.is_zero(), max.is_zero()) {
        (_, true) => asked,
        (true, false) => max,
        (false, false) => asked.min(max),
    }
}

fn millis(head: &Head, name: &[u8]) -> Option<Duration> {
    std::str::from_utf8(head.get(name)?).ok()?.parse().ok().map(Duration::from_millis)
}

impl Deadlines {
    /// Reads and removes the headers in which a trusted caller changes deadlines. `respect_expected` believes what the
    /// caller's proxy expects (`Router.respect_expected_rq_timeout`).
    pub fn take_headers(&mut self, head: &mut Head, respect_expected: bool) {
        if let Some(expected) = millis(head, EXPECTED).filter(|_| respect_expected) {
            self.route = expected;
        } else if let Some(wanted) = millis(head, UPSTREAM) {
            self.route = wanted;
        }
        head.remove(UPSTREAM);
        if let Some(wanted) = millis(head, PER_TRY) {
            self.per_try = wanted;
        }
        head.remove(PER_TRY);
        self.settle();
    }

    /// An attempt that may take as long as the whole has no deadline of its own.
    fn settle(&mut self) {
        if !self.route.is_zero() && self.per_try >= self.route {
            self.per_try = Duration::ZERO;
        }
    }

    /// What the upstream is told to expect when `spent` of the time is over. `None`: it may take for ever.
    pub fn expected(&self, spent: Duration, hedging: bool) -> Option<Duration> {
        const LEAST: Duration = Duration::from_millis(1);
        let attempt = if hedging || self.per_try.is_zero() { self.route } else { self.per_try };
        if attempt.is_zero() {
            return None;
        }
        if self.route.is_zero() {
            return Some(attempt);
        }
        Some(attempt.min(self.route.saturating_sub(spent)).max(LEAST))
    }
}

/// Tells the upstream: in the header for proxies, and in `grpc-timeout` where that rules the route's timeout.
pub fn tell(forward: &Forward, head: &mut Head, expected: Duration, suppress_envoy_headers: bool) {
    if !suppress_envoy_headers {
        head.set(EXPECTED, itoa::Buffer::new().format(expected.as_millis()).as_bytes());
    }
    if matches!(forward.grpc_timeout, GrpcTimeout::Route { .. }) && head.is_grpc() {
        set_grpc(head, expected);
    }
}

/// `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
pub fn parse_grpc(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

fn set_grpc(head: &mut Head, time: Duration) {
    const MOST: u128 = 99_999_999;
    let millis = time.as_millis();
    let (count, unit) = match millis {
        _ if millis <= MOST => (millis, b'm'),
        _ if millis / 1000 <= MOST => (millis / 1000, b'S'),
        _ if millis / 60_000 <= MOST => (millis / 60_000, b'M'),
        _ => ((millis / 3_600_000).min(MOST), b'H'),
    };
    let mut text = itoa::Buffer::new().format(count).as_bytes().to_vec();
    text.push(unit);
    head.set(b"grpc-timeout", &text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::retry::RetryPolicy;
    use model::route::Target;
    use std::sync::Arc;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn forward(timeout: Duration, per_try: Duration, grpc_timeout: GrpcTimeout) -> Forward {
        let retry = RetryPolicy { per_try_timeout: per_try, ..Default::default() };
        Forward { timeout, grpc_timeout, retry: Some(Arc::new(retry)), ..Forward::to(Target::Cluster("a".into())) }
    }

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::default();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    #[test]
    fn headers_change_the_route() {
        let route = forward(ms(500), ms(100), GrpcTimeout::Ignored);
        type Fields<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Fields<'_>, bool, u64, u64); 6] = [
            (&[], true, 500, 100),
            (&[("x-envoy-upstream-rq-timeout-ms", "50")], false, 50, 0),
            (&[("x-envoy-upstream-rq-per-try-timeout-ms", "200")], false, 500, 200),
            (&[("x-envoy-expected-rq-timeout-ms", "300")], true, 300, 100),
            (&[("x-envoy-expected-rq-timeout-ms", "300")], false, 500, 100),
            (&[("x-envoy-upstream-rq-timeout-ms", "soon")], false, 500, 100),
        ];
        for (fields, respect, route_ms, per_try_ms) in cases {
            let mut head = head(fields);
            let mut found = deadlines(&route, &mut head, Duration::ZERO);
            found.take_headers(&mut head, respect);
            assert_eq!((found.route, found.per_try), (ms(route_ms), ms(per_try_ms)), "{fields:?}");
            assert!(head.get(UPSTREAM).is_none() && head.get(PER_TRY).is_none());
        }
    }

    #[test]
    fn grpc_timeouts() {
        let grpc = ("content-type", "application/grpc");
        let by_route = forward(ms(500), ms(0), GrpcTimeout::Route { max: ms(2000), offset: ms(10) });
        for (asked, wanted) in [("100m", 90), ("9S", 2000), ("5m", 5), ("bad", 2000)] {
            let mut head = head(&[grpc, ("grpc-timeout", asked)]);
            assert_eq!(deadlines(&by_route, &mut head, ms(0)).route, ms(wanted), "{asked}");
        }
        let by_stream = forward(ms(0), ms(0), GrpcTimeout::Stream { max: ms(2000), offset: ms(10) });
        let mut late = head(&[grpc, ("grpc-timeout", "3S")]);
        assert_eq!(deadlines(&by_stream, &mut late, ms(0)).stream, ms(1990));
        assert_eq!(late.get(b"grpc-timeout"), Some(&b"1990m"[..]));
        let mut none = head(&[grpc]);
        assert_eq!(deadlines(&by_stream, &mut none, ms(700)).stream, ms(700));
    }

    #[test]
    fn expectations() {
        let all = Deadlines { route: ms(1000), per_try: ms(300), ..Default::default() };
        assert_eq!(all.expected(ms(0), false), Some(ms(300)));
        assert_eq!(all.expected(ms(0), true), Some(ms(1000)));
        assert_eq!(all.expected(ms(900), false), Some(ms(100)));
        assert_eq!(all.expected(ms(2000), false), Some(ms(1)));
        assert_eq!(Deadlines::default().expected(ms(5), false), None);
        assert_eq!(Deadlines { per_try: ms(9), ..Default::default() }.expected(ms(50), false), Some(ms(9)));
    }

    #[test]
    fn grpc_timeout_texts() {
        for (text, wanted) in [("1H", Some(3_600_000)), ("2M", Some(120_000)), ("3S", Some(3000)), ("4m", Some(4))] {
            assert_eq!(parse_grpc(text.as_bytes()), wanted.map(ms), "{text}");
        }
        for text in ["", "S", "1", "123456789S", "-1S", "1x"] {
            assert_eq!(parse_grpc(text.as_bytes()), None, "{text}");
        }
        let mut head = Head::default();
        set_grpc(&mut head, Duration::from_secs(200_000));
        assert_eq!(head.get(b"grpc-timeout"), Some(&b"200000S"[..]));
    }
}
