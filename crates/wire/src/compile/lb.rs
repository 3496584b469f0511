//! Load balancing policies: `load_balancing_policy`, or the older `lb_policy`.

use super::{Result, flag, known, uint, unpack};
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::pb::envoy::config::core::v3::RuntimeDouble;
use crate::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use crate::problem::At;
use crate::schema::type_name;
use model::balance::{self, Policy};
use pb::cluster::{LbConfig, LbPolicy as Named};

pub(super) fn policy(at: &At<'_>, pb: &pb::Cluster) -> Result<Policy> {
    if let Some(list) = &pb.load_balancing_policy {
        return first_known(&at.field("load_balancing_policy"), list);
    }
    match known(at, "lb_policy", pb.lb_policy)? {
        Named::RoundRobin => Ok(Policy::RoundRobin { slow_start: None }),
        Named::Random => Ok(Policy::Random),
        Named::LeastRequest => match &pb.lb_config {
            Some(LbConfig::LeastRequestLbConfig(config)) => {
                let at = at.field("least_request_lb_config");
                least_request(&at, uint(&config.choice_count), config.active_request_bias.as_ref())
            }
            _ => least_request(at, None, None),
        },
        Named::LoadBalancingPolicyConfig => at.field("load_balancing_policy").wrong("is required by lb_policy"),
        other @ (Named::RingHash | Named::Maglev | Named::ClusterProvided) => {
            let text = format!("{} is not implemented; use ROUND_ROBIN, LEAST_REQUEST or RANDOM", other.as_str_name());
            at.field("lb_policy").wrong(text)
        }
    }
}

/// Envoy takes the first policy of the list that it knows.
fn first_known(at: &At<'_>, list: &pb::LoadBalancingPolicy) -> Result<Policy> {
    let mut names = Vec::new();
    for (index, policy) in list.policies.iter().enumerate() {
        let at = at.item("policies", index);
        let extension = at.required("typed_extension_config", &policy.typed_extension_config)?;
        let at = at.field("typed_extension_config");
        let any = at.required("typed_config", &extension.typed_config)?;
        let at = at.field("typed_config");
        match type_name(&any.type_url) {
            "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" => {
                return Ok(Policy::RoundRobin { slow_start: None });
            }
            "envoy.extensions.load_balancing_policies.random.v3.Random" => return Ok(Policy::Random),
            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" => {
                let config: LeastRequest = unpack(&at, any)?;
                if flag(&config.enable_full_scan) == Some(true) {
                    return at.field("enable_full_scan").wrong("is not implemented");
                }
                return least_request(&at, uint(&config.choice_count), config.active_request_bias.as_ref());
            }
            other => names.push(other),
        }
    }
    let text = format!("none of [{}] is implemented; round_robin, least_request and random are", names.join(", "));
    at.field("policies").wrong(text)
}

fn least_request(at: &At<'_>, choices: Option<u32>, bias: Option<&RuntimeDouble>) -> Result<Policy> {
    let choices = choices.unwrap_or(2);
    if choices < 2 {
        return at.field("choice_count").wrong("must be at least 2");
    }
    let bias = bias.map_or(1.0, |bias| bias.default_value);
    if bias.is_nan() || bias < 0.0 {
        return at.field("active_request_bias").wrong("must not be negative");
    }
    Ok(Policy::LeastRequest(balance::LeastRequest { choices, bias, full_scan: false, slow_start: None }))
}
