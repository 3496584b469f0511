//! What a client asked for of one type, what it was sent, and what it said to that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::snapshot::{Kind, Resource, Snapshot};

/// A client's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    pub version: String,
    pub reason: String,
}

/// For reports: how far a client is with one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub subscribed: bool,
    pub sent: Option<String>,
    pub acked: Option<String>,
    /// The last refusal, until something is accepted.
    pub nack: Option<Nack>,
}

/// What the client has of a resource, as far as we know.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) version: Arc<str>,
    /// Absent when the client came with it (`initial_resource_versions`).
    pub(super) resource: Option<Arc<Resource>>,
}

#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub(super) started: bool,
    pub(super) wildcard: bool,
    /// Names were given once, so that a list without names no longer means everything.
    explicit: bool,
    pub(super) names: BTreeSet<Arc<str>>,
    pub(super) held: BTreeMap<Arc<str>, Held>,
    pub(super) last_nonce: String,
    /// Nonce and version of what was sent and not answered.
    pub(super) in_flight: Vec<(String, String)>,
    pub(super) status: Status,
}

impl Subscription {
    /// Whether this is a first request, or one without a nonce: a client that has nothing (any more).
    pub(super) fn begin(&mut self, nonce: &str) -> bool {
        let first = !self.started || nonce.is_empty();
        self.started = true;
        self.status.subscribed = true;
        first
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Takes the full list of names of a state-of-the-world request; says whether it asks for something new.
    pub(super) fn set_names(&mut self, kind: Kind, listed: &[String], snapshot: &Snapshot) -> bool {
        let star = listed.iter().any(|name| name == "*");
        let legacy_wildcard = listed.is_empty() && !self.explicit && kind.is_wildcard();
        self.explicit |= !listed.is_empty();
        let listed = listed.iter().filter(|name| *name != "*");
        let names: BTreeSet<Arc<str>> = listed.map(|name| snapshot.shared_name(kind, name)).collect();
        let wildcard = star || legacy_wildcard;
        let more = (wildcard && !self.wildcard) || names.iter().any(|name| !self.wants(name));
        self.names = names;
        self.wildcard = wildcard;
        self.forget_unwanted();
        more
    }

    /// Takes a delta request's changes.
    pub(super) fn change_names(
        &mut self,
        kind: Kind,
        subscribe: &[String],
        unsubscribe: &[String],
        snapshot: &Snapshot,
    ) {
        if !self.started && subscribe.is_empty() && kind.is_wildcard() {
            self.wildcard = true;
        }
        for name in unsubscribe {
            match name.as_str() {
                "*" => self.wildcard = false,
                name => drop(self.names.remove(name)),
            }
        }
        for name in subscribe {
            match name.as_str() {
                "*" => self.wildcard = true,
                name => drop(self.names.insert(snapshot.shared_name(kind, name))),
            }
        }
        self.forget_unwanted();
    }

    /// A client drops what it unsubscribes from, so that asking again must send again.
    fn forget_unwanted(&mut self) {
        let (wildcard, names) = (self.wildcard, &self.names);
        self.held.retain(|name, _| wildcard || names.contains(name));
    }

    /// Resources that the client wants and does not have in this version.
    pub(super) fn changed(&self, kind: Kind, snapshot: &Snapshot) -> Vec<Arc<Resource>> {
        let stale = |resource: &&Arc<Resource>| {
            let held = self.held.get(&resource.name);
            self.wants(&resource.name) && held.is_none_or(|held| held.version != resource.version)
        };
        snapshot.get(kind).values().filter(stale).cloned().collect()
    }

    /// Names that the client has and that no longer exist.
    pub(super) fn gone(&self, kind: Kind, snapshot: &Snapshot) -> Vec<Arc<str>> {
        self.held.keys().filter(|name| !snapshot.get(kind).contains_key(*name)).cloned().collect()
    }

    /// All that the client wants and that exists.
    pub(super) fn wanted(&self, kind: Kind, snapshot: &Snapshot) -> Vec<Arc<Resource>> {
        snapshot.get(kind).values().filter(|resource| self.wants(&resource.name)).cloned().collect()
    }

    pub(super) fn sent(&mut self, nonce: &str, version: &str, resources: &[Arc<Resource>]) {
        for resource in resources {
            let held = Held { version: resource.version.clone(), resource: Some(resource.clone()) };
            self.held.insert(resource.name.clone(), held);
        }
        self.last_nonce = nonce.to_owned();
        self.in_flight.push((nonce.to_owned(), version.to_owned()));
        self.status.sent = Some(version.to_owned());
    }

    /// The client's word on what was sent with `nonce`; on what was sent before it, too, since streams are ordered.
    pub(super) fn answered(&mut self, nonce: &str, refusal: Option<String>) {
        let Some(index) = self.in_flight.iter().position(|(sent, _)| sent == nonce) else { return };
        let version = self.in_flight.drain(..=index).next_back().map(|(_, version)| version).unwrap_or_default();
        match refusal {
            Some(reason) => self.status.nack = Some(Nack { version, reason }),
            None => {
                self.status.acked = Some(version);
                self.status.nack = None;
            }
        }
    }
}
