//! What the control plane knows of its clients, for people and tools.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use wire::xds::server::{Kind, Session, Status};

use crate::translate::Node;

/// Clients by stream; a stream is there as long as its [`Entry`] lives.
#[derive(Debug, Default)]
pub struct Proxies {
    streams: Mutex<Streams>,
}

#[derive(Debug, Default)]
struct Streams {
    next: u64,
    live: BTreeMap<u64, ProxyStatus>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ProxyStatus {
    pub id: String,
    pub service: String,
    pub agent: String,
    pub protocol: &'static str,
    /// Its SPIFFE ID; absent on the plaintext listener.
    pub identity: Option<String>,
    /// Seconds since 1970.
    pub connected_at: u64,
    /// Why it is sent nothing, if so.
    pub problem: Option<String>,
    /// The revision of the mesh that it was told of last.
    pub revision: u64,
    pub types: BTreeMap<&'static str, TypeStatus>,
    /// Types that it asks for and that are not served.
    pub unserved: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TypeStatus {
    pub sent: Option<String>,
    pub acked: Option<String>,
    pub nack: Option<String>,
}

impl Proxies {
    pub fn enter<'a>(&'a self, node: &Node, identity: Option<String>, protocol: &'static str) -> Entry<'a> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let status = ProxyStatus {
            id: node.id.clone(),
            service: node.service.clone(),
            agent: format!("{:?}", node.agent).to_lowercase(),
            protocol,
            identity,
            connected_at: since,
            problem: None,
            revision: 0,
            types: BTreeMap::new(),
            unserved: Vec::new(),
        };
        self.with(|streams| {
            let key = streams.next;
            streams.next += 1;
            streams.live.insert(key, status);
            Entry { proxies: self, key }
        })
    }

    pub fn list(&self) -> Vec<ProxyStatus> {
        self.with(|streams| streams.live.values().cloned().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Streams) -> T) -> T {
        // Nothing in here panics half way.
        act(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One stream's line in the report; gone with it.
#[derive(Debug)]
pub struct Entry<'a> {
    proxies: &'a Proxies,
    key: u64,
}

impl Entry<'_> {
    pub fn update(&self, session: &Session, revision: u64, problem: Option<String>) {
        let types = Kind::ALL.into_iter().filter(|kind| session.status(*kind).subscribed);
        let types = types.map(|kind| (kind.short_name(), type_status(session.status(kind)))).collect();
        let unserved = session.unserved().map(str::to_owned).collect();
        self.proxies.with(|streams| {
            if let Some(status) = streams.live.get_mut(&self.key) {
                (status.types, status.unserved) = (types, unserved);
                (status.revision, status.problem) = (revision, problem);
            }
        });
    }
}

impl Entry<'_> {
    /// The mesh moved on without anything for this client.
    pub fn reached(&self, revision: u64) {
        self.proxies.with(|streams| {
            if let Some(status) = streams.live.get_mut(&self.key) {
                status.revision = revision;
            }
        });
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.proxies.with(|streams| streams.live.remove(&self.key));
    }
}

fn type_status(status: &Status) -> TypeStatus {
    TypeStatus {
        sent: status.sent.clone(),
        acked: status.acked.clone(),
        nack: status.nack.as_ref().map(|nack| nack.reason.clone()),
    }
}
