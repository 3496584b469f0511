//! One service, made of its object, the workloads it selects and its slices.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kinds::endpoint_slice::EndpointSliceSpec;
use api::kinds::service::{ServicePort as ServicePortSpec, ServiceSpec};
use api::kinds::service_entry::{EntryPort, Resolution as EntryResolution, ServiceEntrySpec};
use api::kinds::workload_entry::{TLS_MODE_ISTIO, TLS_MODE_LABEL};
use api::kinds::{Port, PortRef};
use api::{Object, Spec};
use identity::SpiffeId;

use super::{Endpoint, Registry, Resolution, Service, ServicePort, Workload};

/// Labels that a workload must have to belong to a service; without any, none does.
pub(super) fn selector(object: &Object) -> Option<&BTreeMap<String, String>> {
    let labels = match &object.spec {
        Spec::Service(spec) => Some(&spec.selector),
        Spec::ServiceEntry(spec) => spec.workload_selector.as_ref().map(|selector| &selector.labels),
        _ => None,
    };
    labels.filter(|labels| !labels.is_empty())
}

pub(super) fn selects(object: &Object, workload: &Workload) -> bool {
    object.meta.namespace == workload.namespace
        && selector(object)
            .is_some_and(|labels| labels.iter().all(|(key, value)| workload.labels.get(key) == Some(value)))
}

/// The service that `object` makes at `host`.
pub(super) fn of(
    object: &Object,
    host: &str,
    selected: &[&Arc<Workload>],
    slices: &[Arc<Object>],
    trust_domain: &str,
) -> Option<Service> {
    let mut service = match &object.spec {
        Spec::Service(spec) => of_service(object, spec, selected),
        Spec::ServiceEntry(spec) => of_entry(object, spec, host, selected, trust_domain),
        _ => return None,
    };
    for slice in slices {
        if let Spec::EndpointSlice(spec) = &slice.spec {
            add_slice(&mut service, spec);
        }
    }
    for port in &mut service.ports {
        port.endpoints.sort();
        port.endpoints.dedup();
    }
    Some(service)
}

fn of_service(object: &Object, spec: &ServiceSpec, selected: &[&Arc<Workload>]) -> Service {
    let (name, namespace) = (&object.meta.name, &object.meta.namespace);
    let ports = spec.ports.iter().map(|port| ServicePort {
        number: port.port.0,
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol(),
        endpoints: selected.iter().filter_map(|workload| behind_service(workload, port)).collect(),
    });
    Service {
        host: Registry::host(name, namespace),
        name: name.clone(),
        namespace: namespace.clone(),
        ports: ports.collect(),
        resolution: Resolution::Endpoints,
        in_cluster: true,
    }
}

fn of_entry(
    object: &Object,
    spec: &ServiceEntrySpec,
    host: &str,
    selected: &[&Arc<Workload>],
    trust_domain: &str,
) -> Service {
    let namespace = object.meta.namespace.as_str();
    let ports = spec.ports.iter().map(|port| ServicePort {
        number: port.number.0,
        name: port.name.clone(),
        protocol: port.protocol(),
        endpoints: entry_endpoints(trust_domain, namespace, host, spec, port, selected),
    });
    Service {
        host: host.to_owned(),
        name: host.to_owned(),
        namespace: namespace.to_owned(),
        ports: ports.collect(),
        resolution: match spec.resolution {
            EntryResolution::Dns => Resolution::Dns,
            EntryResolution::Static | EntryResolution::None => Resolution::Endpoints,
        },
        in_cluster: false,
    }
}

fn add_slice(service: &mut Service, spec: &EndpointSliceSpec) {
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
    selected: &[&Arc<Workload>],
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
