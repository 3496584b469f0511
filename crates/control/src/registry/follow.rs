//! A registry from the one before it, where only endpoints came, changed or went: what happens all the time, so that it
//! must not cost what building all of it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Key, Object, Spec};

use super::build::{slice_host, workload};
use super::{Registry, Workload, service};
use crate::sources::intake::Change;

/// What is different from the registry before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// By host.
    pub services: BTreeSet<String>,
    /// By namespace and name; also those that are gone.
    pub workloads: BTreeSet<(String, String)>,
}

impl Registry {
    /// The registry after `change`, and what is not as it was. `None` when more than endpoints changed.
    pub fn follow(&self, change: &Change) -> Option<(Registry, Changed)> {
        let mut next = self.clone();
        let mut changed = Changed::default();
        for (before, after) in pairs(change) {
            match before.or(after).map(|object| &object.spec)? {
                Spec::EndpointSlice(_) => next.replace_slice(before, after, &mut changed)?,
                Spec::WorkloadEntry(_) => next.replace_workload(before, after, &mut changed)?,
                _ => return None,
            }
        }
        changed.services.retain(|host| next.remake(host));
        Some((next, changed))
    }

    fn replace_slice(
        &mut self,
        before: Option<&Arc<Object>>,
        after: Option<&Arc<Object>>,
        changed: &mut Changed,
    ) -> Option<()> {
        let slices = Arc::make_mut(&mut self.slices);
        if let Some(before) = before {
            let host = slice_host(before);
            // One that belongs to no Service is a warning, which only building all of it takes back.
            let list = slices.get_mut(&host)?;
            list.retain(|slice| slice.key() != before.key());
            changed.services.insert(host);
        }
        if let Some(after) = after {
            let host = slice_host(after);
            self.definitions.get(&host)?;
            slices.entry(host.clone()).or_default().push(after.clone());
            changed.services.insert(host);
        }
        Some(())
    }

    fn replace_workload(
        &mut self,
        before: Option<&Arc<Object>>,
        after: Option<&Arc<Object>>,
        changed: &mut Changed,
    ) -> Option<()> {
        let parse = |object: &Arc<Object>| -> Option<Workload> {
            let Spec::WorkloadEntry(spec) = &object.spec else { return None };
            workload(object, spec, &self.trust_domain).ok()
        };
        let (before, after) = (before.map(parse), after.map(parse));
        if let Some(before) = before {
            let before = before?;
            changed.services.extend(self.selecting(&before));
            changed.workloads.insert(before.key());
            self.remove_workload(&before);
        }
        if let Some(after) = after {
            let after = after?;
            changed.services.extend(self.selecting(&after));
            changed.workloads.insert(after.key());
            self.add_workload(Arc::new(after));
        }
        Some(())
    }

    fn selecting<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = String> + 'a {
        let fits = |(_, object): &(&String, &Arc<Object>)| service::selects(object, workload);
        self.definitions.iter().filter(fits).map(|(host, _)| host.clone())
    }

    /// Makes one service anew; false when it stays what it was.
    fn remake(&mut self, host: &str) -> bool {
        let Some(object) = self.definitions.get(host) else { return false };
        let selected: Vec<&Arc<Workload>> =
            self.workloads.values().filter(|workload| service::selects(object, workload)).collect();
        let slices = self.slices.get(host).map(Vec::as_slice).unwrap_or_default();
        let Some(made) = service::of(object, host, &selected, slices, &self.trust_domain) else { return false };
        if self.services.get(host).is_some_and(|before| **before == made) {
            return false;
        }
        Arc::make_mut(&mut self.services).insert(host.to_owned(), Arc::new(made));
        true
    }
}

/// An object as it was and as it is.
type Pair<'a> = (Option<&'a Arc<Object>>, Option<&'a Arc<Object>>);

/// What became of each object, without those that say the same as before.
fn pairs(change: &Change) -> impl Iterator<Item = Pair<'_>> {
    let mut pairs: BTreeMap<Key, Pair<'_>> = BTreeMap::new();
    for object in &change.before {
        pairs.entry(object.key()).or_default().0 = Some(object);
    }
    for object in &change.after {
        pairs.entry(object.key()).or_default().1 = Some(object);
    }
    pairs.into_values().filter(|(before, after)| match (before, after) {
        (Some(before), Some(after)) => !before.says_the_same_as(after),
        _ => true,
    })
}
