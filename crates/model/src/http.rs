//! The HTTP connection manager (`http_connection_manager.v3.HttpConnectionManager`).

use crate::access_log::AccessLog;
use crate::filter::HttpFilter;
use crate::header::Mutation;
use crate::local_reply::LocalReply;
use crate::route::RouteTable;
use crate::scope::ScopedRoutes;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct HttpManager {
    pub stat_prefix: Box<str>,
    pub codec: Codec,
    pub routes: RouteSource,
    /// Before the router.
    pub filters: Vec<HttpFilter>,
    pub access_logs: Vec<Arc<AccessLog>>,
    pub server_name: Box<str>,
    pub server_header: ServerHeader,
    pub via: Option<Box<str>>,
    pub use_remote_address: bool,
    pub xff_num_trusted_hops: u32,
    pub skip_xff_append: bool,
    /// `internal_address_config.cidr_ranges`: callers whose `x-envoy-` headers count.
    pub internal_addresses: Vec<IpNet>,
    pub generate_request_id: bool,
    pub preserve_external_request_id: bool,
    pub always_set_request_id_in_response: bool,
    pub suppress_envoy_headers: bool,
    pub respect_expected_rq_timeout: bool,
    pub start_child_span: bool,
    pub path: PathOptions,
    pub strip_matching_host_port: bool,
    pub strip_any_host_port: bool,
    pub strip_trailing_host_dot: bool,
    pub underscores: UnderscoresAction,
    pub max_head_bytes: usize,
    pub max_headers: usize,
    pub http1: Http1Options,
    pub http2: Http2Options,
    pub timeouts: ManagerTimeouts,
    /// Upgrade types allowed, lower case (`websocket`, `connect`).
    pub upgrades: Vec<Box<str>>,
    /// `stream_error_on_invalid_http_message`: keep the connection after an invalid message where it is safe.
    pub stream_error_on_invalid: bool,
    pub proxy_status: Option<ProxyStatus>,
    pub local_reply: LocalReply,
    /// `early_header_mutation_extensions`: before anything else looks at the request.
    pub early_mutations: Vec<Mutation>,
    /// `original_ip_detection_extensions`: the first that finds an address. Empty: `x-forwarded-for` with
    /// `xff_num_trusted_hops`.
    pub client_address: Vec<AddressSource>,
    pub append_x_forwarded_port: bool,
    /// `append_local_overload`: who is turned away because of overload is told so.
    pub append_local_overload: bool,
    /// `scheme_header_transformation.scheme_to_overwrite`.
    pub scheme: Option<Box<str>>,
    /// `add_user_agent`: who this proxy is, for requests that do not say.
    pub user_agent: Option<UserAgent>,
    pub set_current_client_cert_details: ClientCertDetails,
    pub forward_client_cert: ForwardClientCert,
}

/// Where the client's address is read, when it is not that of the connection.
#[derive(Clone, Debug)]
pub enum AddressSource {
    /// `original_ip_detection.xff.v3.XffConfig`.
    Forwarded {
        hops: u32,
        /// Proxies whose entries in `x-forwarded-for` are believed.
        trusted: Vec<IpNet>,
        append: bool,
    },
    /// `original_ip_detection.custom_header.v3.CustomHeaderConfig`.
    Header {
        /// Lower case.
        name: Box<str>,
        /// The address found may be an internal one.
        trusted: bool,
        /// Status for requests without a usable address.
        reject: Option<u16>,
    },
}

/// The node's cluster and id.
#[derive(Clone, Debug)]
pub struct UserAgent {
    pub cluster: Box<str>,
    pub node: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Auto,
    Http1,
    Http2,
}

#[derive(Clone, Debug)]
pub enum RouteSource {
    Inline(Arc<RouteTable>),
    /// RDS; looked up in `Snapshot::routes`.
    Rds(Arc<str>),
    Scoped(Arc<ScopedRoutes>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct PathOptions {
    /// RFC 3986 section 5.2.4 dot-segment removal.
    pub normalize: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    #[default]
    Keep,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoresAction {
    #[default]
    Allow,
    Reject,
    Drop,
}

#[derive(Clone, Debug)]
pub struct Http1Options {
    pub allow_absolute_url: bool,
    pub accept_http_10: bool,
    pub default_host_for_http_10: Box<str>,
    pub enable_trailers: bool,
    /// `allow_chunked_length` is never honoured: both lengths at once is a smuggling vector.
    pub proper_case: bool,
}

impl Default for Http1Options {
    fn default() -> Self {
        Http1Options {
            allow_absolute_url: true,
            accept_http_10: false,
            default_host_for_http_10: "".into(),
            enable_trailers: false,
            proper_case: false,
        }
    }
}

/// `Http2ProtocolOptions`; used downstream and upstream.
#[derive(Clone, Debug)]
pub struct Http2Options {
    pub max_concurrent_streams: u32,
    /// Bytes.
    pub initial_stream_window: u32,
    /// Bytes.
    pub initial_connection_window: u32,
    pub allow_connect: bool,
    /// Zero: no keep-alive pings.
    pub keepalive_interval: Duration,
    pub keepalive_timeout: Duration,
}

impl Default for Http2Options {
    /// Envoy's documented "edge" figures; its built-in windows of 256 MiB invite memory exhaustion.
    fn default() -> Self {
        Http2Options {
            max_concurrent_streams: 1024,
            initial_stream_window: 1 << 20,
            initial_connection_window: 4 << 20,
            allow_connect: false,
            keepalive_interval: Duration::ZERO,
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// Zero disables each.
#[derive(Clone, Copy, Debug)]
pub struct ManagerTimeouts {
    /// Downstream connection without active requests.
    pub idle: Duration,
    pub max_connection_duration: Duration,
    /// Percent by which it is at random longer, at most.
    pub connection_duration_jitter: f64,
    pub stream_idle: Duration,
    /// Whole request received.
    pub request: Duration,
    /// Request headers received.
    pub request_headers: Duration,
    pub max_stream_duration: Duration,
    pub drain: Duration,
    pub max_requests_per_connection: u32,
}

impl Default for ManagerTimeouts {
    fn default() -> Self {
        ManagerTimeouts {
            idle: Duration::from_secs(3600),
            max_connection_duration: Duration::ZERO,
            connection_duration_jitter: 0.0,
            stream_idle: Duration::from_secs(300),
            request: Duration::ZERO,
            request_headers: Duration::ZERO,
            max_stream_duration: Duration::ZERO,
            drain: Duration::from_millis(5000),
            max_requests_per_connection: 0,
        }
    }
}

/// `proxy_status_config` (RFC 9209).
#[derive(Clone, Debug, Default)]
pub struct ProxyStatus {
    pub remove_details: bool,
    pub remove_connection_termination_details: bool,
    pub remove_response_flags: bool,
    pub set_recommended_response_code: bool,
    /// The name this proxy calls itself.
    pub proxy_name: Box<str>,
}

/// `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    #[default]
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertDetails {
    pub subject: bool,
    pub cert: bool,
    pub chain: bool,
    pub dns: bool,
    pub uri: bool,
}
