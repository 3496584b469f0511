//! HTTP filters before the router, and `typed_per_filter_config`.

use super::{
    Context, Result, Scope, flag, format, header, health_check, known, limits, matcher, not_empty, on_demand, uint,
    unpack,
};
use crate::pb::envoy::config::core::v3::{KeyValueMutation, key_value_append::KeyValueAppendAction};
use crate::pb::envoy::config::route::v3::FilterConfig;
use crate::pb::envoy::extensions::filters::common::fault::v3 as common;
use crate::pb::envoy::extensions::filters::http::buffer::v3::{self as buffer, buffer_per_route::Override};
use crate::pb::envoy::extensions::filters::http::cors::v3 as cors;
use crate::pb::envoy::extensions::filters::http::fault::v3 as fault;
use crate::pb::envoy::extensions::filters::http::header_mutation::v3 as mutation;
use crate::pb::envoy::extensions::filters::http::on_demand::v3::{OnDemand, PerRouteConfig};
use crate::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use crate::pb::google::protobuf::value::Kind;
use crate::problem::{At, gather};
use crate::schema::type_name;
use common::fault_delay::FaultDelaySecifier;
use common::fault_rate_limit::LimitType;
use envoy_types::pb::google::protobuf::Any;
use fault::fault_abort::ErrorType;
use model::filter::{
    BodyBuffer, Chance, CorsPolicy, Fault, FaultAbort, FaultDelay, FaultRate, FilterKind, HeaderMutation,
    QueryMutation, RouteFilter, RouteFilters,
};
use model::header::AppendAction;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
pub(super) const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const GRPC_WEB: &str = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
const HEALTH_CHECK: &str = "envoy.extensions.filters.http.health_check.v3.HealthCheck";
const CORS_POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
const HEADER_MUTATION: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
const HEADER_MUTATION_OF_ROUTE: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute";
const BUFFER: &str = "envoy.extensions.filters.http.buffer.v3.Buffer";
const BUFFER_OF_ROUTE: &str = "envoy.extensions.filters.http.buffer.v3.BufferPerRoute";
const RATE_LIMIT: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const ADMISSION: &str = "envoy.extensions.filters.http.admission_control.v3.AdmissionControl";
const CONCURRENCY: &str = "envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency";
const ON_DEMAND: &str = "envoy.extensions.filters.http.on_demand.v3.OnDemand";
const ON_DEMAND_OF_ROUTE: &str = "envoy.extensions.filters.http.on_demand.v3.PerRouteConfig";
const KNOWN: &str = "fault, cors, grpc_web, health_check, header_mutation, buffer, local_ratelimit, admission_control, adaptive_concurrency, \
    on_demand and router";
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// A filter of the connection manager.
pub(super) fn kind(cx: &Context<'_>, at: &At<'_>, any: &Any) -> Result<FilterKind> {
    match type_name(&any.type_url) {
        FAULT => Ok(FilterKind::Fault(fault(at, &unpack(at, any)?)?)),
        CORS => Ok(FilterKind::Cors),
        GRPC_WEB => Ok(FilterKind::GrpcWeb),
        HEALTH_CHECK => health_check::health_check(cx, at, &unpack(at, any)?).map(FilterKind::HealthCheck),
        HEADER_MUTATION => {
            let config: mutation::HeaderMutation = unpack(at, any)?;
            let mutations = mutations(&at.field("mutations"), config.mutations.as_ref())?;
            let most_specific_wins = config.most_specific_header_mutations_wins;
            Ok(FilterKind::HeaderMutation(HeaderMutation { most_specific_wins, ..mutations }))
        }
        BUFFER => body_buffer(at, &unpack(at, any)?).map(FilterKind::Buffer),
        RATE_LIMIT => limits::rate_limit(at, &unpack(at, any)?).map(FilterKind::LocalRateLimit),
        ON_DEMAND => {
            let config: OnDemand = unpack(at, any)?;
            on_demand::of_filter(cx.scope, at, config.odcds.as_ref()).map(FilterKind::OnDemand)
        }
        ADMISSION => limits::admission(at, &unpack(at, any)?).map(|one| FilterKind::AdmissionControl(Arc::new(one))),
        CONCURRENCY => {
            limits::concurrency(at, &unpack(at, any)?).map(|one| FilterKind::AdaptiveConcurrency(Arc::new(one)))
        }
        other => at.wrong(format!("HTTP filter `{other}` is not implemented; {KNOWN} are")),
    }
}

/// What a route table, virtual host, route or weighted cluster says about filters.
pub(super) fn of_route(scope: &Scope, at: &At<'_>, pb: &HashMap<String, Any>) -> Result<RouteFilters> {
    let mut names: Vec<&String> = pb.keys().collect();
    names.sort();
    let filters = names.into_iter().map(|name| {
        let at = at.key("typed_per_filter_config", name);
        Ok((name.as_str().into(), one(scope, &at, &pb[name])?))
    });
    gather(filters).map(Vec::into_boxed_slice)
}

fn one(scope: &Scope, at: &At<'_>, any: &Any) -> Result<RouteFilter> {
    match type_name(&any.type_url) {
        FAULT => Ok(RouteFilter::Fault(fault(at, &unpack(at, any)?)?)),
        CORS_POLICY => Ok(RouteFilter::Cors(policy(at, &unpack(at, any)?)?)),
        HEADER_MUTATION_OF_ROUTE => {
            let config: mutation::HeaderMutationPerRoute = unpack(at, any)?;
            mutations(&at.field("mutations"), config.mutations.as_ref()).map(RouteFilter::HeaderMutation)
        }
        BUFFER_OF_ROUTE => match unpack::<buffer::BufferPerRoute>(at, any)?.r#override {
            Some(Override::Disabled(true)) => Ok(RouteFilter::Disabled),
            Some(Override::Buffer(one)) => body_buffer(&at.field("buffer"), &one).map(RouteFilter::Buffer),
            _ => at.field("disabled").wrong("must be true; or give buffer"),
        },
        RATE_LIMIT => limits::rate_limit(at, &unpack(at, any)?).map(RouteFilter::LocalRateLimit),
        ON_DEMAND_OF_ROUTE => {
            let config: PerRouteConfig = unpack(at, any)?;
            on_demand::of_filter(scope, at, config.odcds.as_ref()).map(RouteFilter::OnDemand)
        }
        FILTER_CONFIG => {
            let config: FilterConfig = unpack(at, any)?;
            match &config.config {
                _ if config.disabled => Ok(RouteFilter::Disabled),
                Some(inner) if type_name(&inner.type_url) != FILTER_CONFIG => one(scope, &at.field("config"), inner),
                _ => at.field("config").wrong("is required unless disabled is true"),
            }
        }
        other => at.wrong(format!("`{other}` is not implemented; HTTPFault, CorsPolicy, HeaderMutationPerRoute, BufferPerRoute, LocalRateLimit and FilterConfig are")),
    }
}

fn body_buffer(at: &At<'_>, pb: &buffer::Buffer) -> Result<BodyBuffer> {
    match uint(&pb.max_request_bytes) {
        None => at.field("max_request_bytes").wrong("is required"),
        Some(0) => at.field("max_request_bytes").wrong("must be at least 1"),
        Some(most) => Ok(BodyBuffer { most }),
    }
}

fn mutations(at: &At<'_>, pb: Option<&mutation::Mutations>) -> Result<HeaderMutation> {
    let Some(pb) = pb else { return Ok(HeaderMutation::default()) };
    let query = pb.query_parameter_mutations.iter().enumerate();
    Ok(HeaderMutation {
        request: header::mutations(at, "request_mutations", &pb.request_mutations)?,
        response: header::mutations(at, "response_mutations", &pb.response_mutations)?,
        query: gather(query.map(|(index, one)| query_mutation(&at.item("query_parameter_mutations", index), one)))?,
        most_specific_wins: false,
    })
}

fn query_mutation(at: &At<'_>, pb: &KeyValueMutation) -> Result<QueryMutation> {
    let Some(append) = &pb.append else {
        return not_empty(at, "remove", &pb.remove).map(|name| QueryMutation::Remove(name.into()));
    };
    if !pb.remove.is_empty() {
        return at.field("remove").wrong("cannot be set together with append");
    }
    let at = at.field("append");
    let record = at.required("record", &append.record)?;
    let place = at.field("record");
    let Some(Kind::StringValue(value)) = record.value.as_ref().and_then(|value| value.kind.as_ref()) else {
        return place.field("value").wrong("must be a string");
    };
    Ok(QueryMutation::Set {
        name: not_empty(&place, "key", &record.key)?.into(),
        value: format::format(&place.field("value"), value)?,
        action: match known(&at, "action", append.action)? {
            KeyValueAppendAction::AppendIfExistsOrAdd => AppendAction::AppendIfExistsOrAdd,
            KeyValueAppendAction::AddIfAbsent => AppendAction::AddIfAbsent,
            KeyValueAppendAction::OverwriteIfExistsOrAdd => AppendAction::OverwriteIfExistsOrAdd,
            KeyValueAppendAction::OverwriteIfExists => AppendAction::OverwriteIfExists,
        },
    })
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
        most_active: uint(&pb.max_active_faults),
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
