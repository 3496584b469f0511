//! The same for what comes on demand, and for scoped routes.

use super::table::{Declared, all, some};

pub(super) const ON_DEMAND: &[Declared] = &[
    all("envoy.extensions.filters.http.on_demand.v3.OnDemand"),
    all("envoy.extensions.filters.http.on_demand.v3.PerRouteConfig"),
    some("envoy.extensions.filters.http.on_demand.v3.OnDemandCds", "source timeout"),
    some("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.OnDemand", "odcds_config timeout"),
    all("envoy.config.route.v3.Vhds"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.\
         HeaderValueExtractor"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRoutes.ScopeKeyBuilder.FragmentBuilder.\
         HeaderValueExtractor.KvElement"),
    some("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRds", "scoped_rds_config_source"),
    all("envoy.extensions.filters.network.http_connection_manager.v3.ScopedRouteConfigurationsList"),
    all("envoy.config.route.v3.ScopedRouteConfiguration"),
    all("envoy.config.route.v3.ScopedRouteConfiguration.Key"),
    all("envoy.config.route.v3.ScopedRouteConfiguration.Key.Fragment"),
];
