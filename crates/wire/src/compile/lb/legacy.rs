//! `lb_policy` and the fields of the cluster that go with it.

use super::super::{Result, known};
use super::common::{hashing, least_request, maglev, percent, ring_hash, slow_start};
use super::{Balancing, subset};
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::problem::At;
use model::balance::{HashFunction, Hashing, Localities, Policy, SlowStart, ZoneAware};
use pb::cluster::common_lb_config::LocalityConfigSpecifier;
use pb::cluster::ring_hash_lb_config::HashFunction as PbHashFunction;
use pb::cluster::{CommonLbConfig, LbConfig, LbPolicy};

pub(super) fn balancing(at: &At<'_>, pb: &pb::Cluster) -> Result<Balancing> {
    let common = pb.common_lb_config.as_ref();
    let place = at.field("common_lb_config");
    let subsets = pb.lb_subset_config.as_ref();
    Ok(Balancing {
        policy: policy(at, pb, shared_hashing(&place, common)?)?,
        localities: localities(&place, common)?,
        subsets: subsets.map(|subsets| subset::legacy(&at.field("lb_subset_config"), subsets)).transpose()?,
    })
}

fn policy(at: &At<'_>, pb: &pb::Cluster, hashing: Hashing) -> Result<Policy> {
    let config = pb.lb_config.as_ref();
    match known(at, "lb_policy", pb.lb_policy)? {
        LbPolicy::RoundRobin => Ok(Policy::RoundRobin {
            slow_start: match config {
                Some(LbConfig::RoundRobinLbConfig(config)) => {
                    slow_start_of(&at.field("round_robin_lb_config"), &config.slow_start_config)?
                }
                _ => None,
            },
        }),
        LbPolicy::Random => Ok(Policy::Random),
        LbPolicy::LeastRequest => match config {
            Some(LbConfig::LeastRequestLbConfig(config)) => {
                let at = at.field("least_request_lb_config");
                let slow_start = slow_start_of(&at, &config.slow_start_config)?;
                least_request(&at, &config.choice_count, &config.active_request_bias, false, slow_start)
            }
            _ => least_request(at, &None, &None, false, None),
        },
        LbPolicy::RingHash => match config {
            Some(LbConfig::RingHashLbConfig(config)) => {
                let at = at.field("ring_hash_lb_config");
                let function = match known(&at, "hash_function", config.hash_function)? {
                    PbHashFunction::XxHash => HashFunction::XxHash,
                    PbHashFunction::MurmurHash2 => HashFunction::MurmurHash2,
                };
                ring_hash(&at, &config.minimum_ring_size, &config.maximum_ring_size, function, hashing)
            }
            _ => ring_hash(at, &None, &None, HashFunction::XxHash, hashing),
        },
        LbPolicy::Maglev => match config {
            Some(LbConfig::MaglevLbConfig(config)) => {
                maglev(&at.field("maglev_lb_config"), &config.table_size, hashing)
            }
            _ => maglev(at, &None, hashing),
        },
        LbPolicy::LoadBalancingPolicyConfig => at.field("load_balancing_policy").wrong("is required by lb_policy"),
        LbPolicy::ClusterProvided => {
            at.field("lb_policy").wrong("CLUSTER_PROVIDED is for clusters with a policy of their own; choose another")
        }
    }
}

fn slow_start_of(at: &At<'_>, pb: &Option<pb::cluster::SlowStartConfig>) -> Result<Option<SlowStart>> {
    let Some(pb) = pb else { return Ok(None) };
    let at = at.field("slow_start_config");
    slow_start(&at, &pb.slow_start_window, &pb.aggression, pb.min_weight_percent.as_ref())
}

fn shared_hashing(at: &At<'_>, pb: Option<&CommonLbConfig>) -> Result<Hashing> {
    let Some(pb) = pb.and_then(|pb| pb.consistent_hashing_lb_config.as_ref()) else { return Ok(Hashing::default()) };
    hashing(&at.field("consistent_hashing_lb_config"), pb.use_hostname_for_hashing, &pb.hash_balance_factor)
}

fn localities(at: &At<'_>, pb: Option<&CommonLbConfig>) -> Result<Localities> {
    Ok(match pb.and_then(|pb| pb.locality_config_specifier.as_ref()) {
        None => Localities::default(),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => Localities::Weighted,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(pb)) => {
            let at = at.field("zone_aware_lb_config");
            Localities::ZoneAware(ZoneAware {
                routing_enabled: percent(&at.field("routing_enabled"), pb.routing_enabled.as_ref(), 100.0)?.round()
                    as u32,
                min_cluster_size: pb.min_cluster_size.as_ref().map_or(6, |size| size.value),
                fail_traffic_on_panic: pb.fail_traffic_on_panic,
                force_local: false,
            })
        }
    })
}
