//! What one node is to have: resources by type and name, versioned by their content.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

pub use crate::kind::ResourceKind as Kind;

/// A serialised resource.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: String,
    /// A hash of the content: equal content has an equal version, also after a restart.
    pub version: String,
    pub body: Bytes,
}

impl Resource {
    /// For messages without map fields of several entries: prost writes these in no particular order.
    pub fn encode(name: impl Into<String>, message: &impl Message) -> Arc<Self> {
        let body = Bytes::from(message.encode_to_vec());
        let version = format!("{:016x}", fnv1a(FNV_START, &body));
        Arc::new(Self { name: name.into(), version, body })
    }

    /// For any message: `content` stands for it, and is equal exactly when the messages are.
    pub fn encode_as(name: impl Into<String>, message: &impl Message, content: &str) -> Arc<Self> {
        let body = Bytes::from(message.encode_to_vec());
        let version = format!("{:016x}", fnv1a(FNV_START, content.as_bytes()));
        Arc::new(Self { name: name.into(), version, body })
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    kinds: [BTreeMap<String, Arc<Resource>>; 5],
}

impl Snapshot {
    pub fn insert(&mut self, kind: Kind, resource: Arc<Resource>) {
        self.kinds[kind as usize].insert(resource.name.clone(), resource);
    }

    pub fn get(&self, kind: Kind) -> &BTreeMap<String, Arc<Resource>> {
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
