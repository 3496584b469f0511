//! Listeners and filter chains (`listener.v3.Listener`).

use super::{
    Context, Result, access_log, address, cluster, duration, flag, hash_of, http, known, lower, not_empty, positive,
    tcp_proxy, tls, uint, unpack,
};
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::config::listener::v3 as pb;
use crate::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol as PbProxyProtocol;
use crate::pb::envoy::extensions::filters::network::connection_limit::v3::ConnectionLimit;
use crate::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit;
use crate::problem::{At, gather};
use crate::schema::type_name;
use core::proxy_protocol_config::Version;
use ipnet::IpNet;
use model::listener::{
    BucketConfig, ChainMatch, FilterChain, Guard, Listener, NetworkFilter, ProxyProtocol, SocketOptions, SourceType,
};
use pb::filter_chain_match::ConnectionSourceType;
use std::sync::Arc;
use std::time::Duration;

const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const PROXY_PROTOCOL: &str = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
const CONNECTION_LIMIT: &str = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";
const RATE_LIMIT: &str = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit";
const TCP_PROXY: &str = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

pub fn listener(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Listener) -> Result<Listener> {
    let own = address::address(&at.field("address"), at.required("address", &pb.address)?)?;
    let more = pb.additional_addresses.iter().enumerate().map(|(index, more)| {
        let at = at.item("additional_addresses", index);
        address::address(&at.field("address"), at.required("address", &more.address)?)
    });
    let filters = listener_filters(at, &pb.listener_filters)?;
    let (chains, default_chain) = chains(cx, at, pb)?;
    // Envoy adds its inspector by itself where a chain asks for what only the ClientHello tells.
    let asks_for_tls = chains.iter().any(|chain| {
        let m = &chain.matches;
        !m.server_names.is_empty() || !m.transport_protocol.is_empty() || !m.application_protocols.is_empty()
    });
    let timeout = duration(at, "listener_filters_timeout", &pb.listener_filters_timeout)?;
    Ok(Listener {
        name: if pb.name.is_empty() { own.to_string().into() } else { pb.name.as_str().into() },
        address: own,
        additional_addresses: gather(more)?,
        stat_prefix: (!pb.stat_prefix.is_empty()).then(|| pb.stat_prefix.as_str().into()),
        chains,
        default_chain,
        inspect_tls: filters.tls || asks_for_tls,
        inspect_http: filters.http,
        original_dst: filters.original_dst || flag(&pb.use_original_dst).unwrap_or(false),
        continue_on_filters_timeout: pb.continue_on_listener_filters_timeout,
        proxy_protocol: filters.proxy_protocol,
        tcp_keepalive: pb.tcp_keepalive.as_ref().map(cluster::tcp_keepalive),
        listener_filters_timeout: timeout.unwrap_or(Duration::from_secs(15)),
        buffer_limit: uint(&pb.per_connection_buffer_limit_bytes).unwrap_or(1 << 20) as usize,
        ignore_global_limit: pb.ignore_global_conn_limit,
        bypass_overload: pb.bypass_overload_manager,
        hand_over: flag(&pb.use_original_dst).unwrap_or(false),
        socket: SocketOptions {
            bind: flag(&pb.bind_to_port).unwrap_or(true),
            reuse_port: flag(&pb.enable_reuse_port).unwrap_or(true),
            backlog: uint(&pb.tcp_backlog_size).unwrap_or(128),
            transparent: flag(&pb.transparent).unwrap_or(false),
            freebind: flag(&pb.freebind).unwrap_or(false),
        },
        access_logs: access_log::logs(at, "access_log", &pb.access_log)?,
        hash: hash_of(pb),
    })
}

#[derive(Default)]
struct ListenerFilters {
    tls: bool,
    http: bool,
    original_dst: bool,
    proxy_protocol: Option<ProxyProtocol>,
}

fn listener_filters(at: &At<'_>, filters: &[pb::ListenerFilter]) -> Result<ListenerFilters> {
    let mut found = ListenerFilters::default();
    let results = filters.iter().enumerate().map(|(index, filter)| {
        let at = at.item("listener_filters", index);
        let any = match at.required("typed_config", &filter.config_type)? {
            pb::listener_filter::ConfigType::TypedConfig(any) => any,
            pb::listener_filter::ConfigType::ConfigDiscovery(_) => {
                return at.field("config_discovery").wrong("is not implemented; give typed_config");
            }
        };
        match type_name(&any.type_url) {
            "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => found.tls = true,
            "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => found.http = true,
            "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" => found.original_dst = true,
            PROXY_PROTOCOL if found.tls || found.http => {
                return at.wrong("must stand before the inspectors: its header comes first on the wire");
            }
            PROXY_PROTOCOL => {
                let inner = at.field("typed_config");
                found.proxy_protocol = Some(proxy_protocol(&inner, &unpack(&inner, any)?)?);
            }
            other => {
                let text = format!(
                    "listener filter `{other}` is not implemented; tls_inspector, http_inspector, original_dst and \
                     proxy_protocol are"
                );
                return at.wrong(text);
            }
        }
        Ok(())
    });
    gather(results)?;
    Ok(found)
}

fn proxy_protocol(at: &At<'_>, pb: &PbProxyProtocol) -> Result<ProxyProtocol> {
    let mut config = ProxyProtocol { optional: pb.allow_requests_without_proxy_protocol, v1: true, v2: true };
    for version in &pb.disallowed_versions {
        match known::<Version>(at, "disallowed_versions", *version)? {
            Version::V1 => config.v1 = false,
            Version::V2 => config.v2 = false,
        }
    }
    Ok(config)
}

type Chains = (Vec<Arc<FilterChain>>, Option<Arc<FilterChain>>);

fn chains(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::Listener) -> Result<Chains> {
    if pb.filter_chains.is_empty() && pb.default_filter_chain.is_none() {
        return at.field("filter_chains").wrong("must have at least one filter chain");
    }
    let all = pb.filter_chains.iter().enumerate();
    let chains = gather(all.map(|(index, one)| chain(cx, &at.item("filter_chains", index), one).map(Arc::new)))?;
    for (index, later) in chains.iter().enumerate() {
        if let Some(earlier) = chains[..index].iter().position(|earlier| earlier.matches == later.matches) {
            let at = at.item("filter_chains", index);
            let text = format!("filter_chains[{earlier}] matches the same connections");
            return at.field("filter_chain_match").wrong(text);
        }
    }
    let default = pb.default_filter_chain.as_ref();
    let default = default.map(|one| chain(cx, &at.field("default_filter_chain"), one).map(Arc::new));
    Ok((chains, default.transpose()?))
}

fn chain(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::FilterChain) -> Result<FilterChain> {
    let socket = pb.transport_socket.as_ref();
    let tls = socket.map(|socket| tls::server(cx, &at.field("transport_socket"), socket)).transpose()?.flatten();
    let timeout = duration(at, "transport_socket_connect_timeout", &pb.transport_socket_connect_timeout)?;
    let (guards, filter) = network_filters(cx, at, &pb.filters)?;
    let matches = pb.filter_chain_match.as_ref();
    let matches = matches.map(|m| chain_match(&at.field("filter_chain_match"), m)).transpose()?;
    Ok(FilterChain {
        name: pb.name.as_str().into(),
        matches: matches.unwrap_or_default(),
        tls: tls.map(Arc::new),
        transport_connect_timeout: timeout.unwrap_or_default(),
        guards,
        filter,
        hash: hash_of(pb),
    })
}

fn chain_match(at: &At<'_>, pb: &pb::FilterChainMatch) -> Result<ChainMatch> {
    let ranges = |field: &'static str, list: &[core::CidrRange]| -> Result<Vec<IpNet>> {
        gather(list.iter().enumerate().map(|(index, range)| address::range(&at.item(field, index), range)))
    };
    let server_names = pb.server_names.iter().enumerate().map(|(index, name)| {
        // `*` alone would be `*.` with nothing behind; Envoy knows only whole labels.
        let rest = name.strip_prefix("*.").unwrap_or(name);
        if rest.contains('*') || rest.is_empty() {
            let text = format!("`{name}`: a wildcard must be a whole first label, such as *.example.com");
            return at.item("server_names", index).wrong(text);
        }
        Ok(lower(name))
    });
    let ports = pb.source_ports.iter();
    let port = uint(&pb.destination_port).map(|port| address::real_port(at, "destination_port", port));
    Ok(ChainMatch {
        destination_port: port.transpose()?,
        prefix_ranges: ranges("prefix_ranges", &pb.prefix_ranges)?,
        server_names: gather(server_names)?,
        transport_protocol: pb.transport_protocol.as_str().into(),
        application_protocols: pb.application_protocols.iter().map(|name| name.as_str().into()).collect(),
        direct_source_prefix_ranges: ranges("direct_source_prefix_ranges", &pb.direct_source_prefix_ranges)?,
        source_type: match known(at, "source_type", pb.source_type)? {
            ConnectionSourceType::Any => SourceType::Any,
            ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
            ConnectionSourceType::External => SourceType::External,
        },
        source_prefix_ranges: ranges("source_prefix_ranges", &pb.source_prefix_ranges)?,
        source_ports: gather(ports.map(|port| address::real_port(at, "source_ports", *port)))?,
    })
}

/// Guards, and one terminal filter or none.
fn network_filters(cx: &mut Context<'_>, at: &At<'_>, filters: &[pb::Filter]) -> Result<(Vec<Guard>, NetworkFilter)> {
    let mut found = NetworkFilter::Close;
    let mut guards = Vec::new();
    let results = filters.iter().enumerate().map(|(index, filter)| {
        let at = at.item("filters", index);
        let any = match at.required("typed_config", &filter.config_type)? {
            pb::filter::ConfigType::TypedConfig(any) => any,
            pb::filter::ConfigType::ConfigDiscovery(_) => {
                return at.field("config_discovery").wrong("is not implemented; give typed_config");
            }
        };
        let inner = at.field("typed_config");
        let last = index + 1 == filters.len();
        match type_name(&any.type_url) {
            MANAGER | TCP_PROXY if !last => return at.wrong("is a terminal filter; it must be the last"),
            MANAGER => found = NetworkFilter::Http(Arc::new(http::manager(cx, &inner, &unpack(&inner, any)?)?)),
            CONNECTION_LIMIT => guards.extend(connection_limit(&inner, &unpack(&inner, any)?)?),
            RATE_LIMIT => guards.extend(rate_limit(&inner, &unpack(&inner, any)?)?),
            TCP_PROXY => found = NetworkFilter::Tcp(Arc::new(tcp_proxy::tcp_proxy(cx, &inner, &unpack(&inner, any)?)?)),
            other => {
                let text = format!(
                    "network filter `{other}` is not implemented; \
                    http_connection_manager, tcp_proxy, connection_limit and local_ratelimit are"
                );
                return at.wrong(text);
            }
        }
        Ok(())
    });
    gather(results)?;
    Ok((guards, found))
}

/// On unless the default of its runtime flag says otherwise.
fn enabled(runtime: Option<&core::RuntimeFeatureFlag>) -> bool {
    runtime.and_then(|runtime| flag(&runtime.default_value)).unwrap_or(true)
}

fn connection_limit(at: &At<'_>, pb: &ConnectionLimit) -> Result<Option<Guard>> {
    let most = pb.max_connections.as_ref().map(|most| most.value);
    let Some(most) = most.filter(|most| *most > 0) else {
        return at.field("max_connections").wrong("must be at least 1");
    };
    let guard = Guard::ConnectionLimit {
        stat_prefix: not_empty(at, "stat_prefix", &pb.stat_prefix)?.into(),
        most,
        delay: duration(at, "delay", &pb.delay)?.unwrap_or_default(),
    };
    Ok(enabled(pb.runtime_enabled.as_ref()).then_some(guard))
}

fn rate_limit(at: &At<'_>, pb: &LocalRateLimit) -> Result<Option<Guard>> {
    let stat_prefix = not_empty(at, "stat_prefix", &pb.stat_prefix)?.into();
    let bucket = at.required("token_bucket", &pb.token_bucket)?;
    let at = at.field("token_bucket");
    let fill_interval = positive(&at, "fill_interval", &bucket.fill_interval)?;
    let fill_interval = fill_interval.ok_or_else(|| at.field("fill_interval").problem("is required"))?;
    if fill_interval < Duration::from_millis(50) {
        return at.field("fill_interval").wrong("must be at least 50ms");
    }
    let per_fill = uint(&bucket.tokens_per_fill).unwrap_or(1);
    if per_fill == 0 {
        return at.field("tokens_per_fill").wrong("must be at least 1");
    }
    let bucket = BucketConfig { most: bucket.max_tokens, per_fill, fill_interval };
    Ok(enabled(pb.runtime_enabled.as_ref()).then_some(Guard::RateLimit { stat_prefix, bucket }))
}
