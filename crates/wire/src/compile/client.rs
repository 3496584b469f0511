//! What the connection manager finds out about clients and their requests before anything else looks at them.

use super::header::{header_name, mutations};
use super::{Context, Result, address, flag, unpack};
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use crate::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation;
use crate::pb::envoy::extensions::http::original_ip_detection::custom_header::v3::CustomHeaderConfig;
use crate::pb::envoy::extensions::http::original_ip_detection::xff::v3::XffConfig;
use crate::problem::{At, gather};
use crate::schema::type_name;
use core::scheme_header_transformation::Transformation;
use model::header::Mutation;
use model::http::{AddressSource, UserAgent};

const EARLY_MUTATION: &str = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";
const FORWARDED: &str = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig";
const CUSTOM_HEADER: &str = "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig";

pub(super) fn early_mutations(at: &At<'_>, pb: &[core::TypedExtensionConfig]) -> Result<Vec<Mutation>> {
    let all = gather(pb.iter().enumerate().map(|(index, extension)| {
        let at = at.item("early_header_mutation_extensions", index);
        let any = at.required("typed_config", &extension.typed_config)?;
        let at = at.field("typed_config");
        if type_name(&any.type_url) != EARLY_MUTATION {
            return at.wrong(format!("`{}` is not implemented; header_mutation is", type_name(&any.type_url)));
        }
        let config: HeaderMutation = unpack(&at, any)?;
        mutations(&at, "mutations", &config.mutations)
    }))?;
    Ok(all.into_iter().flatten().collect())
}

/// `original_ip_detection_extensions`; they replace the older fields, which must then be left alone.
pub(super) fn address_sources(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<Vec<AddressSource>> {
    let extensions = &pb.original_ip_detection_extensions;
    let place = at.field("original_ip_detection_extensions");
    if !extensions.is_empty() && flag(&pb.use_remote_address).unwrap_or(false) {
        return place.wrong("cannot be set together with use_remote_address");
    }
    if !extensions.is_empty() && pb.xff_num_trusted_hops > 0 {
        return place.wrong("cannot be set together with xff_num_trusted_hops");
    }
    gather(extensions.iter().enumerate().map(|(index, extension)| {
        let at = at.item("original_ip_detection_extensions", index);
        let any = at.required("typed_config", &extension.typed_config)?;
        let at = at.field("typed_config");
        match type_name(&any.type_url) {
            FORWARDED => forwarded(&at, &unpack(&at, any)?),
            CUSTOM_HEADER => {
                let config: CustomHeaderConfig = unpack(&at, any)?;
                Ok(AddressSource::Header {
                    name: header_name(&at.field("header_name"), &config.header_name)?,
                    trusted: config.allow_extension_to_set_address_as_trusted,
                    reject: config.reject_with_status.map(|status| rejection(status.code)),
                })
            }
            other => at.wrong(format!("`{other}` is not implemented; xff and custom_header are")),
        }
    }))
}

/// Anything but an error means 403, as in Envoy.
fn rejection(status: i32) -> u16 {
    u16::try_from(status).ok().filter(|status| (400..=511).contains(status)).unwrap_or(403)
}

fn forwarded(at: &At<'_>, pb: &XffConfig) -> Result<AddressSource> {
    if pb.xff_trusted_cidrs.is_some() && pb.xff_num_trusted_hops > 0 {
        return at.field("xff_trusted_cidrs").wrong("cannot be set together with xff_num_trusted_hops");
    }
    let ranges = pb.xff_trusted_cidrs.iter().flat_map(|list| &list.cidrs).enumerate();
    let inner = at.field("xff_trusted_cidrs");
    Ok(AddressSource::Forwarded {
        hops: pb.xff_num_trusted_hops,
        trusted: gather(ranges.map(|(index, range)| address::range(&inner.item("cidrs", index), range)))?,
        append: !flag(&pb.skip_xff_append).unwrap_or(true),
    })
}

pub(super) fn scheme(at: &At<'_>, pb: &pb::HttpConnectionManager) -> Result<Option<Box<str>>> {
    match pb.scheme_header_transformation.as_ref().and_then(|one| one.transformation.as_ref()) {
        None => Ok(None),
        Some(Transformation::SchemeToOverwrite(scheme)) if matches!(scheme.as_str(), "http" | "https") => {
            Ok(Some(scheme.as_str().into()))
        }
        Some(Transformation::SchemeToOverwrite(scheme)) => {
            let at = at.field("scheme_header_transformation");
            at.field("scheme_to_overwrite").wrong(format!("`{scheme}` is neither http nor https"))
        }
    }
}

pub(super) fn user_agent(cx: &Context<'_>, pb: &pb::HttpConnectionManager) -> Option<UserAgent> {
    flag(&pb.add_user_agent)
        .unwrap_or(false)
        .then(|| UserAgent { cluster: cx.scope.node_cluster.as_str().into(), node: cx.scope.node_id.as_str().into() })
}
