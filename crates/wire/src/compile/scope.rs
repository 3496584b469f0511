//! Scoped routes (`http_connection_manager.v3.ScopedRoutes`, `route.v3.ScopedRouteConfiguration`).

use super::header::header_name;
use super::source::source;
use super::{Context, Result, not_empty, route};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::route::v3 as routes;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3 as pb;
use crate::problem::{At, gather};
use model::scope::{Fragment, Part, Scope, ScopeSource, ScopeTable, ScopedRoutes};
use pb::scoped_routes::ConfigSpecifier;
use pb::scoped_routes::scope_key_builder::fragment_builder::{HeaderValueExtractor, Type, header_value_extractor};
use routes::scoped_route_configuration::key::fragment::Type as KeyType;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) fn scoped_routes(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::ScopedRoutes) -> Result<ScopedRoutes> {
    not_empty(at, "name", &pb.name)?;
    let builder = at.required("scope_key_builder", &pb.scope_key_builder)?;
    let key = key_builder(&at.field("scope_key_builder"), builder)?;
    let tables =
        pb.rds_config_source.as_ref().map(|config| source(&at.field("rds_config_source"), config)).transpose()?;
    let scopes = match at.required("config_specifier", &pb.config_specifier)? {
        ConfigSpecifier::ScopedRouteConfigurationsList(list) => {
            ScopeSource::Inline(listed(cx, &at.field("scoped_route_configurations_list"), list)?)
        }
        ConfigSpecifier::ScopedRds(srds) => {
            let at = at.field("scoped_rds");
            let config = at.required("scoped_rds_config_source", &srds.scoped_rds_config_source)?;
            let source = source(&at.field("scoped_rds_config_source"), config)?;
            cx.need(ResourceKind::ScopedRoutes, "", source.clone());
            ScopeSource::Srds(source)
        }
    };
    match (&scopes, &tables) {
        (ScopeSource::Srds(_), None) => return at.field("rds_config_source").wrong("is required with scoped_rds"),
        (ScopeSource::Srds(_), Some(_)) => {}
        (ScopeSource::Inline(scopes), tables) => {
            for name in scopes.iter().filter_map(|scope| scope.named_table()) {
                let Some(tables) = tables else {
                    return at.field("rds_config_source").wrong(format!("is required: a scope names table `{name}`"));
                };
                cx.need(ResourceKind::Routes, name.clone(), tables.clone());
            }
        }
    }
    Ok(ScopedRoutes { key, scopes, tables })
}

fn listed(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::ScopedRouteConfigurationsList) -> Result<Arc<[Arc<Scope>]>> {
    let mut owners: HashMap<Vec<Box<str>>, Arc<str>> = HashMap::new();
    let scopes = pb.scoped_route_configurations.iter().enumerate().map(|(index, one)| {
        let at = at.item("scoped_route_configurations", index);
        if one.on_demand && one.route_configuration.is_none() {
            return at.field("on_demand").wrong("is for scopes that come by scoped_rds");
        }
        let scope = scope(cx, &at, one)?;
        if let Some(owner) = owners.insert(scope.key.clone(), scope.name.clone()) {
            return at.field("key").wrong(format!("is the key of scope `{owner}` too"));
        }
        Ok(Arc::new(scope))
    });
    gather(scopes).map(Arc::from)
}

/// A scope, listed or discovered.
pub fn scope(cx: &mut Context<'_>, at: &At<'_>, pb: &routes::ScopedRouteConfiguration) -> Result<Scope> {
    let key = at.required("key", &pb.key)?;
    let key_at = at.field("key");
    if key.fragments.is_empty() {
        return key_at.field("fragments").wrong("must have at least one fragment");
    }
    let fragments = key.fragments.iter().enumerate().map(|(index, fragment)| {
        let at = key_at.item("fragments", index);
        let KeyType::StringKey(text) = at.required("string_key", &fragment.r#type)?;
        Ok(text.as_str().into())
    });
    let table = match (&pb.route_configuration, pb.route_configuration_name.as_str()) {
        (Some(table), "") => ScopeTable::Inline(Arc::new(route::table(cx, &at.field("route_configuration"), table)?)),
        (None, "") => {
            return at.field("route_configuration_name").wrong("must not be empty; or give route_configuration");
        }
        (None, name) => ScopeTable::Rds(name.into()),
        (Some(_), _) => {
            return at.field("route_configuration").wrong("cannot be set together with route_configuration_name");
        }
    };
    Ok(Scope {
        name: not_empty(at, "name", &pb.name)?.into(),
        key: gather(fragments)?,
        on_demand: pb.on_demand && matches!(table, ScopeTable::Rds(_)),
        table,
    })
}

fn key_builder(at: &At<'_>, pb: &pb::scoped_routes::ScopeKeyBuilder) -> Result<Vec<Fragment>> {
    if pb.fragments.is_empty() {
        return at.field("fragments").wrong("must have at least one fragment");
    }
    gather(pb.fragments.iter().enumerate().map(|(index, fragment)| {
        let at = at.item("fragments", index);
        let Type::HeaderValueExtractor(extractor) = at.required("header_value_extractor", &fragment.r#type)?;
        part_of_header(&at.field("header_value_extractor"), extractor)
    }))
}

fn part_of_header(at: &At<'_>, pb: &HeaderValueExtractor) -> Result<Fragment> {
    let part = match at.required("extract_type", &pb.extract_type)? {
        header_value_extractor::ExtractType::Index(index) if *index > 0 && pb.element_separator.is_empty() => {
            return at.field("index").wrong("must be 0 without element_separator");
        }
        header_value_extractor::ExtractType::Index(index) => Part::Index(*index as usize),
        header_value_extractor::ExtractType::Element(element) => {
            let at = at.field("element");
            Part::Value {
                separator: not_empty(&at, "separator", &element.separator)?.into(),
                key: not_empty(&at, "key", &element.key)?.into(),
            }
        }
    };
    let header = header_name(&at.field("name"), &pb.name)?;
    Ok(Fragment { header, separator: pb.element_separator.as_str().into(), part })
}
