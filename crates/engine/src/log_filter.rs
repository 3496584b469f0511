//! Which exchanges are logged, and which of the proxy's own answers are changed (`accesslog.v3.AccessLogFilter`).

use crate::format::Context;
use crate::route::matching;
use model::access_log::LogFilter;
use model::refusal::grpc_of_http;

/// `random` decides shares; uniform over all of `u64`.
pub fn passes(filter: &LogFilter, context: &Context<'_>, random: u64) -> bool {
    let info = context.info;
    match filter {
        LogFilter::Status(comparison) => comparison.holds(u64::from(info.status)),
        LogFilter::Duration(comparison) => {
            comparison.holds(info.duration.unwrap_or_default().as_millis().try_into().unwrap_or(u64::MAX))
        }
        LogFilter::NotHealthCheck => !info.health_check,
        LogFilter::Share(ppm) => random % 1_000_000 < u64::from(*ppm),
        LogFilter::And(all) => all.iter().all(|one| passes(one, context, random)),
        LogFilter::Or(any) => any.iter().any(|one| passes(one, context, random)),
        LogFilter::Header(wanted) => matching::header(wanted, context.request),
        LogFilter::Flags(wanted) => {
            let flags = info.flags();
            let found = |flag: &str| wanted.is_empty() || wanted.iter().any(|one| **one == *flag);
            flags.split(',').any(|flag| flag != "-" && found(flag))
        }
        LogFilter::GrpcStatus { statuses, exclude } => statuses.contains(&grpc_status(context)) != *exclude,
    }
}

/// From the trailers, the head, or what the HTTP status means.
fn grpc_status(context: &Context<'_>) -> u8 {
    let heads = [context.trailers, context.response];
    let told = heads.into_iter().flatten().find_map(|head| head.get(b"grpc-status"));
    let told = told.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    told.unwrap_or_else(|| if context.info.status == 200 { 0 } else { grpc_of_http(context.info.status) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Head;
    use crate::info::{ConnectionFacts, StreamInfo};
    use model::Refusal;
    use model::access_log::{Comparison, Order};
    use model::matcher::{HeaderKind, HeaderMatcher};

    #[test]
    fn filters() {
        let mut request = Head::default();
        request.push(b"x", b"1");
        let refusal = Some(Refusal::RouteNotFound);
        let info = StreamInfo { status: 404, refusal, ..StreamInfo::default() };
        let connection = ConnectionFacts::default();
        let context = Context::new(&request, &info, &connection);
        let status = |with, value| LogFilter::Status(Comparison { with, value });
        let header = |name: &str| {
            let kind = HeaderKind::Present(true);
            LogFilter::Header(HeaderMatcher { name: name.into(), kind, invert: false, treat_missing_as_empty: false })
        };
        let flags = |names: &[&str]| LogFilter::Flags(names.iter().map(|name| (*name).into()).collect());
        let grpc = |statuses: &[u8], exclude| LogFilter::GrpcStatus { statuses: statuses.into(), exclude };
        for (filter, wanted) in [
            (status(Order::Equal, 404), true),
            (status(Order::AtLeast, 405), false),
            (status(Order::AtMost, 404), true),
            (status(Order::NotEqual, 404), false),
            (header("x"), true),
            (header("y"), false),
            (flags(&[]), true),
            (flags(&["UH", "NR"]), true),
            (flags(&["UH"]), false),
            (grpc(&[12], false), true),
            (grpc(&[12], true), false),
            (LogFilter::Share(0), false),
            (LogFilter::Share(1_000_000), true),
            (LogFilter::And(vec![header("x"), header("y")]), false),
            (LogFilter::Or(vec![header("x"), header("y")]), true),
        ] {
            assert_eq!(passes(&filter, &context, 5), wanted, "{filter:?}");
        }
    }
}
