//! Envoy's command-operator strings (`%REQ(:path)%`), parsed once and evaluated by the proxy.

/// A parsed format string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Format {
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Literal(Box<str>),
    Operator { operator: Operator, max_len: Option<usize> },
}

/// The command operators that are implemented; anything else is refused when the configuration is compiled.
/// Names and meanings are those of Envoy's access log documentation.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// `%START_TIME%` or `%START_TIME(strftime-like)%`.
    StartTime(Option<Box<str>>),
    /// `%REQ(name?alternative)%`; names in lower case.
    RequestHeader {
        name: Box<str>,
        alternative: Option<Box<str>>,
    },
    /// `%RESP(name?alternative)%`.
    ResponseHeader {
        name: Box<str>,
        alternative: Option<Box<str>>,
    },
    /// `%TRAILER(name?alternative)%`.
    ResponseTrailer {
        name: Box<str>,
        alternative: Option<Box<str>>,
    },
    Protocol,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    BytesReceived,
    BytesSent,
    /// Milliseconds, whole exchange.
    Duration,
    /// Milliseconds from the first byte of the request to the last byte of the request.
    RequestDuration,
    /// Milliseconds until the first byte of the upstream response.
    ResponseDuration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocalAddress,
    UpstreamRequestAttemptCount,
    UpstreamTransportFailureReason,
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamDirectRemoteAddress,
    DownstreamDirectRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    DownstreamPeerUriSan,
    DownstreamPeerSubject,
    DownstreamTlsVersion,
    DownstreamTlsCipher,
    RequestedServerName,
    RouteName,
    VirtualClusterName,
    /// Of this machine, asked for when the configuration is compiled.
    Hostname(Box<str>),
    ConnectionId,
    ConnectionTerminationDetails,
    FilterChainName,
    /// The body of the proxy's own answer, before it is formatted.
    LocalReplyBody,
    /// `%ENVIRONMENT(X)%`, resolved at compile time.
    Environment(Box<str>),
}

impl Format {
    pub fn literal(text: &str) -> Self {
        Format { parts: vec![Part::Literal(text.into())] }
    }

    /// The text, when no operator has to be evaluated.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// Envoy's default access log line.
pub const DEFAULT_ACCESS_LOG: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";
