//! Which route table a request is routed by.

use super::service::Routes;
use super::worker::Worker;
use engine::Head;
use engine::route::scope::{key, key_of_scope};
use model::Snapshot;
use model::demand::{Demand, Source};
use model::route::RouteTable;
use model::scope::{Fragment, Scope, ScopeTable, ScopedRoutes};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Of a connection manager.
pub enum Tables {
    One(Rc<Routes>),
    Scoped(ScopedTables),
}

pub struct ScopedTables {
    config: Arc<ScopedRoutes>,
    scopes: Rc<Scopes>,
    /// Where there is no scope there are no routes.
    none: Rc<Routes>,
    scratch: RefCell<Vec<u8>>,
}

/// The present scopes of one source, by key.
#[derive(Default)]
pub struct Scopes {
    list: RefCell<Option<Arc<[Arc<Scope>]>>>,
    by_key: RefCell<HashMap<Vec<u8>, Place, foldhash::fast::RandomState>>,
}

enum Place {
    Here(Rc<Routes>),
    /// RDS.
    Named {
        table: Arc<str>,
        routes: Option<Rc<Routes>>,
        on_demand: bool,
    },
}

type Table = Rc<Arc<RouteTable>>;

impl Tables {
    /// The table for this request.
    pub fn current(&self, head: &Head) -> Table {
        match self {
            Tables::One(routes) => routes.current(),
            Tables::Scoped(scoped) => scoped.table(head).unwrap_or_else(|| scoped.none.current()),
        }
    }

    /// The table that has to be asked for, because this request is in a scope that is on demand.
    pub fn missing(&self, head: &Head) -> Option<(Demand, &Source)> {
        let Tables::Scoped(scoped) = self else { return None };
        let source = scoped.config.tables.as_ref()?;
        let demand = |place: &Place| match place {
            Place::Named { table, routes: None, on_demand: true } => Some(Demand::routes(table.clone())),
            _ => None,
        };
        scoped.look_up(head, demand).map(|demand| (demand, source))
    }
}

impl ScopedTables {
    pub(super) fn new(config: &Arc<ScopedRoutes>, scopes: Rc<Scopes>) -> Self {
        let none = Rc::new(Routes::new(Arc::default()));
        ScopedTables { config: config.clone(), scopes, none, scratch: RefCell::default() }
    }

    fn table(&self, head: &Head) -> Option<Table> {
        self.look_up(head, |place| match place {
            Place::Here(routes) => Some(routes.current()),
            Place::Named { routes, .. } => routes.as_ref().map(|routes| routes.current()),
        })
    }

    fn look_up<T>(&self, head: &Head, take: impl FnOnce(&Place) -> Option<T>) -> Option<T> {
        let fragments: &[Fragment] = &self.config.key;
        let mut scratch = self.scratch.borrow_mut();
        let whole = key(fragments, head, &mut scratch);
        let scopes = self.scopes.by_key.borrow();
        take(scopes.get(&*scratch).filter(|_| whole)?)
    }
}

impl Scopes {
    /// Takes over the scopes of a snapshot, and which of their tables are there.
    pub(super) fn adopt(&self, worker: &Worker, list: &Arc<[Arc<Scope>]>, snapshot: &Snapshot) {
        let mut by_key = self.by_key.borrow_mut();
        if self.list.borrow().as_ref().is_none_or(|known| !Arc::ptr_eq(known, list)) {
            *by_key = list.iter().map(|scope| (key_of_scope(&scope.key), Place::of(scope))).collect();
            *self.list.borrow_mut() = Some(list.clone());
        }
        for place in by_key.values_mut() {
            if let Place::Named { table, routes, .. } = place {
                *routes = snapshot.routes.get(table).map(|found| worker.routes_named(table, found));
            }
        }
    }
}

impl Place {
    fn of(scope: &Scope) -> Place {
        match &scope.table {
            ScopeTable::Inline(table) => Place::Here(Rc::new(Routes::new(table.clone()))),
            ScopeTable::Rds(name) => Place::Named { table: name.clone(), routes: None, on_demand: scope.on_demand },
        }
    }
}
