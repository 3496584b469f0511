//! Every way a request can end without the upstream's answer, in one closed enum with one exhaustive mapping.

/// Why a request was answered by the proxy itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The request could not be understood; the connection is closed.
    BadRequest(BadRequest),
    /// Request head over the limits (431).
    HeadTooLarge,
    /// HTTP version not served here (426 for HTTP/1.0, as Envoy).
    UpgradeRequired,
    /// A transfer coding other than `chunked` (501).
    UnsupportedTransferCoding,
    /// Request head or body did not arrive in time (408).
    RequestTimeout,
    /// Request body larger than must be buffered (413).
    BodyTooLarge,
    RouteNotFound,
    /// The route's cluster does not exist; the status is the route's.
    ClusterNotFound(u16),
    NoHealthyUpstream,
    /// A circuit breaker is open.
    UpstreamOverflow,
    ConnectFailure,
    ConnectTimeout,
    /// The TLS handshake with the upstream failed.
    UpstreamTlsFailure,
    /// Connection ended before a response head.
    UpstreamReset,
    /// HTTP/2 RST_STREAM before a response head.
    UpstreamStreamReset,
    /// HTTP/2 REFUSED_STREAM, or GOAWAY below the stream: never processed.
    UpstreamRefusedStream,
    /// The upstream's answer is not HTTP.
    UpstreamProtocolError,
    /// The route's timeout.
    UpstreamTimeout,
    PerTryTimeout,
    /// Nothing came from the upstream for too long in this attempt.
    PerTryIdleTimeout,
    StreamIdleTimeout,
    /// The longest duration of a request, by the connection manager, the route or `grpc-timeout`.
    StreamDuration,
    /// The longest duration of a request, by the cluster.
    UpstreamStreamDuration,
    /// The upgrade is not allowed here (403).
    UpgradeDenied,
    /// A filter before the router does not let it through.
    Denied(Denied),
    /// No address of the client could be found; the status is configured.
    ClientUnknown(u16),
    /// The downstream went away before the response.
    DownstreamGone,
    /// The overload manager takes no more requests.
    Overloaded,
}

/// Which filter refused, with the status that is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    Fault(u16),
    /// The same with a gRPC status.
    FaultGrpc(u8),
    RateLimit {
        status: u16,
        /// gRPC clients are told RESOURCE_EXHAUSTED.
        exhausted: bool,
    },
    Admission,
    Concurrency(u16),
    /// This proxy, or what it stands for, is not well.
    Unwell {
        status: u16,
        why: Unwell,
    },
}

/// Why a health check finds this proxy unwell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unwell {
    /// The administrator said so.
    Failed,
    NoCluster,
    ClusterEmpty,
    ClusterUnhealthy,
    /// The upstream said so a short time ago.
    Cached,
}

impl Unwell {
    fn details(self) -> &'static str {
        match self {
            Unwell::Failed => "health_check_failed",
            Unwell::NoCluster => "health_check_failed_no_cluster_found",
            Unwell::ClusterEmpty => "health_check_failed_cluster_empty",
            Unwell::ClusterUnhealthy => "health_check_failed_cluster_unhealthy",
            Unwell::Cached => "health_check_cached",
        }
    }
}

/// The kinds of malformed request, for logs and `Proxy-Status` details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadRequest {
    Syntax,
    BareLineFeed,
    ObsoleteFold,
    LengthAndChunked,
    BadLength,
    BadChunk,
    MissingHost,
    BadHost,
    BadPath,
    BadPreface,
    Underscores,
    EscapedSlash,
    /// A `#` in the path.
    Fragment,
    /// A CONNECT with a body.
    BodyDisallowed,
    /// The target of a CONNECT is not host and port.
    ConnectTarget,
    /// The body of a gRPC-Web request is not base64.
    NotBase64,
}

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Downstream,
    Upstream,
    Mesh,
}

/// How the ending is told to people and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub http: u16,
    /// gRPC status code for gRPC requests.
    pub grpc: u8,
    /// Envoy response flag, e.g. `UF`.
    pub flag: &'static str,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// RFC 9209 section 2.3 error type.
    pub proxy_status: &'static str,
    /// Body of the local reply (text/plain).
    pub body: &'static str,
    pub side: Side,
}

impl BadRequest {
    pub fn details(self) -> &'static str {
        match self {
            BadRequest::Syntax => "http1.codec_error",
            BadRequest::BareLineFeed => "http1.bare_line_feed",
            BadRequest::ObsoleteFold => "http1.obsolete_fold",
            BadRequest::LengthAndChunked => "http1.content_length_and_chunked_not_allowed",
            BadRequest::BadLength => "http1.invalid_content_length",
            BadRequest::BadChunk => "http1.invalid_chunk_size",
            BadRequest::MissingHost => "missing_host_header",
            BadRequest::BadHost => "invalid_host",
            BadRequest::BadPath => "path_normalization_failed",
            BadRequest::BadPreface => "http2.bad_preface",
            BadRequest::Underscores => "unexpected_underscore",
            BadRequest::EscapedSlash => "path_normalization_failed",
            BadRequest::Fragment => "path_with_fragment",
            BadRequest::BodyDisallowed => "http1.body_disallowed",
            BadRequest::ConnectTarget => "http1.invalid_url",
            BadRequest::NotBase64 => "grpc_base_64_decode_failed",
        }
    }

    /// The request was understood as such; the answer has no body, as Envoy's.
    fn understood(self) -> bool {
        matches!(self, BadRequest::MissingHost | BadRequest::EscapedSlash | BadRequest::Fragment)
    }

    fn body(self) -> &'static str {
        match self {
            BadRequest::NotBase64 => "Bad gRPC-web request, invalid base64 data.",
            _ if self.understood() => "",
            _ => "Bad Request",
        }
    }
}

/// The fields of an explanation before they have names.
type Row = (u16, u8, &'static str, &'static str, &'static str, &'static str, Side);

impl Denied {
    fn row(self) -> Row {
        let (http, grpc, flag, details, body) = match self {
            Denied::Fault(status) => (status, grpc_of_http(status), "FI", "fault_filter_abort", "fault filter abort"),
            Denied::FaultGrpc(status) => (200, status, "FI", "fault_filter_abort", "fault filter abort"),
            Denied::RateLimit { status, exhausted } => {
                let grpc = if exhausted { 8 } else { grpc_of_http(status) };
                (status, grpc, "RL", "local_rate_limited", "local_rate_limited")
            }
            Denied::Admission => (503, 14, "-", "denied_by_admission_control", ""),
            Denied::Concurrency(status) => {
                let body = "reached concurrency limit";
                (status, grpc_of_http(status), "-", "reached_concurrency_limit", body)
            }
            Denied::Unwell { status, why } => (status, grpc_of_http(status), "LH", why.details(), ""),
        };
        (http, grpc, flag, details, "http_request_denied", body, Side::Mesh)
    }
}

fn try_timeout(details: &'static str) -> Row {
    (504, 14, "UT", details, "http_response_timeout", "upstream request timeout", Side::Upstream)
}

fn client_unknown(http: u16) -> Row {
    (http, grpc_of_http(http), "-", "rejecting_because_detection_failed", "http_request_denied", "", Side::Downstream)
}

/// gRPC's mapping of HTTP statuses ("HTTP to gRPC Status Code Mapping").
pub fn grpc_of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// An attempt that ended before a response head: the words that Envoy's details and body have in common.
macro_rules! reset {
    ($status:literal, $flag:literal, $detail:literal, $reason:literal, $proxy_status:expr, $side:expr) => {
        (
            $status,
            14,
            $flag,
            concat!("upstream_reset_before_response_started{", $detail, "}"),
            $proxy_status,
            concat!("upstream connect error or disconnect/reset before headers. reset reason: ", $reason),
            $side,
        )
    };
}

impl Refusal {
    /// The one place where endings are mapped. Statuses, flags and bodies are Envoy's.
    pub fn explain(self) -> Explanation {
        use Refusal as R;
        use Side::{Downstream, Mesh, Upstream};
        let (http, grpc, flag, details, proxy_status, body, side): Row = match self {
            R::BadRequest(kind) => (400, 13, "DPE", kind.details(), "http_request_error", kind.body(), Downstream),
            R::HeadTooLarge => (
                431,
                13,
                "DPE",
                "request_headers_too_large",
                "http_request_error",
                "Request Header Fields Too Large",
                Downstream,
            ),
            R::UpgradeRequired => (426, 2, "-", "low_version", "http_request_denied", "Upgrade Required", Downstream),
            R::UnsupportedTransferCoding => (
                501,
                12,
                "DPE",
                "http1.unsupported_transfer_coding",
                "http_request_error",
                "Not Implemented",
                Downstream,
            ),
            R::RequestTimeout => {
                (408, 4, "DT", "request_overall_timeout", "http_request_error", "request timeout", Downstream)
            }
            R::BodyTooLarge => {
                (413, 2, "-", "request_payload_too_large", "http_request_error", "Payload Too Large", Downstream)
            }
            R::RouteNotFound => (404, 12, "NR", "route_not_found", "destination_not_found", "", Mesh),
            R::ClusterNotFound(status) => (status, 14, "NC", "cluster_not_found", "destination_not_found", "", Mesh),
            R::NoHealthyUpstream => {
                (503, 14, "UH", "no_healthy_upstream", "destination_unavailable", "no healthy upstream", Upstream)
            }
            R::UpstreamOverflow => reset!(503, "UO", "overflow", "overflow", "connection_limit_reached", Mesh),
            R::ConnectFailure | R::UpstreamTlsFailure => {
                let status = if self == R::ConnectFailure { "connection_refused" } else { "tls_protocol_error" };
                reset!(503, "UF", "remote_connection_failure", "remote connection failure", status, Upstream)
            }
            R::ConnectTimeout => {
                reset!(503, "UF", "connection_timeout", "connection timeout", "connection_timeout", Upstream)
            }
            R::UpstreamReset => {
                reset!(503, "UC", "connection_termination", "connection termination", "connection_terminated", Upstream)
            }
            R::UpstreamStreamReset => {
                reset!(503, "UR", "remote_reset", "remote reset", "connection_terminated", Upstream)
            }
            R::UpstreamRefusedStream => reset!(
                503,
                "UR",
                "remote_refused_stream_reset",
                "remote refused stream reset",
                "http_upgrade_failed",
                Upstream
            ),
            R::UpstreamProtocolError => {
                reset!(502, "UPE", "protocol_error", "protocol error", "http_protocol_error", Upstream)
            }
            R::UpstreamTimeout => {
                (504, 14, "UT", "response_timeout", "http_response_timeout", "upstream request timeout", Upstream)
            }
            R::PerTryTimeout => try_timeout("upstream_per_try_timeout"),
            R::StreamIdleTimeout => {
                (504, 14, "SI", "stream_idle_timeout", "http_response_timeout", "stream timeout", Mesh)
            }
            R::PerTryIdleTimeout => try_timeout("upstream_per_try_idle_timeout"),
            R::StreamDuration => {
                (504, 4, "DT", "max_duration_timeout", "http_response_timeout", "downstream duration timeout", Mesh)
            }
            R::UpstreamStreamDuration => (
                504,
                14,
                "UMSDR",
                "upstream_max_stream_duration_reached",
                "http_response_timeout",
                "upstream max stream duration reached",
                Mesh,
            ),
            R::UpgradeDenied => (403, 7, "-", "upgrade_failed", "http_request_denied", "", Mesh),
            R::Denied(denied) => denied.row(),
            R::ClientUnknown(status) => client_unknown(status),
            R::DownstreamGone => (0, 1, "DC", "downstream_remote_disconnect", "http_request_error", "", Downstream),
            R::Overloaded => (503, 14, "OM", "overload", "destination_unavailable", "envoy overloaded", Mesh),
        };
        Explanation { http, grpc, flag, details, proxy_status, body, side }
    }

    /// Nothing that follows on this HTTP/1 connection can be trusted, or is wanted.
    pub fn closes_connection(self) -> bool {
        matches!(
            self,
            Refusal::BadRequest(_)
                | Refusal::HeadTooLarge
                | Refusal::UnsupportedTransferCoding
                | Refusal::UpgradeRequired
                | Refusal::UpgradeDenied
                | Refusal::RequestTimeout
        )
    }
}
