//! HTTP filters before the router, and `typed_per_filter_config`.

use super::{Result, flag, known, matcher, unpack};
use crate::pb::envoy::config::route::v3::FilterConfig;
use crate::pb::envoy::extensions::filters::common::fault::v3 as common;
use crate::pb::envoy::extensions::filters::http::cors::v3 as cors;
use crate::pb::envoy::extensions::filters::http::fault::v3 as fault;
use crate::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use crate::problem::{At, gather};
use crate::schema::type_name;
use common::fault_delay::FaultDelaySecifier;
use common::fault_rate_limit::LimitType;
use envoy_types::pb::google::protobuf::Any;
use fault::fault_abort::ErrorType;
use model::filter::{
    Chance, CorsPolicy, Fault, FaultAbort, FaultDelay, FaultRate, FilterKind, RouteFilter, RouteFilters,
};
use std::collections::HashMap;

pub(super) const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
pub(super) const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const CORS_POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// A filter of the connection manager.
pub(super) fn kind(at: &At<'_>, any: &Any) -> Result<FilterKind> {
    match type_name(&any.type_url) {
        FAULT => Ok(FilterKind::Fault(fault(at, &unpack(at, any)?)?)),
        CORS => Ok(FilterKind::Cors),
        other => at.wrong(format!("HTTP filter `{other}` is not implemented; fault, cors and router are")),
    }
}

/// What a route table, virtual host, route or weighted cluster says about filters.
pub(super) fn of_route(at: &At<'_>, pb: &HashMap<String, Any>) -> Result<RouteFilters> {
    let mut names: Vec<&String> = pb.keys().collect();
    names.sort();
    gather(names.into_iter().map(|name| {
        let at = at.key("typed_per_filter_config", name);
        Ok((name.as_str().into(), one(&at, &pb[name])?))
    }))
}

fn one(at: &At<'_>, any: &Any) -> Result<RouteFilter> {
    match type_name(&any.type_url) {
        FAULT => Ok(RouteFilter::Fault(fault(at, &unpack(at, any)?)?)),
        CORS_POLICY => Ok(RouteFilter::Cors(policy(at, &unpack(at, any)?)?)),
        FILTER_CONFIG => {
            let config: FilterConfig = unpack(at, any)?;
            match &config.config {
                _ if config.disabled => Ok(RouteFilter::Disabled),
                Some(inner) if type_name(&inner.type_url) != FILTER_CONFIG => one(&at.field("config"), inner),
                _ => at.field("config").wrong("is required unless disabled is true"),
            }
        }
        other => at.wrong(format!("`{other}` is not implemented; HTTPFault, CorsPolicy and FilterConfig are")),
    }
}

fn fault(at: &At<'_>, pb: &fault::HttpFault) -> Result<Fault> {
    let delay = pb.delay.as_ref().map(|delay| fault_delay(&at.field("delay"), delay));
    let abort = pb.abort.as_ref().map(|abort| fault_abort(&at.field("abort"), abort));
    let rate = pb.response_rate_limit.as_ref().map(|rate| fault_rate(&at.field("response_rate_limit"), rate));
    Ok(Fault {
        delay: delay.transpose()?,
        abort: abort.transpose()?,
        rate: rate.transpose()?,
        upstream_cluster: pb.upstream_cluster.as_str().into(),
        headers: matcher::headers(at, "headers", &pb.headers)?,
        downstream_nodes: pb.downstream_nodes.iter().map(|node| node.as_str().into()).collect(),
    })
}

/// No percentage is none at all, as in Envoy.
fn chance<T>(at: &At<'_>, what: T, pb: &Option<FractionalPercent>) -> Result<Chance<T>> {
    let percent = pb.unwrap_or_default();
    let denominator = match known(&at.field("percentage"), "denominator", percent.denominator)? {
        DenominatorType::Hundred => 100,
        DenominatorType::TenThousand => 10_000,
        DenominatorType::Million => 1_000_000,
    };
    Ok(Chance { what, numerator: percent.numerator, denominator })
}

fn fault_delay(at: &At<'_>, pb: &common::FaultDelay) -> Result<Chance<FaultDelay>> {
    let what = match at.required("fault_delay_secifier", &pb.fault_delay_secifier)? {
        FaultDelaySecifier::HeaderDelay(_) => FaultDelay::Header,
        FaultDelaySecifier::FixedDelay(time) => {
            let time = super::positive(at, "fixed_delay", &Some(*time))?.unwrap_or_default();
            FaultDelay::Fixed(time)
        }
    };
    chance(at, what, &pb.percentage)
}

fn fault_abort(at: &At<'_>, pb: &fault::FaultAbort) -> Result<Chance<FaultAbort>> {
    let what = match at.required("error_type", &pb.error_type)? {
        ErrorType::HeaderAbort(_) => FaultAbort::Header,
        ErrorType::HttpStatus(status) => match u16::try_from(*status) {
            Ok(status @ 200..=599) => FaultAbort::Http(status),
            _ => return at.field("http_status").wrong(format!("{status} is not a status from 200 to 599")),
        },
        ErrorType::GrpcStatus(status) => match u8::try_from(*status) {
            Ok(status @ 0..=16) => FaultAbort::Grpc(status),
            _ => return at.field("grpc_status").wrong(format!("{status} is not a gRPC status from 0 to 16")),
        },
    };
    chance(at, what, &pb.percentage)
}

fn fault_rate(at: &At<'_>, pb: &common::FaultRateLimit) -> Result<Chance<FaultRate>> {
    let what = match at.required("limit_type", &pb.limit_type)? {
        LimitType::HeaderLimit(_) => FaultRate::Header,
        LimitType::FixedLimit(limit) if limit.limit_kbps == 0 => {
            return at.field("fixed_limit").field("limit_kbps").wrong("must be at least 1");
        }
        LimitType::FixedLimit(limit) => FaultRate::Fixed(limit.limit_kbps),
    };
    chance(at, what, &pb.percentage)
}

fn policy(at: &At<'_>, pb: &cors::CorsPolicy) -> Result<CorsPolicy> {
    let origins = pb.allow_origin_string_match.iter().enumerate();
    let enabled = pb.filter_enabled.as_ref().map(|fraction| matcher::fraction(&at.field("filter_enabled"), fraction));
    Ok(CorsPolicy {
        allow_origin: gather(
            origins.map(|(index, one)| matcher::string(&at.item("allow_origin_string_match", index), one)),
        )?,
        allow_methods: pb.allow_methods.as_str().into(),
        allow_headers: pb.allow_headers.as_str().into(),
        expose_headers: pb.expose_headers.as_str().into(),
        max_age: pb.max_age.as_str().into(),
        allow_credentials: flag(&pb.allow_credentials),
        allow_private_network_access: flag(&pb.allow_private_network_access),
        forward_not_matching_preflights: flag(&pb.forward_not_matching_preflights),
        enabled_ppm: enabled.transpose()?.unwrap_or(1_000_000),
    })
}
