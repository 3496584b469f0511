//! `load_balancing_policy`: policies as extensions.

use super::super::{Result, duration, flag, known, positive, unpack};
use super::common::{hashing, least_request, maglev, percent, ring_hash, slow_start};
use super::{Balancing, own, subset};
use crate::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use crate::pb::envoy::extensions::load_balancing_policies as ext;
use crate::pb::google::protobuf::Any;
use crate::problem::At;
use crate::schema::type_name;
use ext::common::v3::locality_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig};
use ext::common::v3::{ConsistentHashingLbConfig, LocalityLbConfig, SlowStartConfig};
use ext::least_request::v3::least_request::SelectionMethod;
use ext::ring_hash::v3::ring_hash::HashFunction as PbHashFunction;
use model::balance::{ClientWeighted, HashFunction, Hashing, Localities, Policy, SlowStart, ZoneAware};

/// Envoy takes the first policy of the list that it knows.
pub(super) fn first_known(at: &At<'_>, list: &LoadBalancingPolicy) -> Result<Balancing> {
    let mut names = Vec::new();
    for (index, policy) in list.policies.iter().enumerate() {
        let at = at.item("policies", index);
        let extension = at.required("typed_extension_config", &policy.typed_extension_config)?;
        let at = at.field("typed_extension_config");
        let any = at.required("typed_config", &extension.typed_config)?;
        match policy_of(&at.field("typed_config"), &extension.name, any)? {
            Some(balancing) => return Ok(balancing),
            None => names.push(if extension.name.is_empty() { type_name(&any.type_url) } else { &extension.name }),
        }
    }
    let text = format!(
        "none of [{}] is implemented; round_robin, least_request, random, ring_hash, maglev, wrr_locality, \
         client_side_weighted_round_robin, subset, and by name {} and {} are",
        names.join(", "),
        own::ADAPTIVE,
        own::PEAK_EWMA
    );
    at.field("policies").wrong(text)
}

fn policy_of(at: &At<'_>, name: &str, any: &Any) -> Result<Option<Balancing>> {
    const PREFIX: &str = "envoy.extensions.load_balancing_policies.";
    let kind = type_name(&any.type_url);
    if kind == "google.protobuf.Struct" {
        return Ok(own::policy(at, name, any)?.map(Balancing::by));
    }
    let Some(kind) = kind.strip_prefix(PREFIX) else { return Ok(None) };
    Ok(Some(match kind {
        "round_robin.v3.RoundRobin" => {
            let pb: ext::round_robin::v3::RoundRobin = unpack(at, any)?;
            let policy = Policy::RoundRobin { slow_start: slow_start_of(at, &pb.slow_start_config)? };
            Balancing { localities: localities(at, &pb.locality_lb_config)?, ..Balancing::by(policy) }
        }
        "random.v3.Random" => {
            let pb: ext::random::v3::Random = unpack(at, any)?;
            Balancing { localities: localities(at, &pb.locality_lb_config)?, ..Balancing::by(Policy::Random) }
        }
        "least_request.v3.LeastRequest" => least_request_of(at, any)?,
        "ring_hash.v3.RingHash" => ring_hash_of(at, any)?,
        "maglev.v3.Maglev" => {
            let pb: ext::maglev::v3::Maglev = unpack(at, any)?;
            let policy = maglev(at, &pb.table_size, hashing_of(at, &pb.consistent_hashing_lb_config)?)?;
            Balancing { localities: weighted(&pb.locality_weighted_lb_config), ..Balancing::by(policy) }
        }
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin" => {
            Balancing::by(Policy::ClientWeighted(client_weighted(at, any)?.into()))
        }
        "wrr_locality.v3.WrrLocality" => {
            let pb: ext::wrr_locality::v3::WrrLocality = unpack(at, any)?;
            let inner = at.required("endpoint_picking_policy", &pb.endpoint_picking_policy)?;
            Balancing { localities: Localities::Weighted, ..first_known(&at.field("endpoint_picking_policy"), inner)? }
        }
        "subset.v3.Subset" => {
            let pb: ext::subset::v3::Subset = unpack(at, any)?;
            let inner = at.required("subset_lb_policy", &pb.subset_lb_policy)?;
            let inner = first_known(&at.field("subset_lb_policy"), inner)?;
            Balancing { subsets: Some(subset::extension(at, &pb)?), ..inner }
        }
        _ => return Ok(None),
    }))
}

fn least_request_of(at: &At<'_>, any: &Any) -> Result<Balancing> {
    let pb: ext::least_request::v3::LeastRequest = unpack(at, any)?;
    let full_scan = match known(at, "selection_method", pb.selection_method)? {
        SelectionMethod::FullScan => true,
        SelectionMethod::NChoices => flag(&pb.enable_full_scan).unwrap_or(false),
    };
    let slow_start = slow_start_of(at, &pb.slow_start_config)?;
    let policy = least_request(at, &pb.choice_count, &pb.active_request_bias, full_scan, slow_start)?;
    Ok(Balancing { localities: localities(at, &pb.locality_lb_config)?, ..Balancing::by(policy) })
}

fn ring_hash_of(at: &At<'_>, any: &Any) -> Result<Balancing> {
    let pb: ext::ring_hash::v3::RingHash = unpack(at, any)?;
    let function = match known(at, "hash_function", pb.hash_function)? {
        PbHashFunction::DefaultHash | PbHashFunction::XxHash => HashFunction::XxHash,
        PbHashFunction::MurmurHash2 => HashFunction::MurmurHash2,
    };
    let hashing = match &pb.consistent_hashing_lb_config {
        Some(_) => hashing_of(at, &pb.consistent_hashing_lb_config)?,
        None => hashing(at, pb.use_hostname_for_hashing, &pb.hash_balance_factor)?,
    };
    let policy = ring_hash(at, &pb.minimum_ring_size, &pb.maximum_ring_size, function, hashing)?;
    Ok(Balancing { localities: weighted(&pb.locality_weighted_lb_config), ..Balancing::by(policy) })
}

fn client_weighted(at: &At<'_>, any: &Any) -> Result<ClientWeighted> {
    let pb: ext::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin = unpack(at, any)?;
    if flag(&pb.enable_oob_load_report) == Some(true) {
        return at.field("enable_oob_load_report").wrong("is not implemented; reports in responses are read");
    }
    let defaults = ClientWeighted::default();
    let penalty = pb.error_utilization_penalty.as_ref().map_or(defaults.error_penalty, |value| f64::from(value.value));
    if penalty.is_nan() || penalty < 0.0 {
        return at.field("error_utilization_penalty").wrong("must not be negative");
    }
    let update = positive(at, "weight_update_period", &pb.weight_update_period)?;
    let shortest = std::time::Duration::from_millis(100);
    Ok(ClientWeighted {
        blackout: duration(at, "blackout_period", &pb.blackout_period)?.unwrap_or(defaults.blackout),
        expiration: duration(at, "weight_expiration_period", &pb.weight_expiration_period)?
            .unwrap_or(defaults.expiration),
        update_period: update.unwrap_or(defaults.update_period).max(shortest),
        error_penalty: penalty,
        metrics: pb.metric_names_for_computing_utilization.iter().map(|name| name.as_str().into()).collect(),
        slow_start: slow_start_of(at, &pb.slow_start_config)?,
    })
}

fn slow_start_of(at: &At<'_>, pb: &Option<SlowStartConfig>) -> Result<Option<SlowStart>> {
    let Some(pb) = pb else { return Ok(None) };
    let at = at.field("slow_start_config");
    slow_start(&at, &pb.slow_start_window, &pb.aggression, pb.min_weight_percent.as_ref())
}

fn hashing_of(at: &At<'_>, pb: &Option<ConsistentHashingLbConfig>) -> Result<Hashing> {
    let Some(pb) = pb else { return Ok(Hashing::default()) };
    hashing(&at.field("consistent_hashing_lb_config"), pb.use_hostname_for_hashing, &pb.hash_balance_factor)
}

fn weighted(pb: &Option<LocalityWeightedLbConfig>) -> Localities {
    if pb.is_some() { Localities::Weighted } else { Localities::default() }
}

fn localities(at: &At<'_>, pb: &Option<LocalityLbConfig>) -> Result<Localities> {
    Ok(match pb.as_ref().and_then(|pb| pb.locality_config_specifier.as_ref()) {
        None => Localities::default(),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Localities::Weighted,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(pb)) => {
            let at = at.field("locality_lb_config");
            let at = at.field("zone_aware_lb_config");
            Localities::ZoneAware(ZoneAware {
                routing_enabled: percent(&at.field("routing_enabled"), pb.routing_enabled.as_ref(), 100.0)?.round()
                    as u32,
                min_cluster_size: pb.min_cluster_size.as_ref().map_or(6, |size| size.value),
                fail_traffic_on_panic: pb.fail_traffic_on_panic,
                force_local: pb.force_locality_direct_routing,
            })
        }
    })
}
