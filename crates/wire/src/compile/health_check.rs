//! The health check filter (`filters.http.health_check.v3.HealthCheck`).

use super::{Context, Result, flag, matcher, positive};
use crate::pb::envoy::extensions::filters::http::health_check::v3 as pb;
use crate::problem::{At, gather};
use model::filter::{HealthAnswer, HealthCheck};
use std::time::Duration;

pub(super) fn health_check(cx: &Context<'_>, at: &At<'_>, pb: &pb::HealthCheck) -> Result<HealthCheck> {
    let Some(pass_through) = flag(&pb.pass_through_mode) else {
        return at.field("pass_through_mode").wrong("is required");
    };
    let cached = positive(at, "cache_time", &pb.cache_time)?;
    let answer = match pass_through {
        true if !pb.cluster_min_healthy_percentages.is_empty() => {
            return at.field("cluster_min_healthy_percentages").wrong("cannot be set with pass_through_mode: true");
        }
        true => HealthAnswer::Upstream(cached.unwrap_or(Duration::ZERO)),
        false if cached.is_some() => return at.field("cache_time").wrong("needs pass_through_mode: true"),
        false => HealthAnswer::Clusters(clusters(at, pb)?),
    };
    let headers = matcher::headers(at, "headers", &pb.headers)?;
    Ok(HealthCheck { headers, answer, cluster: cx.scope.node_cluster.as_str().into() })
}

fn clusters(at: &At<'_>, pb: &pb::HealthCheck) -> Result<Vec<(std::sync::Arc<str>, f64)>> {
    let mut all: Vec<_> = pb.cluster_min_healthy_percentages.iter().collect();
    all.sort_by_key(|(name, _)| name.as_str());
    gather(all.into_iter().map(|(name, percent)| match percent.value {
        value if (0.0..=100.0).contains(&value) => Ok((name.as_str().into(), value)),
        value => {
            at.key("cluster_min_healthy_percentages", name).wrong(format!("{value} is not a percentage from 0 to 100"))
        }
    }))
}
