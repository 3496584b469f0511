//! May this attempt be repeated? (`RetryPolicy.retry_on`)

use crate::head::Head;
use crate::route::matching;
use model::Refusal;
use model::retry::{RetryOn, RetryPolicy};

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

/// True when the policy's conditions ask for another attempt. Counting and budgets are the caller's.
pub fn wanted(policy: &RetryPolicy, request: &Head, ending: &Ending<'_>) -> bool {
    if !policy.retriable_request_headers.is_empty()
        && !policy.retriable_request_headers.iter().any(|matcher| matching::header(matcher, request))
    {
        return false;
    }
    match ending {
        Ending::Response(response) => on_response(policy, response),
        Ending::Failed { refusal, sent } => on_failure(&policy.on, request, *refusal, *sent),
    }
}

fn on_response(policy: &RetryPolicy, response: &Head) -> bool {
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
    if refusal == Refusal::PerTryTimeout {
        return on.server_error || on.gateway_error;
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

    fn policy(set: impl Fn(&mut RetryOn)) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        set(&mut policy.on);
        policy
    }

    fn failed(refusal: Refusal, sent: bool) -> Ending<'static> {
        Ending::Failed { refusal, sent }
    }

    #[test]
    fn failures() {
        let connect = policy(|on| on.connect_failure = true);
        assert!(wanted(&connect, &request("POST"), &failed(Refusal::ConnectFailure, false)));
        assert!(!wanted(&connect, &request("POST"), &failed(Refusal::UpstreamReset, true)));
        let idempotent = policy(|on| on.reset_if_idempotent = true);
        assert!(wanted(&idempotent, &request("GET"), &failed(Refusal::UpstreamReset, true)));
        assert!(!wanted(&idempotent, &request("POST"), &failed(Refusal::UpstreamReset, true)));
        let before = policy(|on| on.reset_before_request = true);
        assert!(wanted(&before, &request("POST"), &failed(Refusal::UpstreamReset, false)));
        assert!(!wanted(&before, &request("POST"), &failed(Refusal::UpstreamReset, true)));
        let server = policy(|on| on.server_error = true);
        assert!(wanted(&server, &request("POST"), &failed(Refusal::UpstreamReset, true)));
    }

    #[test]
    fn responses() {
        let mut answer = response(503);
        assert!(wanted(&policy(|on| on.server_error = true), &request("GET"), &Ending::Response(&answer)));
        assert!(wanted(&policy(|on| on.gateway_error = true), &request("GET"), &Ending::Response(&answer)));
        assert!(!wanted(&policy(|on| on.retriable_4xx = true), &request("GET"), &Ending::Response(&answer)));
        answer.push(b"x-envoy-ratelimited", b"true");
        assert!(!wanted(&policy(|on| on.server_error = true), &request("GET"), &Ending::Response(&answer)));
        let mut grpc = response(200);
        grpc.push(b"grpc-status", b"14");
        assert!(wanted(&policy(|on| on.grpc_unavailable = true), &request("POST"), &Ending::Response(&grpc)));
        assert!(!wanted(&policy(|on| on.grpc_internal = true), &request("POST"), &Ending::Response(&grpc)));
    }
}
