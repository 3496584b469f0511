//! The HTTP connection manager and the protocol options that it shares with clusters.

use super::source::source;
use super::{
    Context, Result, access_log, address, client, duration, filter, flag, known, local_reply, lower, not_empty,
    positive, route, scope, uint, unpack,
};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::extensions::filters::http::router::v3::Router;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use crate::problem::{At, gather};
use crate::schema::type_name;
use core::http_protocol_options::HeadersWithUnderscoresAction;
use core::http1_protocol_options::header_key_format::HeaderFormat;
use ipnet::IpNet;
use model::filter::HttpFilter;
use model::http::{
    ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, Http1Options, Http2Options, HttpManager,
    ManagerTimeouts, PathOptions, ProxyStatus, RouteSource, ServerHeader, UnderscoresAction,
};
use pb::http_connection_manager as hcm;
use std::sync::Arc;
use std::time::Duration;

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";

pub(super) fn manager(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<HttpManager> {
    let (filters, router) = filters(cx, at, &pb.http_filters)?;
    let common = pb.common_http_protocol_options.unwrap_or_default();
    let head_kb = uint(&pb.max_request_headers_kb).unwrap_or(60);
    if !(1..=8192).contains(&head_kb) {
        return at.field("max_request_headers_kb").wrong(format!("{head_kb} is not from 1 to 8192"));
    }
    let max_headers = uint(&common.max_headers_count).unwrap_or(100) as usize;
    if max_headers == 0 {
        return at.field("common_http_protocol_options").field("max_headers_count").wrong("must be at least 1");
    }
    check_text(at, pb)?;
    Ok(HttpManager {
        stat_prefix: not_empty(at, "stat_prefix", &pb.stat_prefix)?.into(),
        codec: codec(at, pb)?,
        routes: routes(cx, at, pb)?,
        filters,
        access_logs: access_log::logs(at, "access_log", &pb.access_log)?,
        server_name: if pb.server_name.is_empty() { "envoy".into() } else { pb.server_name.as_str().into() },
        server_header: match known(at, "server_header_transformation", pb.server_header_transformation)? {
            hcm::ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            hcm::ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            hcm::ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        },
        via: (!pb.via.is_empty()).then(|| pb.via.as_str().into()),
        use_remote_address: flag(&pb.use_remote_address).unwrap_or(false),
        xff_num_trusted_hops: pb.xff_num_trusted_hops,
        skip_xff_append: pb.skip_xff_append,
        internal_addresses: internal_addresses(at, pb)?,
        generate_request_id: flag(&pb.generate_request_id).unwrap_or(true),
        preserve_external_request_id: pb.preserve_external_request_id,
        always_set_request_id_in_response: pb.always_set_request_id_in_response,
        suppress_envoy_headers: router.suppress_envoy_headers,
        respect_expected_rq_timeout: router.respect_expected_rq_timeout,
        start_child_span: router.start_child_span,
        path: path_options(at, pb)?,
        strip_matching_host_port: pb.strip_matching_host_port,
        strip_any_host_port: matches!(pb.strip_port_mode, Some(hcm::StripPortMode::StripAnyHostPort(true))),
        strip_trailing_host_dot: pb.strip_trailing_host_dot,
        underscores: underscores(&at.field("common_http_protocol_options"), &common)?,
        max_head_bytes: head_kb as usize * 1024,
        max_headers,
        http1: http1(&at.field("http_protocol_options"), pb.http_protocol_options.as_ref())?,
        http2: http2(&at.field("http2_protocol_options"), pb.http2_protocol_options.as_ref())?,
        timeouts: timeouts(at, pb, &common)?,
        upgrades: upgrades(at, pb)?,
        stream_error_on_invalid: flag(&pb.stream_error_on_invalid_http_message).unwrap_or(false),
        proxy_status: pb.proxy_status_config.as_ref().map(|config| proxy_status(cx, config)),
        local_reply: local_reply::local_reply(&at.field("local_reply_config"), pb.local_reply_config.as_ref())?,
        early_mutations: client::early_mutations(at, &pb.early_header_mutation_extensions)?,
        client_address: client::address_sources(at, pb)?,
        append_x_forwarded_port: pb.append_x_forwarded_port,
        append_local_overload: pb.append_local_overload,
        scheme: client::scheme(at, pb)?,
        user_agent: client::user_agent(cx, pb),
        set_current_client_cert_details: cert_details(pb),
        forward_client_cert: match known(at, "forward_client_cert_details", pb.forward_client_cert_details)? {
            hcm::ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
            hcm::ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
            hcm::ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
            hcm::ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
            hcm::ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
        },
    })
}

fn cert_details(pb: &pb::HttpConnectionManager) -> ClientCertDetails {
    let details = pb.set_current_client_cert_details.unwrap_or_default();
    ClientCertDetails {
        subject: flag(&details.subject).unwrap_or(false),
        cert: details.cert,
        chain: details.chain,
        dns: details.dns,
        uri: details.uri,
    }
}

/// What ends up in headers must fit there; and ports can be stripped in one way only.
fn check_text(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<()> {
    for (name, text) in [("server_name", &pb.server_name), ("via", &pb.via)] {
        if text.contains(['\0', '\r', '\n']) {
            return at.field(name).wrong("must not contain line breaks or NUL");
        }
    }
    if pb.strip_matching_host_port && pb.strip_port_mode.is_some() {
        return at.field("strip_any_host_port").wrong("cannot be set together with strip_matching_host_port");
    }
    Ok(())
}

/// Nothing is internal unless listed.
fn internal_addresses(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<Vec<IpNet>> {
    let Some(config) = &pb.internal_address_config else { return Ok(Vec::new()) };
    let at = at.field("internal_address_config");
    let ranges = config.cidr_ranges.iter().enumerate();
    gather(ranges.map(|(index, range)| address::range(&at.item("cidr_ranges", index), range)))
}

fn codec(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<Codec> {
    match known(at, "codec_type", pb.codec_type)? {
        hcm::CodecType::Auto => Ok(Codec::Auto),
        hcm::CodecType::Http1 => Ok(Codec::Http1),
        hcm::CodecType::Http2 => Ok(Codec::Http2),
        hcm::CodecType::Http3 => at.field("codec_type").wrong("HTTP3 is not implemented; use AUTO, HTTP1 or HTTP2"),
    }
}

fn routes(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<RouteSource> {
    match at.required("route_specifier", &pb.route_specifier)? {
        hcm::RouteSpecifier::RouteConfig(table) => {
            Ok(RouteSource::Inline(Arc::new(route::table(cx, &at.field("route_config"), table)?)))
        }
        hcm::RouteSpecifier::Rds(rds) => {
            let at = at.field("rds");
            let name = not_empty(&at, "route_config_name", &rds.route_config_name)?;
            let config = at.required("config_source", &rds.config_source)?;
            let source = source(&at.field("config_source"), config)?;
            cx.need(ResourceKind::Routes, name, source);
            Ok(RouteSource::Rds(name.into()))
        }
        hcm::RouteSpecifier::ScopedRoutes(scoped) => {
            Ok(RouteSource::Scoped(Arc::new(scope::scoped_routes(cx, &at.field("scoped_routes"), scoped)?)))
        }
    }
}

/// The filters before the router, which must come last, once.
fn filters(cx: &Context<'_>, at: &At<'_>, pb: &[pb::HttpFilter]) -> Result<(Vec<HttpFilter>, Router)> {
    let mut router = Router::default();
    let results = pb.iter().enumerate().map(|(index, pb_filter)| {
        let at = at.item("http_filters", index);
        let any = match at.required("typed_config", &pb_filter.config_type)? {
            pb::http_filter::ConfigType::TypedConfig(any) => any,
            pb::http_filter::ConfigType::ConfigDiscovery(_) => {
                return at.field("config_discovery").wrong("is not implemented; give typed_config");
            }
        };
        match type_name(&any.type_url) {
            ROUTER if index + 1 == pb.len() => {
                router = unpack(&at.field("typed_config"), any)?;
                Ok(None)
            }
            ROUTER => at.wrong("the router must be the last HTTP filter"),
            _ => Ok(Some(HttpFilter {
                name: not_empty(&at, "name", &pb_filter.name)?.into(),
                kind: filter::kind(cx, &at.field("typed_config"), any)?,
                disabled: pb_filter.disabled,
            })),
        }
    });
    let filters = gather(results)?.into_iter().flatten().collect();
    let last = pb.last().and_then(|last| match &last.config_type {
        Some(pb::http_filter::ConfigType::TypedConfig(any)) => Some(type_name(&any.type_url)),
        _ => None,
    });
    match last {
        Some(ROUTER) => Ok((filters, router)),
        _ => at.field("http_filters").wrong(format!("must end with a filter of type {ROUTER}")),
    }
}

fn path_options(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<PathOptions> {
    use hcm::PathWithEscapedSlashesAction as Action;
    Ok(PathOptions {
        normalize: flag(&pb.normalize_path).unwrap_or(false),
        merge_slashes: pb.merge_slashes,
        escaped_slashes: match known(at, "path_with_escaped_slashes_action", pb.path_with_escaped_slashes_action)? {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
            Action::RejectRequest => EscapedSlashes::Reject,
            Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    })
}

fn underscores(at: &At<'_>, pb: &core::HttpProtocolOptions) -> Result<UnderscoresAction> {
    Ok(match known(at, "headers_with_underscores_action", pb.headers_with_underscores_action)? {
        HeadersWithUnderscoresAction::Allow => UnderscoresAction::Allow,
        HeadersWithUnderscoresAction::RejectRequest => UnderscoresAction::Reject,
        HeadersWithUnderscoresAction::DropHeader => UnderscoresAction::Drop,
    })
}

fn timeouts(
    at: &At<'_>,
    pb: &pb::HttpConnectionManager,
    common: &core::HttpProtocolOptions,
) -> Result<ManagerTimeouts> {
    let defaults = ManagerTimeouts::default();
    let inner = at.field("common_http_protocol_options");
    let max_connection = duration(&inner, "max_connection_duration", &common.max_connection_duration)?;
    let max_stream = duration(&inner, "max_stream_duration", &common.max_stream_duration)?;
    let headers = duration(at, "request_headers_timeout", &pb.request_headers_timeout)?;
    Ok(ManagerTimeouts {
        idle: duration(&inner, "idle_timeout", &common.idle_timeout)?.unwrap_or(defaults.idle),
        max_connection_duration: max_connection.unwrap_or_default(),
        connection_duration_jitter: jitter(&inner, common)?,
        stream_idle: duration(at, "stream_idle_timeout", &pb.stream_idle_timeout)?.unwrap_or(defaults.stream_idle),
        request: duration(at, "request_timeout", &pb.request_timeout)?.unwrap_or_default(),
        request_headers: headers.unwrap_or_default(),
        max_stream_duration: max_stream.unwrap_or_default(),
        drain: duration(at, "drain_timeout", &pb.drain_timeout)?.unwrap_or(defaults.drain),
        max_requests_per_connection: uint(&common.max_requests_per_connection).unwrap_or(0),
    })
}

/// `max_connection_duration_jitter`
pub(super) fn jitter(at: &At<'_>, common: &core::HttpProtocolOptions) -> Result<f64> {
    let value = common.max_connection_duration_jitter.as_ref().map_or(0.0, |jitter| jitter.value);
    match (0.0..=100.0).contains(&value) {
        true => Ok(value),
        false => at.field("max_connection_duration_jitter").wrong(format!("{value} is not a percentage from 0 to 100")),
    }
}

fn upgrades(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<Vec<Box<str>>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for (index, upgrade) in pb.upgrade_configs.iter().enumerate() {
        let at = at.item("upgrade_configs", index);
        let name = lower(not_empty(&at, "upgrade_type", &upgrade.upgrade_type)?);
        if names.contains(&name) {
            return at.field("upgrade_type").wrong(format!("`{name}` is configured twice"));
        }
        if flag(&upgrade.enabled).unwrap_or(true) {
            names.push(name);
        }
    }
    Ok(names)
}

fn proxy_status(cx: &Context<'_>, pb: &hcm::ProxyStatusConfig) -> ProxyStatus {
    use hcm::proxy_status_config::ProxyName;
    ProxyStatus {
        remove_details: pb.remove_details,
        remove_connection_termination_details: pb.remove_connection_termination_details,
        remove_response_flags: pb.remove_response_flags,
        set_recommended_response_code: pb.set_recommended_response_code,
        proxy_name: match &pb.proxy_name {
            Some(ProxyName::UseNodeId(true)) => cx.scope.node_id.as_str().into(),
            Some(ProxyName::LiteralProxyName(name)) => name.as_str().into(),
            _ => "envoy".into(),
        },
    }
}

pub(super) fn http1(at: &At<'_>, pb: Option<&core::Http1ProtocolOptions>) -> Result<Http1Options> {
    let Some(pb) = pb else { return Ok(Http1Options::default()) };
    let key_format = pb.header_key_format.as_ref().and_then(|format| format.header_format.as_ref());
    let proper_case = match key_format {
        None => false,
        Some(HeaderFormat::ProperCaseWords(_)) => true,
        Some(HeaderFormat::StatefulFormatter(_)) => {
            return at.field("header_key_format").field("stateful_formatter").wrong("is not implemented");
        }
    };
    Ok(Http1Options {
        allow_absolute_url: flag(&pb.allow_absolute_url).unwrap_or(true),
        accept_http_10: pb.accept_http_10,
        default_host_for_http_10: pb.default_host_for_http_10.as_str().into(),
        enable_trailers: pb.enable_trailers,
        proper_case,
    })
}

pub(super) fn http2(at: &At<'_>, pb: Option<&core::Http2ProtocolOptions>) -> Result<Http2Options> {
    let defaults = Http2Options::default();
    let Some(pb) = pb else { return Ok(defaults) };
    let window = |name: &str, value: Option<u32>, default: u32| match value {
        Some(size) if !(65_535..=0x7fff_ffff).contains(&size) => {
            at.field(name).wrong(format!("{size} is not from 65535 to 2147483647"))
        }
        size => Ok(size.unwrap_or(default)),
    };
    let streams = uint(&pb.max_concurrent_streams).unwrap_or(defaults.max_concurrent_streams);
    if streams == 0 || streams > 0x7fff_ffff {
        return at.field("max_concurrent_streams").wrong(format!("{streams} is not from 1 to 2147483647"));
    }
    let keepalive = pb.connection_keepalive.unwrap_or_default();
    let inner = at.field("connection_keepalive");
    Ok(Http2Options {
        max_concurrent_streams: streams,
        initial_stream_window: window(
            "initial_stream_window_size",
            uint(&pb.initial_stream_window_size),
            defaults.initial_stream_window,
        )?,
        initial_connection_window: window(
            "initial_connection_window_size",
            uint(&pb.initial_connection_window_size),
            defaults.initial_connection_window,
        )?,
        allow_connect: pb.allow_connect,
        keepalive_interval: duration(&inner, "interval", &keepalive.interval)?.unwrap_or(Duration::ZERO),
        keepalive_timeout: positive(&inner, "timeout", &keepalive.timeout)?.unwrap_or(defaults.keepalive_timeout),
    })
}
