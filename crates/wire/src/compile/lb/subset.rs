//! Subsets (`LbSubsetConfig`, and the newer `subset.v3.Subset`).

use super::super::{Result, data, known};
use crate::pb::envoy::config::cluster::v3::cluster::{LbSubsetConfig, lb_subset_config};
use crate::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use crate::problem::{At, gather};
use lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Of;
use lb_subset_config::{LbSubsetFallbackPolicy as All, LbSubsetMetadataFallbackPolicy as List};
use model::balance::{Fallback, Selector, Subsets};
use prost::Message;

pub(super) fn legacy(at: &At<'_>, pb: &LbSubsetConfig) -> Result<Subsets> {
    if known::<List>(at, "metadata_fallback_policy", pb.metadata_fallback_policy)? != List::MetadataNoFallback {
        return at.field("metadata_fallback_policy").wrong("FALLBACK_LIST is not implemented");
    }
    let selectors = pb.subset_selectors.iter().enumerate().map(|(index, one)| {
        let at = at.item("subset_selectors", index);
        let fallback = match known(&at, "fallback_policy", one.fallback_policy)? {
            Of::NotDefined => None,
            Of::NoFallback => Some(Fallback::Nothing),
            Of::AnyEndpoint => Some(Fallback::Any),
            Of::DefaultSubset => Some(Fallback::Default),
            Of::KeysSubset => Some(Fallback::Keys(sorted(&one.fallback_keys_subset))),
        };
        selector(&at, &one.keys, one.single_host_per_subset, fallback, &one.fallback_keys_subset)
    });
    let subsets = Subsets {
        selectors: gather(selectors)?,
        fallback: match known(at, "fallback_policy", pb.fallback_policy)? {
            All::NoFallback => Fallback::Nothing,
            All::AnyEndpoint => Fallback::Any,
            All::DefaultSubset => Fallback::Default,
        },
        default_subset: pb.default_subset.as_ref().map(data::pairs).unwrap_or_default(),
        locality_weight_aware: pb.locality_weight_aware,
        scale_locality_weight: pb.scale_locality_weight,
        panic_mode_any: pb.panic_mode_any,
        list_as_any: pb.list_as_any,
    };
    checked(at, subsets)
}

/// The newer message has the fields of the older one under the same numbers.
pub(super) fn extension(at: &At<'_>, pb: &Subset) -> Result<Subsets> {
    let older = LbSubsetConfig::decode(pb.encode_to_vec().as_slice()).expect("the same fields");
    legacy(at, &older)
}

fn sorted(keys: &[String]) -> Vec<Box<str>> {
    let mut keys: Vec<Box<str>> = keys.iter().map(|key| key.as_str().into()).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn selector(
    at: &At<'_>,
    keys: &[String],
    single_host: bool,
    fallback: Option<Fallback>,
    fallback_keys: &[String],
) -> Result<Selector> {
    let keys = sorted(keys);
    if keys.is_empty() {
        return at.field("keys").wrong("must have at least one key");
    }
    let place = at.field("fallback_keys_subset");
    match &fallback {
        Some(Fallback::Keys(fewer)) => {
            if fewer.is_empty() {
                return place.wrong("must have at least one key for KEYS_SUBSET");
            }
            if fewer.len() >= keys.len() || !fewer.iter().all(|key| keys.contains(key)) {
                return place.wrong("must be some of the selector's keys, and not all");
            }
        }
        _ if !fallback_keys.is_empty() => return place.wrong("can be set with KEYS_SUBSET only"),
        _ => {}
    }
    if single_host && keys.len() != 1 {
        return at.field("single_host_per_subset").wrong("needs a selector with exactly one key");
    }
    Ok(Selector { keys, single_host, fallback })
}

fn checked(at: &At<'_>, subsets: Subsets) -> Result<Subsets> {
    for (index, one) in subsets.selectors.iter().enumerate() {
        if subsets.selectors[..index].iter().any(|other| other.keys == one.keys) {
            return at.item("subset_selectors", index).field("keys").wrong("another selector has the same keys");
        }
    }
    Ok(subsets)
}
