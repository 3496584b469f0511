//! Discovery on demand: where what requests ask for comes from (`on_demand.v3.OnDemandCds`, `route.v3.Vhds`).

use super::source::{Source, source};
use super::{Result, Scope, positive};
use crate::pb::envoy::config::core::v3::ConfigSource;
use crate::pb::envoy::extensions::filters::http::on_demand::v3::OnDemandCds;
use crate::pb::google::protobuf::Duration as PbDuration;
use crate::problem::At;
use model::demand::OnDemandClusters;
use std::time::Duration;

pub(super) fn of_filter(scope: &Scope, at: &At<'_>, pb: Option<&OnDemandCds>) -> Result<Option<OnDemandClusters>> {
    let Some(pb) = pb else { return Ok(None) };
    let at = at.field("odcds");
    clusters(scope, &at, "source", &pb.source, &pb.timeout, Duration::from_secs(5)).map(Some)
}

/// `name` is the field of the source; `default` the timeout where none is given.
pub(super) fn clusters(
    scope: &Scope,
    at: &At<'_>,
    name: &str,
    source: &Option<ConfigSource>,
    timeout: &Option<PbDuration>,
    default: Duration,
) -> Result<OnDemandClusters> {
    Ok(OnDemandClusters {
        source: by_name(scope, at, name, source)?,
        timeout: positive(at, "timeout", timeout)?.unwrap_or(default),
    })
}

/// A source that can be asked for single resources as need arises: only delta xDS can.
pub(super) fn by_name(scope: &Scope, at: &At<'_>, name: &str, pb: &Option<ConfigSource>) -> Result<Source> {
    let config = at.required(name, pb)?;
    let at = at.field(name);
    let found = source(&at, config)?;
    match &found {
        Source::Ads if !scope.delta_ads => at.wrong("needs a delta stream; ads_config is none (api_type: DELTA_GRPC)"),
        Source::Path(_) => at.wrong("cannot be a file: what is needed is asked for by name"),
        Source::Grpc { delta: false, .. } => at
            .field("api_config_source")
            .field("api_type")
            .wrong("must be DELTA_GRPC: what is needed is asked for by name"),
        Source::Grpc { cluster, .. } if scope.clusters.as_ref().is_some_and(|names| !names.contains(cluster)) => {
            at.wrong(format!("there is no cluster `{cluster}`"))
        }
        _ => Ok(found),
    }
}
