//! One consistent view of the configuration, linked by name and immutable.

use crate::cluster::Cluster;
use crate::demand::Source;
use crate::endpoint::{Assignment, Locality};
use crate::listener::Listener;
use crate::route::RouteTable;
use crate::scope::Scope;
use crate::tls::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What workers see. Parts that did not change keep their `Arc`, so comparing pointers finds what did.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows by one with each published snapshot.
    pub generation: u64,
    pub listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    pub clusters: BTreeMap<Arc<str>, Arc<Cluster>>,
    /// RDS route tables by name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteTable>>,
    /// SRDS scopes by where they come from.
    pub scopes: BTreeMap<Source, Arc<[Arc<Scope>]>>,
    /// EDS assignments and resolved DNS names, by cluster service name.
    pub assignments: BTreeMap<Arc<str>, Arc<Assignment>>,
    /// SDS secrets by name.
    pub secrets: BTreeMap<Arc<str>, Secret>,
    /// Where this proxy is among its peers, for zone-aware balancing.
    pub zone: Option<Arc<OwnZone>>,
}

/// `node.locality` and `cluster_manager.local_cluster_name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnZone {
    pub locality: Locality,
    /// The cluster that all proxies like this one are in.
    pub cluster: Arc<str>,
}
