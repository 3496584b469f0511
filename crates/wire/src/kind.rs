//! The kinds of resources that xDS carries.

use crate::pb::envoy::config::cluster::v3::Cluster;
use crate::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::pb::envoy::config::listener::v3::Listener;
use crate::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost};
use crate::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::{DecodeError, Message};

/// In the order in which they are asked for and applied, so that nothing refers to what is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    Cluster,
    Endpoints,
    Listener,
    ScopedRoutes,
    Routes,
    VirtualHosts,
    Secret,
}

impl ResourceKind {
    pub const ALL: [ResourceKind; 7] = [
        ResourceKind::Cluster,
        ResourceKind::Endpoints,
        ResourceKind::Listener,
        ResourceKind::ScopedRoutes,
        ResourceKind::Routes,
        ResourceKind::VirtualHosts,
        ResourceKind::Secret,
    ];

    pub fn message_name(self) -> &'static str {
        match self {
            ResourceKind::Cluster => "envoy.config.cluster.v3.Cluster",
            ResourceKind::Endpoints => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceKind::Listener => "envoy.config.listener.v3.Listener",
            ResourceKind::ScopedRoutes => "envoy.config.route.v3.ScopedRouteConfiguration",
            ResourceKind::Routes => "envoy.config.route.v3.RouteConfiguration",
            ResourceKind::VirtualHosts => "envoy.config.route.v3.VirtualHost",
            ResourceKind::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    pub fn type_url(self) -> &'static str {
        match self {
            ResourceKind::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            ResourceKind::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceKind::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            ResourceKind::ScopedRoutes => "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
            ResourceKind::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            ResourceKind::VirtualHosts => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            ResourceKind::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The short name that operators know.
    pub fn short_name(self) -> &'static str {
        match self {
            ResourceKind::Cluster => "CDS",
            ResourceKind::Endpoints => "EDS",
            ResourceKind::Listener => "LDS",
            ResourceKind::ScopedRoutes => "SRDS",
            ResourceKind::Routes => "RDS",
            ResourceKind::VirtualHosts => "VHDS",
            ResourceKind::Secret => "SDS",
        }
    }

    /// Listeners, clusters and scopes are subscribed to as a whole, the others by name.
    pub fn is_wildcard(self) -> bool {
        matches!(self, ResourceKind::Cluster | ResourceKind::Listener | ResourceKind::ScopedRoutes)
    }

    /// Requests may ask for one by name; that it does not exist is an answer to them.
    pub fn is_on_demand(self) -> bool {
        matches!(self, ResourceKind::Cluster | ResourceKind::VirtualHosts)
    }

    /// The name inside an encoded resource.
    pub fn name_of(self, resource: &[u8]) -> Result<String, DecodeError> {
        Ok(match self {
            ResourceKind::Cluster => Cluster::decode(resource)?.name,
            ResourceKind::Endpoints => ClusterLoadAssignment::decode(resource)?.cluster_name,
            ResourceKind::Listener => Listener::decode(resource)?.name,
            ResourceKind::ScopedRoutes => ScopedRouteConfiguration::decode(resource)?.name,
            ResourceKind::Routes => RouteConfiguration::decode(resource)?.name,
            ResourceKind::VirtualHosts => VirtualHost::decode(resource)?.name,
            ResourceKind::Secret => Secret::decode(resource)?.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree() {
        for kind in ResourceKind::ALL {
            assert_eq!(ResourceKind::from_type_url(kind.type_url()), Some(kind));
            assert_eq!(kind.type_url(), format!("type.googleapis.com/{}", kind.message_name()));
        }
        assert_eq!(ResourceKind::from_type_url("type.googleapis.com/x.Y"), None);
    }
}
