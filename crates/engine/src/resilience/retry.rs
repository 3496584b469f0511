//! May this attempt be repeated? (`RetryPolicy.retry_on`)

use crate::head::Head;
use crate::route::matching;
use model::Refusal;
use model::matcher::{HeaderKind, HeaderMatcher};
use model::retry::{RateLimitedBackOff, ResetFormat, RetryOn, RetryPolicy};
use std::ops::Deref;
use std::time::Duration;

/// How an attempt ended.
pub enum Ending<'a> {
    /// A response head arrived.
    Response(&'a Head),
    /// No response; `sent` tells whether any byte of the request went out.
    Failed { refusal: Refusal, sent: bool },
}

/// Methods whose repetition has no further effect (RFC 9110 section 9.2.2).
pub fn idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

/// The policy that holds for a request.
#[derive(Debug)]
pub enum Policy<'t> {
    OfRoute(&'t RetryPolicy),
    /// Boxed: it is large and rare.
    OfRequest(Box<RetryPolicy>),
}

impl Deref for Policy<'_> {
    type Target = RetryPolicy;

    fn deref(&self) -> &RetryPolicy {
        match self {
            Policy::OfRoute(policy) => policy,
            Policy::OfRequest(policy) => policy,
        }
    }
}

/// The route's policy with what trusted callers add in `x-envoy-retry-on` and its kin, which are removed.
pub fn policy<'t>(route: Option<&'t RetryPolicy>, head: &mut Head) -> Option<Policy<'t>> {
    const HEADERS: [&[u8]; 5] = [
        b"x-envoy-retry-on",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retriable-header-names",
    ];
    if HEADERS.iter().all(|name| head.get(name).is_none()) {
        return route.map(Policy::OfRoute);
    }
    let words = |name: &[u8]| -> Vec<String> {
        let list = head.get(name).unwrap_or_default();
        String::from_utf8_lossy(list).split(',').map(|word| word.trim().to_string()).collect()
    };
    let mut own = Box::new(route.cloned().unwrap_or_default());
    for word in words(HEADERS[0]).iter().chain(&words(HEADERS[1])) {
        own.on.add(word);
    }
    if let Some(most) = words(HEADERS[2]).first().and_then(|text| text.parse().ok()) {
        own.num_retries = most;
    }
    own.retriable_status_codes.extend(words(HEADERS[3]).iter().filter_map(|text| text.parse::<u16>().ok()));
    let present = |name: &String| HeaderMatcher {
        name: name.to_ascii_lowercase().into(),
        kind: HeaderKind::Present(true),
        invert: false,
        treat_missing_as_empty: false,
    };
    own.retriable_headers.extend(words(HEADERS[4]).iter().filter(|name| !name.is_empty()).map(present));
    for name in HEADERS {
        head.remove(name);
    }
    Some(Policy::OfRequest(own))
}

/// When the upstream wants to be asked again, if it says so and is to be believed. `now` is the Unix time in seconds.
pub fn reset_after(limited: &RateLimitedBackOff, response: &Head, now: u64) -> Option<Duration> {
    limited.headers.iter().find_map(|(name, format)| {
        let number: u64 = std::str::from_utf8(response.get(name.as_bytes())?).ok()?.trim().parse().ok()?;
        let seconds = match format {
            ResetFormat::Seconds => number,
            ResetFormat::UnixTimestamp => number.checked_sub(now)?,
        };
        Some(Duration::from_secs(seconds)).filter(|wait| *wait <= limited.max_interval)
    })
}

/// True when the policy's conditions ask for another attempt. Counting and budgets are the caller's.
pub fn wanted(policy: &RetryPolicy, request: &Head, ending: &Ending<'_>) -> bool {
    if !policy.retriable_request_headers.is_empty()
        && !policy.retriable_request_headers.iter().any(|matcher| matching::header(matcher, request))
    {
        return false;
    }
    match ending {
        Ending::Response(response) => on_response(policy, request, response),
        Ending::Failed { refusal, sent } => on_failure(&policy.on, request, *refusal, *sent),
    }
}

fn on_response(policy: &RetryPolicy, request: &Head, response: &Head) -> bool {
    let on = &policy.on;
    let status = response.status;
    if response.get(b"x-envoy-ratelimited").is_some() {
        return on.envoy_ratelimited;
    }
    (on.server_error && status >= 500)
        || (on.gateway_error && matches!(status, 502..=504))
        || (on.retriable_4xx && status == 409)
        || (on.retriable_status_codes && policy.retriable_status_codes.contains(&status))
        || (on.retriable_headers && policy.retriable_headers.iter().any(|matcher| matching::header(matcher, response)))
        || on_grpc(on, response)
        || (on.reset_if_idempotent && idempotent(request.method()) && reset_beyond(response))
}

/// The next proxy answers because its own connection broke before a response: its `Proxy-Status` says so
/// (RFC 9209 section 2.3.9). For the caller that is a reset, one hop further on.
fn reset_beyond(response: &Head) -> bool {
    const LOST: &[u8] = b"error=connection_terminated";
    let says = |value: &[u8]| memchr::memmem::find(value, LOST).is_some();
    matches!(response.status, 502 | 503) && response.all(b"proxy-status").any(says)
}

/// gRPC statuses in a trailers-only response.
fn on_grpc(on: &RetryOn, response: &Head) -> bool {
    let Some(status) = response.get(b"grpc-status") else { return false };
    match status {
        b"1" => on.grpc_cancelled,
        b"4" => on.grpc_deadline_exceeded,
        b"8" => on.grpc_resource_exhausted,
        b"13" => on.grpc_internal,
        b"14" => on.grpc_unavailable,
        _ => false,
    }
}

fn on_failure(on: &RetryOn, request: &Head, refusal: Refusal, sent: bool) -> bool {
    let connect = matches!(refusal, Refusal::ConnectFailure | Refusal::ConnectTimeout | Refusal::UpstreamTlsFailure);
    if matches!(refusal, Refusal::PerTryTimeout | Refusal::PerTryIdleTimeout) {
        return on.server_error || on.gateway_error;
    }
    if refusal == Refusal::UpstreamOverflow {
        return false;
    }
    if refusal == Refusal::UpstreamRefusedStream && on.refused_stream {
        return true;
    }
    if connect && on.connect_failure {
        return true;
    }
    if on.reset || on.server_error || on.gateway_error {
        return true;
    }
    (on.reset_before_request && !sent) || (on.reset_if_idempotent && idempotent(request.method()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str) -> Head {
        let mut head = Head::default();
        head.set_method(method.as_bytes());
        head
    }

    fn response(status: u16) -> Head {
        let mut head = Head::default();
        head.status = status;
        head
    }

    fn on(set: impl Fn(&mut RetryOn)) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        set(&mut policy.on);
        policy
    }

    fn failed(refusal: Refusal, sent: bool) -> Ending<'static> {
        Ending::Failed { refusal, sent }
    }

    #[test]
    fn failures() {
        let connect = on(|on| on.connect_failure = true);
        assert!(wanted(&connect, &request("POST"), &failed(Refusal::ConnectFailure, false)));
        assert!(!wanted(&connect, &request("POST"), &failed(Refusal::UpstreamReset, true)));
        let idempotent = on(|on| on.reset_if_idempotent = true);
        assert!(wanted(&idempotent, &request("GET"), &failed(Refusal::UpstreamReset, true)));
        assert!(!wanted(&idempotent, &request("POST"), &failed(Refusal::UpstreamReset, true)));
        let before = on(|on| on.reset_before_request = true);
        assert!(wanted(&before, &request("POST"), &failed(Refusal::UpstreamReset, false)));
        assert!(!wanted(&before, &request("POST"), &failed(Refusal::UpstreamReset, true)));
        let server = on(|on| on.server_error = true);
        assert!(wanted(&server, &request("POST"), &failed(Refusal::UpstreamReset, true)));
    }

    #[test]
    fn a_reset_behind_the_next_proxy_counts_as_one() {
        let idempotent = on(|on| on.reset_if_idempotent = true);
        let mut answer = response(503);
        assert!(!wanted(&idempotent, &request("GET"), &Ending::Response(&answer)));
        answer.push(b"proxy-status", b"orders; error=connection_terminated; details=\"x; UC\"");
        assert!(wanted(&idempotent, &request("GET"), &Ending::Response(&answer)));
        assert!(!wanted(&idempotent, &request("POST"), &Ending::Response(&answer)));
        answer.status = 200;
        assert!(!wanted(&idempotent, &request("GET"), &Ending::Response(&answer)));
    }

    #[test]
    fn headers_extend_the_policy() {
        let mut head = request("GET");
        assert!(policy(None, &mut head).is_none());
        head.push(b"x-envoy-retry-on", b"5xx,nonsense");
        head.push(b"x-envoy-max-retries", b"4");
        head.push(b"x-envoy-retriable-status-codes", b"418, x");
        let found = policy(None, &mut head).unwrap();
        assert!(found.on.server_error && !found.on.reset);
        assert_eq!((found.num_retries, &found.retriable_status_codes[..]), (4, &[418][..]));
        assert!(head.is_empty());
    }

    #[test]
    fn upstreams_say_when() {
        let headers = vec![("retry-after".into(), ResetFormat::Seconds), ("reset".into(), ResetFormat::UnixTimestamp)];
        let limited = RateLimitedBackOff { headers, max_interval: Duration::from_secs(10) };
        let after = |name: &str, value: &str| {
            let mut answer = response(429);
            answer.push(name.as_bytes(), value.as_bytes());
            reset_after(&limited, &answer, 1000)
        };
        assert_eq!(after("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(after("retry-after", "11"), None);
        assert_eq!(after("reset", "1003"), Some(Duration::from_secs(3)));
        assert_eq!(after("reset", "3"), None);
        assert_eq!(after("retry-after", "soon"), None);
    }

    #[test]
    fn responses() {
        let mut answer = response(503);
        assert!(wanted(&on(|on| on.server_error = true), &request("GET"), &Ending::Response(&answer)));
        assert!(wanted(&on(|on| on.gateway_error = true), &request("GET"), &Ending::Response(&answer)));
        assert!(!wanted(&on(|on| on.retriable_4xx = true), &request("GET"), &Ending::Response(&answer)));
        answer.push(b"x-envoy-ratelimited", b"true");
        assert!(!wanted(&on(|on| on.server_error = true), &request("GET"), &Ending::Response(&answer)));
        let mut grpc = response(200);
        grpc.push(b"grpc-status", b"14");
        assert!(wanted(&on(|on| on.grpc_unavailable = true), &request("POST"), &Ending::Response(&grpc)));
        assert!(!wanted(&on(|on| on.grpc_internal = true), &request("POST"), &Ending::Response(&grpc)));
    }
}
