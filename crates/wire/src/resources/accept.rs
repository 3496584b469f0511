//! Checking and compiling what arrives. A response is accepted as a whole or refused as a whole, as xDS has it.

use super::{Change, Held, Incoming, Resources};
use crate::compile::source::Source;
use crate::compile::{Compiled, cluster, compiled, endpoint, listener, route, scope, secret};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use crate::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::pb::envoy::config::listener::v3::Listener as PbListener;
use crate::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost as PbVirtualHost};
use crate::problem::{At, Problems};
use crate::support;
use model::Address;
use model::cluster::Cluster;
use model::endpoint::Assignment;
use model::listener::Listener;
use model::route::RouteTable;
use model::scope::Scope as RouteScope;
use model::tls::Secret;
use prost::Message;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// A resource that cannot be carried out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub name: String,
    pub problems: Problems,
}

/// A refused response: what a NACK says. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Rejected(pub Vec<Rejection>);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rejection) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {}", rejection.name, rejection.problems)?;
        }
        Ok(())
    }
}

enum Value {
    Cluster(Compiled<Arc<Cluster>>),
    Listener(Compiled<Arc<Listener>>),
    Endpoints(Arc<Assignment>),
    Routes(Compiled<Arc<RouteTable>>),
    VirtualHost,
    Scope(Arc<RouteScope>),
    Secret(Secret),
}

impl Resources {
    /// Takes a response over, or says what is wrong with it and changes nothing.
    pub fn apply(&mut self, mut change: Change) -> Result<(), Rejected> {
        let mut rejections = Vec::new();
        let mut accepted: Vec<(Arc<str>, Incoming, Option<Value>)> = Vec::new();
        let mut seen = HashSet::new();
        for incoming in std::mem::take(&mut change.upserts) {
            match self.prepare(change.kind, &incoming) {
                Ok((name, _)) if !seen.insert(name.clone()) => {
                    let problems = At::ROOT.problem("is given twice in one response").into();
                    rejections.push(Rejection { name: name.to_string(), problems });
                }
                Ok((name, value)) => accepted.push((name, incoming, value)),
                Err(rejection) => rejections.push(rejection),
            }
        }
        if change.kind == ResourceKind::Listener {
            let gone = |name: &Arc<str>| {
                change.removed.iter().any(|removed| **removed == **name) || (change.full && !seen.contains(name))
            };
            rejections.extend(self.address_conflicts(&accepted, gone));
        }
        if !rejections.is_empty() {
            return Err(Rejected(rejections));
        }
        if change.kind == ResourceKind::ScopedRoutes {
            self.check_scope_keys(&accepted, &change)?;
            self.changed |= self.scoped.insert(change.source.clone());
        }
        let before = (change.kind == ResourceKind::VirtualHosts).then(|| self.virtual_hosts.clone());
        let mut names: Vec<String> = seen.iter().map(ToString::to_string).collect();
        let mut touched = change.removed.clone();
        for (name, mut incoming, value) in accepted {
            names.append(&mut incoming.aliases);
            touched.extend(value.is_some().then(|| name.to_string()));
            self.take(change.kind, name, incoming, value, &change.source);
        }
        self.remove(&change, change.full.then_some(&seen));
        if let Some(before) = before {
            self.relink(&touched).inspect_err(|_| self.virtual_hosts = before)?;
        }
        // A cluster that came may have to warm yet; the workers see when it is there.
        if change.kind != ResourceKind::Cluster {
            self.answer(change.kind, names.iter().map(String::as_str));
        }
        self.answer_absent(change.kind, &change.absent);
        if matches!(change.kind, ResourceKind::ScopedRoutes | ResourceKind::Listener) {
            self.refer(&self.active_scopes());
        }
        Ok(())
    }

    /// Links the tables of these virtual hosts anew.
    fn relink(&mut self, names: &[String]) -> Result<(), Rejected> {
        let tables: BTreeSet<Arc<str>> = names.iter().filter_map(|name| self.table_of(name)).collect();
        let mut linked = Vec::new();
        for name in tables {
            let held = &self.routes[&name];
            let table = self.table(&held.body);
            let table = table.map_err(|problems| Rejected(vec![Rejection { name: name.to_string(), problems }]))?;
            linked.push((name, table));
        }
        for (name, table) in linked {
            self.changed = true;
            self.routes.get_mut(&name).expect("looked up before").value = table;
        }
        Ok(())
    }

    /// The table on demand that a virtual host's name begins with.
    fn table_of(&self, virtual_host: &str) -> Option<Arc<str>> {
        virtual_host.match_indices('/').find_map(|(at, _)| {
            let (name, held) = self.routes.get_key_value(&virtual_host[..at])?;
            held.value.value.more_hosts.as_ref().map(|_| name.clone())
        })
    }

    /// A route table with the virtual hosts that came for it.
    fn table(&self, body: &[u8]) -> Result<Compiled<Arc<RouteTable>>, Problems> {
        let mut message: RouteConfiguration = decode(body)?;
        if message.vhds.is_some() {
            let first = format!("{}/", message.name);
            let own = self.virtual_hosts.range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded));
            let own = own.take_while(|(name, _)| name.starts_with(&first));
            let own: Vec<PbVirtualHost> = own.map(|(_, held)| decode(&held.body)).collect::<Result<_, _>>()?;
            let replaced: HashSet<&str> = own.iter().map(|host| host.name.as_str()).collect();
            message.virtual_hosts.retain(|host| !replaced.contains(host.name.as_str()));
            message.virtual_hosts.extend(own);
        }
        compiled(&self.scope, |cx| route::discovered(cx, &At::ROOT, &message).map(Arc::new))
    }

    /// Two scopes with one key would share its requests by chance.
    fn check_scope_keys(
        &self,
        accepted: &[(Arc<str>, Incoming, Option<Value>)],
        change: &Change,
    ) -> Result<(), Rejected> {
        let stays = |name: &Arc<str>| {
            let told = change.full || change.removed.iter().any(|gone| **gone == **name);
            !told && !accepted.iter().any(|(new, _, value)| new == name && value.is_some())
        };
        let listed = |name: &Arc<str>| accepted.iter().any(|(new, _, value)| new == name && value.is_none());
        let held =
            self.scopes.iter().filter(|(name, (from, _))| *from == change.source && (stays(name) || listed(name)));
        let held = held.map(|(_, (_, held))| &held.value);
        let new = accepted.iter().filter_map(|(_, _, value)| match value {
            Some(Value::Scope(scope)) => Some(scope),
            _ => None,
        });
        let mut owners: HashMap<&[Box<str>], &RouteScope> = HashMap::new();
        let mut rejections = Vec::new();
        for scope in held.chain(new) {
            if let Some(owner) = owners.insert(&scope.key, scope) {
                let problems =
                    At::ROOT.field("key").problem(format!("is the key of scope `{}` too", owner.name)).into();
                rejections.push(Rejection { name: scope.name.to_string(), problems });
            }
        }
        if rejections.is_empty() { Ok(()) } else { Err(Rejected(rejections)) }
    }

    /// The name and the compiled value; no value when the bytes are those that are held already.
    fn prepare(&self, kind: ResourceKind, incoming: &Incoming) -> Result<(Arc<str>, Option<Value>), Rejection> {
        let reject = |name: &str, problems: Problems| Rejection { name: name.to_string(), problems };
        // Inside, a virtual host may be called as it likes.
        let own = kind.name_of(&incoming.body).map(|own| match kind {
            ResourceKind::VirtualHosts if !incoming.name.is_empty() => incoming.name.clone(),
            _ => own,
        });
        let own = own.map_err(|error| {
            let problem = At::ROOT.problem(format!("is not a {}: {error}", kind.message_name()));
            reject(&incoming.name, problem.into())
        })?;
        let name = if own.is_empty() { incoming.name.as_str() } else { own.as_str() };
        if name.is_empty() {
            return Err(reject("", At::ROOT.problem("has no name").into()));
        }
        if !incoming.name.is_empty() && incoming.name != name {
            let text = format!("the response calls this resource `{}`", incoming.name);
            return Err(reject(name, At::ROOT.field("name").problem(text).into()));
        }
        if self.body(kind, name).is_some_and(|held| *held == incoming.body) {
            return Ok((name.into(), None));
        }
        let report = support::check(kind.message_name(), &incoming.body);
        if !report.refused.is_empty() {
            return Err(reject(name, Problems(report.refused)));
        }
        let value = self.compile(kind, name, &incoming.body).map_err(|problems| reject(name, problems))?;
        self.check_sources(&value).map_err(|problems| reject(name, problems))?;
        Ok((name.into(), Some(value)))
    }

    /// What can never arrive would leave its user warming for ever.
    fn check_sources(&self, value: &Value) -> Result<(), Problems> {
        let needs = match value {
            Value::Cluster(one) => &one.needs,
            Value::Listener(one) => &one.needs,
            _ => return Ok(()),
        };
        let missing = needs
            .iter()
            .find(|need| need.source == Source::Ads && !self.ads && !self.provided.contains_key(&need.name));
        match missing {
            Some(need) => At::ROOT.wrong(format!("refers to `{}` by ADS; the bootstrap has no ads_config", need.name)),
            None => Ok(()),
        }
    }

    fn body(&self, kind: ResourceKind, name: &str) -> Option<&bytes::Bytes> {
        match kind {
            ResourceKind::Cluster => self.clusters.get(name).map(|held| &held.body),
            ResourceKind::Listener => self.listeners.get(name).map(|held| &held.body),
            ResourceKind::Endpoints => self.endpoints.get(name).map(|held| &held.body),
            ResourceKind::Routes => self.routes.get(name).map(|held| &held.body),
            ResourceKind::VirtualHosts => self.virtual_hosts.get(name).map(|held| &held.body),
            ResourceKind::ScopedRoutes => self.scopes.get(name).map(|(_, held)| &held.body),
            ResourceKind::Secret => self.secrets.get(name).map(|held| &held.body),
        }
    }

    /// Two listeners on one address would share its connections by chance.
    fn address_conflicts(
        &self,
        accepted: &[(Arc<str>, Incoming, Option<Value>)],
        gone: impl Fn(&Arc<str>) -> bool,
    ) -> Vec<Rejection> {
        let mut owners: HashMap<&Address, &Arc<str>> = HashMap::new();
        let fixed = self.fixed.listeners.iter().map(|(name, one)| (name, &one.value));
        let replaced = |name: &Arc<str>| accepted.iter().any(|(new, _, value)| new == name && value.is_some());
        let held = self.listeners.iter().filter(|(name, _)| !gone(name) && !replaced(name));
        for (name, listener) in fixed.chain(held.map(|(name, held)| (name, &held.value.value))) {
            owners.extend(addresses(listener).map(|address| (address, name)));
        }
        let mut rejections = Vec::new();
        for (name, _, value) in accepted {
            let Some(Value::Listener(listener)) = value else { continue };
            // Shadowed by the bootstrap: it never binds.
            if self.fixed.listeners.contains_key(name) {
                continue;
            }
            for address in addresses(&listener.value) {
                if let Some(owner) = owners.insert(address, name).filter(|owner| *owner != name) {
                    let text = format!("{address} is the address of listener `{owner}` too");
                    let problems = At::ROOT.field("address").problem(text).into();
                    rejections.push(Rejection { name: name.to_string(), problems });
                }
            }
        }
        rejections
    }

    fn take(
        &mut self,
        kind: ResourceKind,
        name: Arc<str>,
        incoming: Incoming,
        value: Option<Value>,
        source: &Option<Source>,
    ) {
        let Incoming { version, body, .. } = incoming;
        let Some(value) = value else { return self.rename_version(kind, &name, version) };
        self.changed = true;
        match value {
            Value::Cluster(value) => _ = self.clusters.insert(name, Held { version, body, value }),
            Value::Listener(value) => _ = self.listeners.insert(name, Held { version, body, value }),
            Value::Endpoints(value) => _ = self.endpoints.insert(name, Held { version, body, value }),
            Value::Routes(value) => _ = self.routes.insert(name, Held { version, body, value }),
            Value::VirtualHost => _ = self.virtual_hosts.insert(name, Held { version, body, value: () }),
            Value::Scope(value) => _ = self.scopes.insert(name, (source.clone(), Held { version, body, value })),
            Value::Secret(value) => _ = self.secrets.insert(name, Held { version, body, value }),
        }
    }

    /// The same content under a new version.
    fn rename_version(&mut self, kind: ResourceKind, name: &str, version: Arc<str>) {
        let held = match kind {
            ResourceKind::Cluster => self.clusters.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Listener => self.listeners.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Endpoints => self.endpoints.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Routes => self.routes.get_mut(name).map(|held| &mut held.version),
            ResourceKind::VirtualHosts => self.virtual_hosts.get_mut(name).map(|held| &mut held.version),
            ResourceKind::ScopedRoutes => self.scopes.get_mut(name).map(|(_, held)| &mut held.version),
            ResourceKind::Secret => self.secrets.get_mut(name).map(|held| &mut held.version),
        };
        if let Some(held) = held {
            *held = version;
        }
    }

    /// Clusters, listeners, scopes and virtual hosts go when they are removed. The others go when nothing refers to them
    /// any more: without them their users would break.
    fn remove(&mut self, change: &Change, all: Option<&HashSet<Arc<str>>>) {
        let stays = |name: &Arc<str>| {
            let told = change.removed.iter().any(|gone| **gone == **name);
            !told && all.is_none_or(|all| all.contains(name))
        };
        let count = |all: &Self| all.clusters.len() + all.listeners.len() + all.scopes.len() + all.virtual_hosts.len();
        let before = count(self);
        match change.kind {
            ResourceKind::Cluster => {
                let mut clusters = std::mem::take(&mut self.clusters);
                let told = |name: &Arc<str>| change.removed.iter().any(|gone| **gone == **name);
                clusters.retain(|name, _| stays(name) || (self.is_on_demand(name) && !told(name)));
                self.clusters = clusters;
            }
            ResourceKind::Listener => self.listeners.retain(|name, _| stays(name)),
            ResourceKind::VirtualHosts => self.virtual_hosts.retain(|name, _| stays(name)),
            ResourceKind::ScopedRoutes => {
                self.scopes.retain(|name, (from, _)| stays(name) || (from.is_some() && *from != change.source));
            }
            ResourceKind::Endpoints | ResourceKind::Routes | ResourceKind::Secret => {}
        }
        self.changed |= count(self) != before;
    }

    fn compile(&self, kind: ResourceKind, name: &str, body: &[u8]) -> Result<Value, Problems> {
        let (scope, at) = (&self.scope, At::ROOT);
        Ok(match kind {
            ResourceKind::Cluster => {
                let message: PbCluster = decode(body)?;
                Value::Cluster(compiled(scope, |cx| cluster::cluster(cx, &at, &message).map(Arc::new))?)
            }
            ResourceKind::Listener => {
                let mut message: PbListener = decode(body)?;
                message.name = name.to_string();
                Value::Listener(compiled(scope, |cx| listener::listener(cx, &at, &message).map(Arc::new))?)
            }
            ResourceKind::Endpoints => {
                let message: ClusterLoadAssignment = decode(body)?;
                Value::Endpoints(Arc::new(endpoint::assignment(&at, endpoint::Names::AddressesOnly, &message)?))
            }
            ResourceKind::Routes => Value::Routes(self.table(body)?),
            ResourceKind::VirtualHosts => {
                compiled(scope, |cx| route::host_alone(cx, &at, &decode(body)?))?;
                Value::VirtualHost
            }
            ResourceKind::ScopedRoutes => {
                let message: ScopedRouteConfiguration = decode(body)?;
                Value::Scope(Arc::new(compiled(scope, |cx| scope::scope(cx, &at, &message))?.value))
            }
            ResourceKind::Secret => Value::Secret(secret::secret(&at, &decode(body)?)?),
        })
    }
}

/// The addresses that cannot be shared; port 0 is any free one.
fn addresses(listener: &Listener) -> impl Iterator<Item = &Address> {
    let all = std::iter::once(&listener.address).chain(&listener.additional_addresses);
    all.filter(|address| address.tcp().is_none_or(|tcp| tcp.port() != 0))
}

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Problems> {
    M::decode(body).map_err(|error| At::ROOT.problem(error.to_string()).into())
}
