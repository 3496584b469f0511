//! Envoy's API described at run time: every message and field by name, for JSON and for the support table.
//!
//! Descriptors take megabytes and are needed at start-up and by `/config_dump` only, so they live as long as somebody
//! holds them and no longer. What is not implemented takes most of them; it is looked at only when a configuration
//! mentions it.

use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::sync::{Arc, Mutex, PoisonError, Weak};

static CORE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/core.bin"));
static REST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rest.bin"));
static SHARED_CORE: Mutex<Weak<Schema>> = Mutex::new(Weak::new());
static SHARED_WHOLE: Mutex<Weak<Schema>> = Mutex::new(Weak::new());

pub struct Schema {
    pool: DescriptorPool,
}

/// The implemented part of the API and what surrounds it, built now unless somebody holds it already. Drop it when
/// done.
pub fn schema() -> Arc<Schema> {
    shared(&SHARED_CORE, &[CORE])
}

/// The whole API.
pub fn whole() -> Arc<Schema> {
    shared(&SHARED_WHOLE, &[CORE, REST])
}

fn shared(place: &Mutex<Weak<Schema>>, parts: &[&[u8]]) -> Arc<Schema> {
    let mut shared = place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = shared.upgrade() {
        return schema;
    }
    let mut pool = DescriptorPool::new();
    for part in parts {
        pool.decode_file_descriptor_set(*part).expect("the set was complete when envoy-types was made");
    }
    let schema = Arc::new(Schema { pool });
    *shared = Arc::downgrade(&schema);
    schema
}

/// The message of this name, wherever in the API it is.
pub fn find(name: &str) -> Option<MessageDescriptor> {
    schema().message(name).or_else(|| whole().message(name))
}

impl Schema {
    /// By full name (`envoy.config.cluster.v3.Cluster`).
    pub fn message(&self, name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(name)
    }

    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

/// The message name in an `Any`'s type URL: what follows the last slash.
pub fn type_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_shared_and_dropped() {
        let first = schema();
        assert!(Arc::ptr_eq(&first, &schema()));
        let cluster = first.message("envoy.config.cluster.v3.Cluster").expect("known");
        assert!(cluster.get_field_by_name("connect_timeout").is_some());
        let lua = "envoy.extensions.filters.http.lua.v3.Lua";
        assert!(first.message(lua).is_none(), "the core is small");
        assert!(find(lua).is_some());
    }

    #[test]
    fn type_urls() {
        assert_eq!(type_name("type.googleapis.com/google.protobuf.Any"), "google.protobuf.Any");
        assert_eq!(type_name("google.protobuf.Any"), "google.protobuf.Any");
    }
}
