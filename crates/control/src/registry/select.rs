//! Which workload a proxy stands for, and what its sidecar is to do.

use std::sync::Arc;

use api::kinds::sidecar::{HostRef, Namespace, SidecarSpec};

use super::{Registry, Service, Workload, service};

/// The outcome of looking for the workload that a node claims to be.
#[derive(Debug, PartialEq)]
pub enum Lookup<'a> {
    Found(&'a Workload),
    /// With the reason, for reports.
    Unknown(String),
}

impl Registry {
    /// The workload that a node is: `id` is its name, `namespace/name` or its address, `service` one that selects it.
    pub fn workload_of(&self, id: &str, service: &str, namespace: Option<&str>) -> Lookup<'_> {
        let mut candidates = self.named(id, namespace);
        if candidates.is_empty() {
            candidates = self.workloads.values().filter(|workload| workload.address == id).collect();
        }
        if candidates.is_empty() {
            return Lookup::Unknown(format!("no WorkloadEntry is called {id:?} or has it as its address"));
        }
        candidates.retain(|workload| self.belongs(workload, service));
        match candidates.as_slice() {
            [] => Lookup::Unknown(format!("the WorkloadEntry {id:?} does not belong to the Service {service:?}")),
            [workload] => Lookup::Found(workload),
            _ => Lookup::Unknown(format!("several WorkloadEntries fit {id:?}; write namespace/name as the node's id")),
        }
    }

    fn named(&self, id: &str, namespace: Option<&str>) -> Vec<&Arc<Workload>> {
        let get = |namespace: &str, name: &str| self.workloads.get(&(namespace.to_owned(), name.to_owned()));
        if let Some((namespace, name)) = id.split_once('/') {
            return get(namespace, name).into_iter().collect();
        }
        match namespace {
            Some(namespace) => get(namespace, id).into_iter().collect(),
            None => {
                let namespaces = self.namespaces.get(id).map(Vec::as_slice).unwrap_or_default();
                namespaces.iter().filter_map(|namespace| get(namespace, id)).collect()
            }
        }
    }

    /// A node may call itself after a Service that selects it, or after itself; one that no Service selects is free.
    fn belongs(&self, workload: &Workload, service: &str) -> bool {
        if service.is_empty() || workload.name == service {
            return true;
        }
        let host = Self::host(service, &workload.namespace);
        let named = self.definitions.get(&host).is_some_and(|object| service::selects(object, workload));
        // ServiceEntries go by their own names, not by their hosts'.
        named || {
            let mut selecting =
                self.definitions.values().filter(|object| service::selects(object, workload)).peekable();
            selecting.peek().is_none() || selecting.any(|object| object.meta.name == service)
        }
    }

    /// The Sidecar that selects a workload, else the one for its whole namespace.
    pub fn sidecar_of(&self, workload: &Workload) -> Option<&SidecarSpec> {
        let local =
            || self.sidecars.iter().map(|sidecar| &**sidecar).filter(|sidecar| sidecar.namespace == workload.namespace);
        let selecting = local().find(|sidecar| {
            sidecar.spec.workload_selector.as_ref().is_some_and(|selector| selector.selects(&workload.labels))
        });
        selecting.or_else(|| local().find(|sidecar| sidecar.spec.workload_selector.is_none())).map(|found| &found.spec)
    }

    /// The services that an egress host means, for a workload in `namespace`.
    pub fn services_of<'a>(&'a self, host: &HostRef<'_>, namespace: &str) -> Vec<&'a Arc<Service>> {
        let fits = |service: &&Arc<Service>| match host.namespace {
            Namespace::Any => true,
            Namespace::Own => service.namespace == namespace,
            Namespace::Named(name) => service.namespace == name,
        };
        match host.host {
            Some(name) => self.services.get(name).filter(fits).into_iter().collect(),
            None => self.services.values().filter(fits).collect(),
        }
    }
}
