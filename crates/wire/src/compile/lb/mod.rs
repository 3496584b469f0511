//! Load balancing: `load_balancing_policy`, or the older `lb_policy` with what belongs to it.

mod common;
mod extension;
mod hash;
mod legacy;
mod own;
mod subset;

pub(super) use hash::policies as hash_policies;

use super::Result;
use crate::pb::envoy::config::cluster::v3 as pb;
use crate::problem::At;
use model::balance::{Localities, Policy, Subsets};

/// What a cluster's configuration says of balancing.
pub(super) struct Balancing {
    pub(super) policy: Policy,
    pub(super) localities: Localities,
    pub(super) subsets: Option<Subsets>,
}

impl Balancing {
    /// Where the cluster itself chooses hosts, no policy does.
    pub(super) fn chosen() -> Self {
        Balancing::by(Policy::Random)
    }

    fn by(policy: Policy) -> Self {
        Balancing { policy, localities: Localities::default(), subsets: None }
    }
}

pub(super) fn balancing(at: &At<'_>, pb: &pb::Cluster) -> Result<Balancing> {
    let Some(list) = &pb.load_balancing_policy else { return legacy::balancing(at, pb) };
    if pb.lb_subset_config.is_some() {
        return at.field("lb_subset_config").wrong("cannot be set together with load_balancing_policy");
    }
    if let Some(config) = &pb.common_lb_config
        && (config.locality_config_specifier.is_some() || config.consistent_hashing_lb_config.is_some())
    {
        let text = "its locality and hashing fields cannot be set together with load_balancing_policy";
        return at.field("common_lb_config").wrong(text);
    }
    extension::first_known(&at.field("load_balancing_policy"), list)
}
