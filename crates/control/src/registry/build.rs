//! Objects to registry. Whatever refers to nothing becomes a warning: the rest goes on working.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kinds::endpoint_slice::{EndpointSliceSpec, SERVICE_NAME_LABEL};
use api::kinds::http_route::HttpRouteSpec;
use api::kinds::service::{ServicePort as ServicePortSpec, ServiceSpec};
use api::kinds::service_entry::{EntryPort, Resolution as EntryResolution, ServiceEntrySpec};
use api::kinds::workload_entry::{TLS_MODE_ISTIO, TLS_MODE_LABEL, WorkloadEntrySpec};
use api::kinds::{Port, PortRef};
use api::{Object, ObjectSet, Spec};
use identity::SpiffeId;

use super::{AttachedRoute, Endpoint, Registry, Resolution, Service, ServicePort, Sidecar, Warning, Workload};

impl Registry {
    pub fn build(objects: &ObjectSet, trust_domain: &str) -> Self {
        let mut registry = Self { trust_domain: trust_domain.to_owned(), ..Self::default() };
        for object in objects.objects() {
            match &object.spec {
                Spec::WorkloadEntry(spec) => registry.add_workload(object, spec),
                Spec::Sidecar(spec) => registry.sidecars.push(Sidecar {
                    name: object.meta.name.clone(),
                    namespace: object.meta.namespace.clone(),
                    spec: spec.clone(),
                }),
                _ => {}
            }
        }
        for object in objects.objects() {
            match &object.spec {
                Spec::Service(spec) => registry.add_service(object, spec),
                Spec::ServiceEntry(spec) => registry.add_entry(object, spec),
                _ => {}
            }
        }
        for object in objects.objects() {
            match &object.spec {
                Spec::EndpointSlice(spec) => registry.add_slice(object, spec),
                Spec::HttpRoute(spec) => registry.attach(object, spec),
                _ => {}
            }
        }
        registry.finish();
        registry
    }

    fn warn(&mut self, object: &Object, message: String) {
        self.warnings.push(Warning { object: object.key(), message });
    }

    fn add_workload(&mut self, object: &Object, spec: &WorkloadEntrySpec) {
        let meta = &object.meta;
        let identity = match SpiffeId::workload(&self.trust_domain, &meta.namespace, spec.service_account()) {
            Ok(identity) => identity,
            Err(error) => return self.warn(object, format!("the workload is left out: {error}")),
        };
        // Labels of the entry itself win over those of its metadata, as in Istio.
        let mut labels = meta.labels.clone();
        labels.extend(spec.labels.clone());
        let workload = Workload {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            address: spec.address.clone(),
            ports: spec.ports.clone(),
            mtls: labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == TLS_MODE_ISTIO),
            labels,
            identity,
            weight: spec.weight.unwrap_or(1),
            locality: spec.locality.clone().unwrap_or_default(),
            services: Vec::new(),
        };
        self.workloads.insert((meta.namespace.clone(), meta.name.clone()), workload);
    }

    fn add_service(&mut self, object: &Object, spec: &ServiceSpec) {
        let (name, namespace) = (&object.meta.name, &object.meta.namespace);
        let selected = self.select(namespace, &spec.selector, name);
        let ports = spec.ports.iter().map(|port| ServicePort {
            number: port.port.0,
            name: port.name.clone().unwrap_or_default(),
            protocol: port.protocol(),
            endpoints: selected.iter().filter_map(|workload| behind_service(workload, port)).collect(),
        });
        let service = Service {
            host: Self::host(name, namespace),
            name: name.clone(),
            namespace: namespace.clone(),
            ports: ports.collect(),
            resolution: Resolution::Endpoints,
            in_cluster: true,
        };
        self.services.insert(service.host.clone(), service);
    }

    /// Workloads with all of these labels; an empty selector selects nothing. Notes on them which service it was.
    fn select(&mut self, namespace: &str, selector: &BTreeMap<String, String>, service: &str) -> Vec<Workload> {
        let mut selected = Vec::new();
        if selector.is_empty() {
            return selected;
        }
        for workload in self.workloads.values_mut() {
            let fits = selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value));
            if fits && workload.namespace == namespace {
                workload.services.push(service.to_owned());
                selected.push(workload.clone());
            }
        }
        selected
    }

    fn add_entry(&mut self, object: &Object, spec: &ServiceEntrySpec) {
        let namespace = object.meta.namespace.as_str();
        let selected = match &spec.workload_selector {
            Some(selector) => self.select(namespace, &selector.labels, &object.meta.name),
            None => Vec::new(),
        };
        for host in &spec.hosts {
            if let Some(other) = self.services.get(host) {
                let message = format!("the host {host} is already that of {}/{}", other.namespace, other.name);
                self.warn(object, message);
                continue;
            }
            let ports = spec.ports.iter().map(|port| ServicePort {
                number: port.number.0,
                name: port.name.clone(),
                protocol: port.protocol(),
                endpoints: entry_endpoints(&self.trust_domain, namespace, host, spec, port, &selected),
            });
            let service = Service {
                host: host.clone(),
                name: host.clone(),
                namespace: namespace.to_owned(),
                ports: ports.collect(),
                resolution: match spec.resolution {
                    EntryResolution::Dns => Resolution::Dns,
                    EntryResolution::Static | EntryResolution::None => Resolution::Endpoints,
                },
                in_cluster: false,
            };
            self.services.insert(host.clone(), service);
        }
    }

    fn add_slice(&mut self, object: &Object, spec: &EndpointSliceSpec) {
        let name = object.meta.labels.get(SERVICE_NAME_LABEL).cloned().unwrap_or_default();
        let host = Self::host(&name, &object.meta.namespace);
        let Some(service) = self.services.get_mut(&host) else {
            return self
                .warn(object, format!("there is no Service {}/{name} for these endpoints", object.meta.namespace));
        };
        for port in &mut service.ports {
            // A slice without ports or with a single unnamed one serves every port by its own number.
            let slice_port = spec.ports.iter().find(|slice| slice.name == port.name || spec.ports.len() == 1);
            let number = match slice_port {
                Some(slice) => slice.port.0,
                None if spec.ports.is_empty() => port.number,
                None => continue,
            };
            for endpoint in spec.endpoints.iter().filter(|endpoint| endpoint.ready()) {
                port.endpoints.extend(endpoint.addresses.iter().map(|address| Endpoint {
                    address: address.to_string(),
                    port: number,
                    weight: 1,
                    locality: endpoint.zone.clone().map(|zone| format!("/{zone}")).unwrap_or_default(),
                    identity: None,
                    workload: endpoint.hostname.clone().unwrap_or_default(),
                    version: String::new(),
                }));
            }
        }
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
                    self.routes.entry(host).or_default().push(route);
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
        for service in self.services.values_mut() {
            for port in &mut service.ports {
                port.endpoints.sort();
                port.endpoints.dedup();
            }
        }
        // Between objects the older wins, then the name.
        for routes in self.routes.values_mut() {
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

/// The endpoint that a workload is for a Service's port: `None` when it has no port of that name.
fn behind_service(workload: &Workload, port: &ServicePortSpec) -> Option<Endpoint> {
    let by_name = |name: &str| workload.ports.get(name).map(|port| port.0);
    let number = match port.target() {
        PortRef::Name(name) => by_name(&name)?,
        // The workload's word on the named port wins over the number, as in Istio.
        PortRef::Number(number) => port.name.as_deref().and_then(by_name).unwrap_or(number.0),
    };
    Some(endpoint_of(workload, number))
}

fn endpoint_of(workload: &Workload, port: u16) -> Endpoint {
    Endpoint {
        address: workload.address.clone(),
        port,
        weight: workload.weight,
        locality: workload.locality.clone(),
        identity: workload.mtls.then(|| workload.identity.to_string()),
        workload: workload.name.clone(),
        version: workload.labels.get("version").cloned().unwrap_or_default(),
    }
}

fn entry_endpoints(
    trust_domain: &str,
    namespace: &str,
    host: &str,
    spec: &ServiceEntrySpec,
    port: &EntryPort,
    selected: &[Workload],
) -> Vec<Endpoint> {
    let target =
        |ports: &BTreeMap<String, Port>| ports.get(&port.name).copied().or(port.target_port).unwrap_or(port.number).0;
    let mut endpoints: Vec<_> =
        selected.iter().map(|workload| endpoint_of(workload, target(&workload.ports))).collect();
    endpoints.extend(spec.endpoints.iter().map(|entry| {
        let mtls = entry.labels.get(TLS_MODE_LABEL).is_some_and(|mode| mode == TLS_MODE_ISTIO);
        let identity = SpiffeId::workload(trust_domain, namespace, entry.service_account()).ok();
        Endpoint {
            address: entry.address.clone(),
            port: target(&entry.ports),
            weight: entry.weight.unwrap_or(1),
            locality: entry.locality.clone().unwrap_or_default(),
            identity: identity.filter(|_| mtls).map(|id| id.to_string()),
            workload: String::new(),
            version: entry.labels.get("version").cloned().unwrap_or_default(),
        }
    }));
    if endpoints.is_empty() && spec.resolution == EntryResolution::Dns {
        // The host itself is the name to resolve.
        endpoints.push(Endpoint {
            address: host.to_owned(),
            port: target(&BTreeMap::new()),
            weight: 1,
            locality: String::new(),
            identity: None,
            workload: String::new(),
            version: String::new(),
        });
    }
    endpoints
}
