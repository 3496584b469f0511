//! Translated resources by name, each with what it was made of: it is used as long as that is the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wire::xds::server::{Kind, Resource};

use super::Agent;
use crate::registry::{Service, Services};

type Key = (Kind, Agent, String);
/// A service, told by its address, and the epoch for what depends on more than the service.
type Source<'a> = (&'a Arc<Service>, u64);

#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<Key, Made>>);

#[derive(Debug)]
struct Made {
    service: Arc<Service>,
    epoch: u64,
    resource: Arc<Resource>,
}

impl Cache {
    /// The resource made of `source` before, else what `make` makes now.
    pub(super) fn share(&self, key: Key, source: Source<'_>, make: impl FnOnce() -> Arc<Resource>) -> Arc<Resource> {
        let (service, epoch) = source;
        // A panic elsewhere leaves the map whole: entries are inserted in one step.
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&key)
            && Arc::ptr_eq(&known.service, service)
            && known.epoch == epoch
        {
            return known.resource.clone();
        }
        let resource = make();
        made.insert(key, Made { service: service.clone(), epoch, resource: resource.clone() });
        resource
    }

    /// Drops what was made of services that are gone or not as they were.
    pub(super) fn forget_all_but(&self, services: &Services) {
        let current = |made: &Made| services.get(&made.service.host).is_some_and(|now| Arc::ptr_eq(now, &made.service));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, made| current(made));
    }
}
