//! Envoy's API described at run time: every message and field by name, for JSON and for the support table.
//!
//! The pool takes tens of megabytes and is needed at start-up and by `/config_dump` only, so it lives as long as
//! somebody holds it and no longer.

use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::sync::{Arc, Mutex, PoisonError, Weak};

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));
static SHARED: Mutex<Weak<Schema>> = Mutex::new(Weak::new());

pub struct Schema {
    pool: DescriptorPool,
}

/// The schema, built now unless somebody holds it already. Drop it when done.
pub fn schema() -> Arc<Schema> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(schema) = shared.upgrade() {
        return schema;
    }
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptor set was complete when envoy-types was made");
    let schema = Arc::new(Schema { pool });
    *shared = Arc::downgrade(&schema);
    schema
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
    }

    #[test]
    fn type_urls() {
        assert_eq!(type_name("type.googleapis.com/google.protobuf.Any"), "google.protobuf.Any");
        assert_eq!(type_name("google.protobuf.Any"), "google.protobuf.Any");
    }
}
