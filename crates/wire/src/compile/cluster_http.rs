//! How a cluster speaks HTTP: `HttpProtocolOptions`, or the older fields of the cluster itself.

use super::{Result, duration, http, uint, unpack};
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::extensions::upstreams::http::v3 as upstreams;
use crate::problem::At;
use model::cluster::UpstreamProtocol;
use model::http::Http2Options;
use pb::cluster::ClusterProtocolSelection;
use std::time::Duration;
use upstreams::http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig};

const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) struct HttpUpstream {
    pub(super) protocol: UpstreamProtocol,
    pub(super) http2: Http2Options,
    pub(super) idle_timeout: Duration,
    pub(super) max_requests_per_connection: u32,
    pub(super) max_connection_duration: Duration,
    pub(super) connection_duration_jitter: f64,
    pub(super) max_stream_duration: Duration,
    pub(super) auto_sni: bool,
    pub(super) auto_san_validation: bool,
}

pub(super) fn upstream(at: &At<'_>, pb: &pb::Cluster) -> Result<HttpUpstream> {
    if let Some(key) = pb.typed_extension_protocol_options.keys().find(|key| *key != OPTIONS) {
        let text = format!("no extension is called so; `{OPTIONS}` is");
        return at.key("typed_extension_protocol_options", key).wrong(text);
    }
    match pb.typed_extension_protocol_options.get(OPTIONS) {
        Some(any) => {
            let at = at.key("typed_extension_protocol_options", OPTIONS);
            extension(&at, &unpack(&at, any)?)
        }
        None => legacy(at, pb),
    }
}

fn extension(at: &At<'_>, pb: &upstreams::HttpProtocolOptions) -> Result<HttpUpstream> {
    let choice = at.required("upstream_protocol_options", &pb.upstream_protocol_options)?;
    let (protocol, h1, h2, at_options) = match choice {
        UpstreamProtocolOptions::ExplicitHttpConfig(explicit) => {
            let at = at.field("explicit_http_config");
            match at.required("protocol_config", &explicit.protocol_config)? {
                ProtocolConfig::HttpProtocolOptions(h1) => {
                    (UpstreamProtocol::Http1, Some(h1), None, "explicit_http_config")
                }
                ProtocolConfig::Http2ProtocolOptions(h2) => {
                    (UpstreamProtocol::Http2, None, Some(h2), "explicit_http_config")
                }
                ProtocolConfig::Http3ProtocolOptions(_) => {
                    return at.field("http3_protocol_options").wrong("is not implemented");
                }
            }
        }
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(both) => (
            UpstreamProtocol::Downstream,
            both.http_protocol_options.as_ref(),
            both.http2_protocol_options.as_ref(),
            "use_downstream_protocol_config",
        ),
        UpstreamProtocolOptions::AutoConfig(both) => (
            UpstreamProtocol::Alpn,
            both.http_protocol_options.as_ref(),
            both.http2_protocol_options.as_ref(),
            "auto_config",
        ),
    };
    let inner = at.field(at_options);
    http::http1(&inner.field("http_protocol_options"), h1)?;
    let http2 = http::http2(&inner.field("http2_protocol_options"), h2)?;
    common(at, protocol, http2, pb.common_http_protocol_options.as_ref(), pb.upstream_http_protocol_options.as_ref())
}

fn legacy(at: &At<'_>, pb: &pb::Cluster) -> Result<HttpUpstream> {
    let downstream = pb.protocol_selection == ClusterProtocolSelection::UseDownstreamProtocol as i32;
    let protocol = match &pb.http2_protocol_options {
        _ if downstream => UpstreamProtocol::Downstream,
        Some(_) => UpstreamProtocol::Http2,
        None => UpstreamProtocol::Http1,
    };
    http::http1(&at.field("http_protocol_options"), pb.http_protocol_options.as_ref())?;
    let http2 = http::http2(&at.field("http2_protocol_options"), pb.http2_protocol_options.as_ref())?;
    let options = pb.common_http_protocol_options.as_ref();
    let mut upstream = common(at, protocol, http2, options, pb.upstream_http_protocol_options.as_ref())?;
    if let Some(max) = uint(&pb.max_requests_per_connection) {
        upstream.max_requests_per_connection = max;
    }
    Ok(upstream)
}

fn common(
    at: &At<'_>,
    protocol: UpstreamProtocol,
    http2: Http2Options,
    common: Option<&core::HttpProtocolOptions>,
    upstream: Option<&core::UpstreamHttpProtocolOptions>,
) -> Result<HttpUpstream> {
    let common = common.copied().unwrap_or_default();
    let at = at.field("common_http_protocol_options");
    let idle = duration(&at, "idle_timeout", &common.idle_timeout)?;
    let longest = duration(&at, "max_stream_duration", &common.max_stream_duration)?;
    let oldest = duration(&at, "max_connection_duration", &common.max_connection_duration)?;
    Ok(HttpUpstream {
        max_connection_duration: oldest.unwrap_or_default(),
        connection_duration_jitter: super::http::jitter(&at, &common)?,
        protocol,
        http2,
        idle_timeout: idle.unwrap_or(Duration::from_secs(3600)),
        max_requests_per_connection: uint(&common.max_requests_per_connection).unwrap_or(0),
        max_stream_duration: longest.unwrap_or_default(),
        auto_sni: upstream.is_some_and(|options| options.auto_sni),
        auto_san_validation: upstream.is_some_and(|options| options.auto_san_validation),
    })
}
