//! Checking and compiling what arrives. A response is accepted as a whole or refused as a whole, as xDS has it.

use super::{Change, Held, Incoming, Resources};
use crate::compile::source::Source;
use crate::compile::{Compiled, Scope, cluster, compiled, endpoint, listener, route, secret};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use crate::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use crate::pb::envoy::config::listener::v3::Listener as PbListener;
use crate::pb::envoy::config::route::v3::RouteConfiguration;
use crate::pb::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;
use crate::problem::{At, Problems};
use crate::support;
use model::Address;
use model::cluster::Cluster;
use model::endpoint::Assignment;
use model::listener::Listener;
use model::route::RouteTable;
use model::tls::Secret;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
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
    Routes(Arc<RouteTable>),
    Secret(Secret),
}

impl Resources {
    /// Takes a response over, or says what is wrong with it and changes nothing.
    pub fn apply(&mut self, change: Change) -> Result<(), Rejected> {
        let mut rejections = Vec::new();
        let mut accepted: Vec<(Arc<str>, Incoming, Option<Value>)> = Vec::new();
        let mut seen = HashSet::new();
        for incoming in change.upserts {
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
        for (name, incoming, value) in accepted {
            self.take(change.kind, name, incoming, value);
        }
        self.remove(change.kind, &change.removed, change.full.then_some(&seen));
        Ok(())
    }

    /// The name and the compiled value; no value when the bytes are those that are held already.
    fn prepare(&self, kind: ResourceKind, incoming: &Incoming) -> Result<(Arc<str>, Option<Value>), Rejection> {
        let reject = |name: &str, problems: Problems| Rejection { name: name.to_string(), problems };
        let own = kind.name_of(&incoming.body).map_err(|error| {
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
        let value = compile(&self.scope, kind, name, &incoming.body).map_err(|problems| reject(name, problems))?;
        self.check_sources(&value).map_err(|problems| reject(name, problems))?;
        Ok((name.into(), Some(value)))
    }

    /// What can never arrive would leave its user warming for ever.
    fn check_sources(&self, value: &Value) -> Result<(), Problems> {
        let needs = match value {
            Value::Cluster(one) => &one.needs,
            Value::Listener(one) => &one.needs,
            Value::Endpoints(_) | Value::Routes(_) | Value::Secret(_) => return Ok(()),
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

    fn take(&mut self, kind: ResourceKind, name: Arc<str>, incoming: Incoming, value: Option<Value>) {
        let Incoming { version, body, .. } = incoming;
        let Some(value) = value else { return self.rename_version(kind, &name, version) };
        self.changed = true;
        match value {
            Value::Cluster(value) => _ = self.clusters.insert(name, Held { version, body, value }),
            Value::Listener(value) => _ = self.listeners.insert(name, Held { version, body, value }),
            Value::Endpoints(value) => _ = self.endpoints.insert(name, Held { version, body, value }),
            Value::Routes(value) => _ = self.routes.insert(name, Held { version, body, value }),
            Value::Secret(value) => _ = self.secrets.insert(name, Held { version, body, value }),
        }
    }

    /// The same content under a new version.
    fn rename_version(&mut self, kind: ResourceKind, name: &str, version: String) {
        let held = match kind {
            ResourceKind::Cluster => self.clusters.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Listener => self.listeners.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Endpoints => self.endpoints.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Routes => self.routes.get_mut(name).map(|held| &mut held.version),
            ResourceKind::Secret => self.secrets.get_mut(name).map(|held| &mut held.version),
        };
        if let Some(held) = held {
            *held = version;
        }
    }

    /// Clusters and listeners go when they are removed. The others go when nothing refers to them any more: without
    /// them their users would break.
    fn remove(&mut self, kind: ResourceKind, removed: &[String], all: Option<&HashSet<Arc<str>>>) {
        fn drop_gone<T>(
            held: &mut BTreeMap<Arc<str>, Held<T>>,
            removed: &[String],
            all: Option<&HashSet<Arc<str>>>,
        ) -> bool {
            let before = held.len();
            held.retain(|name, _| {
                !removed.iter().any(|gone| **gone == **name) && all.is_none_or(|all| all.contains(name))
            });
            held.len() != before
        }
        self.changed |= match kind {
            ResourceKind::Cluster => drop_gone(&mut self.clusters, removed, all),
            ResourceKind::Listener => drop_gone(&mut self.listeners, removed, all),
            ResourceKind::Endpoints | ResourceKind::Routes | ResourceKind::Secret => false,
        };
    }
}

/// The addresses that cannot be shared; port 0 is any free one.
fn addresses(listener: &Listener) -> impl Iterator<Item = &Address> {
    let all = std::iter::once(&listener.address).chain(&listener.additional_addresses);
    all.filter(|address| address.tcp().is_none_or(|tcp| tcp.port() != 0))
}

fn compile(scope: &Scope, kind: ResourceKind, name: &str, body: &[u8]) -> Result<Value, Problems> {
    fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Problems> {
        M::decode(body).map_err(|error| At::ROOT.problem(error.to_string()).into())
    }
    let at = At::ROOT;
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
        ResourceKind::Routes => {
            let message: RouteConfiguration = decode(body)?;
            Value::Routes(Arc::new(compiled(scope, |cx| route::table(cx, &at, &message))?.value))
        }
        ResourceKind::Secret => {
            let message: PbSecret = decode(body)?;
            Value::Secret(secret::secret(&at, &message)?)
        }
    })
}
