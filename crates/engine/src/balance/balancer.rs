//! The balancer of a cluster: its hosts as one, or by subset.

use super::subsets::SubsetBalancer;
use super::zones::Unrouted;
use super::{Hosts, Layout, Pick, Priorities, Rules};
use model::balance::Subsets;

/// Made anew when hosts or their health change.
#[derive(Clone, Debug)]
pub enum Balancer {
    Whole(Priorities),
    Subsets(Box<SubsetBalancer>),
}

impl Balancer {
    pub fn new(
        rules: &Rules<'_>,
        subsets: Option<&Subsets>,
        layout: &Layout,
        hosts: &impl Hosts,
        pick: &mut Pick<'_>,
    ) -> Self {
        match subsets {
            None => Balancer::Whole(Priorities::new(rules, layout, hosts, 0..hosts.len(), pick)),
            Some(subsets) => Balancer::Subsets(Box::new(SubsetBalancer::new(subsets, rules, layout, hosts, pick))),
        }
    }

    /// Index of the next host; `None` when there is none.
    pub fn pick(&mut self, hosts: &impl Hosts, pick: &mut Pick<'_>) -> Option<usize> {
        match self {
            Balancer::Whole(priorities) => priorities.pick(hosts, pick),
            Balancer::Subsets(subsets) => subsets.pick(hosts, pick),
        }
    }

    /// Subsets with hosts.
    pub fn subsets(&self) -> usize {
        match self {
            Balancer::Whole(_) => 0,
            Balancer::Subsets(subsets) => subsets.len(),
        }
    }

    /// Why zones do not count, though peers are known.
    pub fn unrouted(&self) -> Option<Unrouted> {
        match self {
            Balancer::Whole(priorities) => priorities.unrouted,
            Balancer::Subsets(_) => None,
        }
    }
}
