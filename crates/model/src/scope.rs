//! Scoped routes: the route table of a request follows from a key that is made of its headers
//! (`http_connection_manager.v3.ScopedRoutes`, `route.v3.ScopedRouteConfiguration`).

use crate::demand::Source;
use crate::route::RouteTable;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct ScopedRoutes {
    /// The fragments of a key, in order. A request that lacks one is in no scope.
    pub key: Vec<Fragment>,
    pub scopes: ScopeSource,
    /// Where tables that scopes name come from.
    pub tables: Option<Source>,
}

#[derive(Clone, Debug)]
pub enum ScopeSource {
    Inline(Arc<[Arc<Scope>]>),
    /// SRDS; looked up in `Snapshot::scopes`.
    Srds(Source),
}

/// `HeaderValueExtractor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Lower case; of several fields the first counts.
    pub header: Box<str>,
    /// Between elements; empty: the whole value is one.
    pub separator: Box<str>,
    pub part: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The element at this place, from 0.
    Index(usize),
    /// What follows the separator in the first element with this key.
    Value { separator: Box<str>, key: Box<str> },
}

#[derive(Debug)]
pub struct Scope {
    pub name: Arc<str>,
    pub key: Vec<Box<str>>,
    pub table: ScopeTable,
    /// The table comes when a request asks for it.
    pub on_demand: bool,
}

#[derive(Debug)]
pub enum ScopeTable {
    Inline(Arc<RouteTable>),
    /// RDS; looked up in `Snapshot::routes`.
    Rds(Arc<str>),
}

impl Scope {
    /// The table that it names.
    pub fn named_table(&self) -> Option<&Arc<str>> {
        match &self.table {
            ScopeTable::Rds(name) => Some(name),
            ScopeTable::Inline(_) => None,
        }
    }
}
