//! Where resources come from (`core.v3.ConfigSource`).

use super::{Result, known};
use crate::pb::envoy::config::core::v3 as core;
use crate::problem::At;
use core::api_config_source::ApiType;
use core::config_source::ConfigSourceSpecifier;
use core::grpc_service::TargetSpecifier;

pub use model::demand::Source;

/// The aggregated stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdsSource {
    pub cluster: String,
    pub delta: bool,
    /// Sent with the stream (`initial_metadata`).
    pub metadata: Vec<(String, String)>,
}

pub fn source(at: &At<'_>, pb: &core::ConfigSource) -> Result<Source> {
    version(at, "resource_api_version", pb.resource_api_version)?;
    match at.required("config_source_specifier", &pb.config_source_specifier)? {
        ConfigSourceSpecifier::Ads(_) => Ok(Source::Ads),
        ConfigSourceSpecifier::Path(path) => Ok(Source::Path(path.into())),
        ConfigSourceSpecifier::PathConfigSource(file) => Ok(Source::Path(file.path.clone().into())),
        ConfigSourceSpecifier::ApiConfigSource(api) => {
            let at = at.field("api_config_source");
            let delta = match known(&at, "api_type", api.api_type)? {
                ApiType::Grpc => false,
                ApiType::DeltaGrpc => true,
                ApiType::AggregatedGrpc | ApiType::AggregatedDeltaGrpc => return Ok(Source::Ads),
                other => return not_grpc(&at, other),
            };
            let (cluster, _) = service(&at, api)?;
            Ok(Source::Grpc { cluster, delta })
        }
        // `self` means the stream that delivered the resource; the only streams that deliver resources which
        // refer to others are the aggregated one and files, and a file's listener cannot mean itself.
        ConfigSourceSpecifier::Self_(_) => Ok(Source::Ads),
    }
}

pub fn ads(at: &At<'_>, pb: &core::ApiConfigSource) -> Result<AdsSource> {
    let delta = match known(at, "api_type", pb.api_type)? {
        ApiType::Grpc | ApiType::AggregatedGrpc => false,
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => true,
        other => return not_grpc(at, other),
    };
    let (cluster, metadata) = service(at, pb)?;
    Ok(AdsSource { cluster, delta, metadata })
}

fn not_grpc<T>(at: &At<'_>, found: ApiType) -> Result<T> {
    at.field("api_type").wrong(format!("{} is not implemented; use GRPC or DELTA_GRPC", found.as_str_name()))
}

fn version(at: &At<'_>, name: &str, number: i32) -> Result<()> {
    match known(at, name, number)? {
        core::ApiVersion::V3 | core::ApiVersion::Auto => Ok(()),
        core::ApiVersion::V2 => at.field(name).wrong("V2 is obsolete; use V3"),
    }
}

type Metadata = Vec<(String, String)>;

fn service(at: &At<'_>, api: &core::ApiConfigSource) -> Result<(String, Metadata)> {
    version(at, "transport_api_version", api.transport_api_version)?;
    let [service] = api.grpc_services.as_slice() else {
        return at.field("grpc_services").wrong(format!("must have one service, not {}", api.grpc_services.len()));
    };
    let at = at.item("grpc_services", 0);
    match at.required("target_specifier", &service.target_specifier)? {
        TargetSpecifier::EnvoyGrpc(target) if target.cluster_name.is_empty() => {
            at.field("envoy_grpc").field("cluster_name").wrong("must not be empty")
        }
        TargetSpecifier::EnvoyGrpc(target) => {
            let metadata = service.initial_metadata.iter().map(|header| (header.key.clone(), header.value.clone()));
            Ok((target.cluster_name.clone(), metadata.collect()))
        }
        TargetSpecifier::GoogleGrpc(_) => at.field("google_grpc").wrong("is not implemented; use envoy_grpc"),
    }
}
