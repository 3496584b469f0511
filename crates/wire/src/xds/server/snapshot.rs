//! What one node is to have: resources by type and name, versioned by their content.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

pub use crate::kind::ResourceKind as Kind;

/// A serialised resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: Arc<str>,
    /// A hash of the content: equal content has an equal version, also after a restart.
    pub version: Arc<str>,
    pub body: Bytes,
}

impl Resource {
    /// For messages without map fields of several entries: prost writes these in no particular order.
    pub fn encode(name: impl Into<Arc<str>>, message: &impl Message) -> Arc<Self> {
        let body = Bytes::from(message.encode_to_vec());
        let version = format!("{:016x}", fnv1a(FNV_START, &body)).into();
        Arc::new(Self { name: name.into(), version, body })
    }

    /// For any message: `content` stands for it, and is equal exactly when the messages are.
    pub fn encode_as(name: impl Into<Arc<str>>, message: &impl Message, content: &str) -> Arc<Self> {
        let body = Bytes::from(message.encode_to_vec());
        let version = format!("{:016x}", fnv1a(FNV_START, content.as_bytes())).into();
        Arc::new(Self { name: name.into(), version, body })
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    kinds: [BTreeMap<Arc<str>, Arc<Resource>>; 7],
}

impl Snapshot {
    pub fn insert(&mut self, kind: Kind, resource: Arc<Resource>) {
        self.kinds[kind as usize].insert(resource.name.clone(), resource);
    }

    /// `name` as the resource of that name has it: for lists of names that live as long as a client does.
    pub(super) fn shared_name(&self, kind: Kind, name: &str) -> Arc<str> {
        self.get(kind).get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone())
    }

    pub fn get(&self, kind: Kind) -> &BTreeMap<Arc<str>, Arc<Resource>> {
        &self.kinds[kind as usize]
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One version for a set of resources.
pub(super) fn version_of<'a>(resources: impl Iterator<Item = &'a Arc<Resource>>) -> String {
    let hash = resources
        .fold(FNV_START, |hash, resource| fnv1a(fnv1a(hash, resource.name.as_bytes()), resource.version.as_bytes()));
    format!("{hash:016x}")
}
