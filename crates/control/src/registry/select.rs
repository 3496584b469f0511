//! Which workload a proxy stands for, and what its sidecar is to do.

use api::kinds::sidecar::{HostRef, Namespace, SidecarSpec};

use super::{Registry, Service, Workload};

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
        let named = |workload: &&Workload| match id.split_once('/') {
            Some((namespace, name)) => workload.namespace == namespace && workload.name == name,
            None => workload.name == id && namespace.is_none_or(|namespace| workload.namespace == namespace),
        };
        let mut candidates: Vec<&Workload> = self.workloads.values().filter(named).collect();
        if candidates.is_empty() {
            candidates = self.workloads.values().filter(|workload| workload.address == id).collect();
        }
        if candidates.is_empty() {
            return Lookup::Unknown(format!("no WorkloadEntry is called {id:?} or has it as its address"));
        }
        let of_service = |workload: &&&Workload| {
            service.is_empty()
                || workload.services.is_empty()
                || workload.name == service
                || workload.services.iter().any(|name| name == service)
        };
        match candidates.iter().filter(of_service).collect::<Vec<_>>().as_slice() {
            [] => Lookup::Unknown(format!("the WorkloadEntry {id:?} does not belong to the Service {service:?}")),
            [workload] => Lookup::Found(workload),
            _ => Lookup::Unknown(format!("several WorkloadEntries fit {id:?}; write namespace/name as the node's id")),
        }
    }

    /// The Sidecar that selects a workload, else the one for its whole namespace.
    pub fn sidecar_of(&self, workload: &Workload) -> Option<&SidecarSpec> {
        let local = || self.sidecars.iter().filter(|sidecar| sidecar.namespace == workload.namespace);
        let selecting = local().find(|sidecar| {
            sidecar.spec.workload_selector.as_ref().is_some_and(|selector| selector.selects(&workload.labels))
        });
        selecting.or_else(|| local().find(|sidecar| sidecar.spec.workload_selector.is_none())).map(|found| &found.spec)
    }

    /// The services that an egress host means, for a workload in `namespace`.
    pub fn services_of<'a>(&'a self, host: &HostRef<'_>, namespace: &str) -> Vec<&'a Service> {
        let fits = |service: &&Service| match host.namespace {
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
