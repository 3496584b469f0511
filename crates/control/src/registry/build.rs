//! Objects to registry. Whatever refers to nothing becomes a warning: the rest goes on working.

use std::collections::HashMap;
use std::sync::Arc;

use api::kinds::endpoint_slice::SERVICE_NAME_LABEL;
use api::kinds::http_route::HttpRouteSpec;
use api::kinds::workload_entry::{TLS_MODE_ISTIO, TLS_MODE_LABEL, WorkloadEntrySpec};
use api::{Object, ObjectSet, Spec};
use identity::SpiffeId;

use super::{AttachedRoute, Registry, Service, Sidecar, Warning, Workload, service};

impl Registry {
    /// What equals its like in `previous` is shared with it, so that it can be told by its address.
    pub fn build(objects: &ObjectSet, trust_domain: &str, previous: Option<&Registry>) -> Self {
        let mut registry = Self { trust_domain: trust_domain.to_owned(), ..Self::default() };
        registry.add_workloads(objects);
        registry.add_definitions(objects);
        registry.add_slices(objects);
        registry.make_services(previous);
        for object in objects.objects() {
            if let Spec::HttpRoute(spec) = &object.spec {
                registry.attach(object, spec);
            }
        }
        registry.finish();
        registry
    }

    fn warn(&mut self, object: &Object, message: String) {
        self.warnings.push(Warning { object: object.key(), message });
    }

    fn add_workloads(&mut self, objects: &ObjectSet) {
        for object in objects.objects() {
            match &object.spec {
                Spec::WorkloadEntry(spec) => match workload(object, spec, &self.trust_domain) {
                    Ok(workload) => self.add_workload(Arc::new(workload)),
                    Err(message) => self.warn(object, message),
                },
                Spec::Sidecar(spec) => self.sidecars.push(Arc::new(Sidecar {
                    name: object.meta.name.clone(),
                    namespace: object.meta.namespace.clone(),
                    spec: spec.clone(),
                })),
                _ => {}
            }
        }
    }

    /// Who defines which host: the first to name it.
    fn add_definitions(&mut self, objects: &ObjectSet) {
        for object in objects.objects() {
            match &object.spec {
                Spec::Service(_) => {
                    let host = Self::host(&object.meta.name, &object.meta.namespace);
                    Arc::make_mut(&mut self.definitions).insert(host, object.clone());
                }
                Spec::ServiceEntry(spec) => {
                    for host in &spec.hosts {
                        if let Some(other) = self.definitions.get(host) {
                            let message = format!(
                                "the host {host} is already that of {}/{}",
                                other.meta.namespace, other.meta.name
                            );
                            self.warn(object, message);
                            continue;
                        }
                        Arc::make_mut(&mut self.definitions).insert(host.clone(), object.clone());
                    }
                }
                _ => {}
            }
        }
    }

    fn add_slices(&mut self, objects: &ObjectSet) {
        for object in objects.objects().filter(|object| matches!(object.spec, Spec::EndpointSlice(_))) {
            let host = slice_host(object);
            if self.definitions.contains_key(&host) {
                Arc::make_mut(&mut self.slices).entry(host).or_default().push(object.clone());
            } else {
                let name = object.meta.labels.get(SERVICE_NAME_LABEL).cloned().unwrap_or_default();
                self.warn(object, format!("there is no Service {}/{name} for these endpoints", object.meta.namespace));
            }
        }
    }

    fn make_services(&mut self, previous: Option<&Registry>) {
        let by_label = self.workloads_by_label();
        let mut services = super::Services::new();
        for (host, object) in self.definitions.iter() {
            let selected = by_label.selected_by(object);
            let slices = self.slices.get(host).map(Vec::as_slice).unwrap_or_default();
            let Some(made) = service::of(object, host, &selected, slices, &self.trust_domain) else { continue };
            services.insert(host.clone(), shared(made, previous.and_then(|previous| previous.services.get(host))));
        }
        self.services = Arc::new(services);
    }

    fn workloads_by_label(&self) -> ByLabel {
        let mut index: HashMap<(String, String, String), Vec<Arc<Workload>>> = HashMap::new();
        for workload in self.workloads.values() {
            for (key, value) in &workload.labels {
                index
                    .entry((workload.namespace.clone(), key.clone(), value.clone()))
                    .or_default()
                    .push(workload.clone());
            }
        }
        ByLabel(index)
    }

    fn attach(&mut self, object: &Arc<Object>, spec: &HttpRouteSpec) {
        for parent in &spec.parent_refs {
            let host = Self::host(&parent.name, &object.meta.namespace);
            let port = parent.port.map(|port| port.0);
            let problem = match self.services.get(&host) {
                None => Some(format!("its parent, the Service {}, does not exist", parent.name)),
                Some(service) => match port.filter(|port| service.port(*port).is_none()) {
                    Some(port) => Some(format!("its parent, the Service {}, has no port {port}", parent.name)),
                    None if service.ports.iter().any(|port| port.protocol.is_http()) => None,
                    None => Some(format!("its parent, the Service {}, does not speak HTTP", parent.name)),
                },
            };
            match problem {
                Some(message) => self.warn(object, message),
                None => {
                    let route = AttachedRoute { port, object: object.clone() };
                    Arc::make_mut(&mut self.routes).entry(host).or_default().push(route);
                }
            }
        }
        for backend in spec.rules.iter().flat_map(|rule| &rule.backend_refs) {
            let host = Self::host(&backend.name, &object.meta.namespace);
            let port = backend.port.map_or(0, |port| port.0);
            let message = match self.services.get(&host) {
                None => format!("its backend, the Service {}, does not exist: requests for it get 500", backend.name),
                Some(service) if service.port(port).is_none() => {
                    format!("its backend, the Service {}, has no port {port}: requests for it get 500", backend.name)
                }
                Some(_) => continue,
            };
            self.warn(object, message);
        }
    }

    fn finish(&mut self) {
        // Between objects the older wins, then the name.
        for routes in Arc::make_mut(&mut self.routes).values_mut() {
            let age = |route: &AttachedRoute| {
                let meta = &route.object.meta;
                (meta.creation_timestamp.is_none(), meta.creation_timestamp.clone(), meta.name.clone())
            };
            routes.sort_by_key(age);
        }
        self.sidecars.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.warn_of_unknown_hosts();
    }

    fn warn_of_unknown_hosts(&mut self) {
        let mut warnings = Vec::new();
        for sidecar in &self.sidecars {
            let hosts = sidecar.spec.egress.iter().flat_map(|egress| egress.hosts());
            for host in hosts.filter_map(|host| host.host) {
                if !self.services.contains_key(host) {
                    let object = api::Key {
                        kind: api::Kind::Sidecar,
                        namespace: sidecar.namespace.clone(),
                        name: sidecar.name.clone(),
                    };
                    warnings.push(Warning { object, message: format!("its egress host {host} is no service") });
                }
            }
        }
        self.warnings.extend(warnings);
    }
}

/// A service as it was, if it is still the same.
fn shared(made: Service, before: Option<&Arc<Service>>) -> Arc<Service> {
    match before {
        Some(before) if **before == made => before.clone(),
        _ => Arc::new(made),
    }
}

/// Workloads by namespace, label and value.
struct ByLabel(HashMap<(String, String, String), Vec<Arc<Workload>>>);

impl ByLabel {
    /// In the order of their names.
    fn selected_by(&self, object: &Object) -> Vec<&Arc<Workload>> {
        let Some(labels) = service::selector(object) else { return Vec::new() };
        let with = |(key, value): (&String, &String)| {
            let found = self.0.get(&(object.meta.namespace.clone(), key.clone(), value.clone()));
            found.map(Vec::as_slice).unwrap_or_default()
        };
        let rarest = labels.iter().map(with).min_by_key(|found| found.len()).unwrap_or_default();
        rarest.iter().filter(|workload| service::selects(object, workload)).collect()
    }
}

/// The host of the Service that a slice says it belongs to.
pub(super) fn slice_host(object: &Object) -> String {
    let name = object.meta.labels.get(SERVICE_NAME_LABEL).map(String::as_str).unwrap_or_default();
    Registry::host(name, &object.meta.namespace)
}

pub(super) fn workload(object: &Object, spec: &WorkloadEntrySpec, trust_domain: &str) -> Result<Workload, String> {
    let meta = &object.meta;
    let identity = SpiffeId::workload(trust_domain, &meta.namespace, spec.service_account())
        .map_err(|error| format!("the workload is left out: {error}"))?;
    // Labels of the entry itself win over those of its metadata, as in Istio.
    let mut labels = meta.labels.clone();
    labels.extend(spec.labels.clone());
    Ok(Workload {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        address: spec.address.clone(),
        ports: spec.ports.clone(),
        mtls: labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == TLS_MODE_ISTIO),
        labels,
        identity,
        weight: spec.weight.unwrap_or(1),
        locality: spec.locality.clone().unwrap_or_default(),
    })
}
