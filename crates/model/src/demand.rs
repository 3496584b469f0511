//! Discovery on demand: what requests wait for, and where it is to come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where resources come from (`core.v3.ConfigSource`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The aggregated stream of `dynamic_resources.ads_config`.
    Ads,
    /// A file holding a `DiscoveryResponse` or a list `resources:`, read again when it is replaced.
    Path(PathBuf),
    /// A stream of its own to a cluster.
    Grpc { cluster: String, delta: bool },
}

/// A resource that a request cannot go on without.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Demand {
    pub kind: DemandKind,
    /// Of a virtual host: `<route table>/<host>`.
    pub name: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DemandKind {
    Cluster,
    /// The table of an on-demand scope.
    Routes,
    VirtualHost,
}

impl Demand {
    pub fn cluster(name: impl Into<Arc<str>>) -> Self {
        Demand { kind: DemandKind::Cluster, name: name.into() }
    }

    pub fn routes(name: impl Into<Arc<str>>) -> Self {
        Demand { kind: DemandKind::Routes, name: name.into() }
    }

    pub fn virtual_host(table: &str, host: &str) -> Self {
        Demand { kind: DemandKind::VirtualHost, name: format!("{table}/{host}").into() }
    }
}

/// `filters.http.on_demand.v3.OnDemandCds`, and the same of the TCP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemandClusters {
    pub source: Source,
    /// After this, there is no such cluster.
    pub timeout: Duration,
}
