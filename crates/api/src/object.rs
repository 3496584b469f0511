//! A parsed object: its key, its metadata and the spec of its kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::kinds::endpoint_slice::EndpointSliceSpec;
use crate::kinds::http_route::HttpRouteSpec;
use crate::kinds::service::ServiceSpec;
use crate::kinds::service_entry::ServiceEntrySpec;
use crate::kinds::sidecar::SidecarSpec;
use crate::kinds::workload_entry::WorkloadEntrySpec;
use crate::problem::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Service,
    EndpointSlice,
    ServiceEntry,
    WorkloadEntry,
    Sidecar,
    HttpRoute,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Service, Self::EndpointSlice, Self::ServiceEntry, Self::WorkloadEntry, Self::Sidecar, Self::HttpRoute];

    /// As files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::Sidecar => "Sidecar",
            Self::HttpRoute => "HTTPRoute",
        }
    }

    /// The versions that have the same fields; the first is the one to write.
    pub fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Service => &["v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::ServiceEntry | Self::WorkloadEntry | Self::Sidecar => {
                &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]
            }
            Self::HttpRoute => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
        }
    }
}

/// What makes an object one and the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

#[derive(Debug, Clone)]
pub struct Object {
    pub meta: Meta,
    pub spec: Spec,
    /// Where the document starts.
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    Service(ServiceSpec),
    EndpointSlice(EndpointSliceSpec),
    ServiceEntry(ServiceEntrySpec),
    WorkloadEntry(WorkloadEntrySpec),
    Sidecar(SidecarSpec),
    HttpRoute(HttpRouteSpec),
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339; older routes win over younger ones.
    pub creation_timestamp: Option<String>,
    // What `kubectl get -o yaml` prints besides; it has no effect here.
    #[serde(default, rename = "uid")]
    _uid: Option<IgnoredAny>,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: Option<IgnoredAny>,
    #[serde(default, rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(default, rename = "managedFields")]
    _managed_fields: Option<IgnoredAny>,
    #[serde(default, rename = "selfLink")]
    _self_link: Option<IgnoredAny>,
    #[serde(default, rename = "ownerReferences")]
    _owner_references: Option<IgnoredAny>,
    #[serde(default, rename = "finalizers")]
    _finalizers: Option<IgnoredAny>,
    #[serde(default, rename = "generateName")]
    _generate_name: Option<IgnoredAny>,
}

fn default_namespace() -> String {
    "default".into()
}

impl Object {
    pub fn kind(&self) -> Kind {
        match self.spec {
            Spec::Service(_) => Kind::Service,
            Spec::EndpointSlice(_) => Kind::EndpointSlice,
            Spec::ServiceEntry(_) => Kind::ServiceEntry,
            Spec::WorkloadEntry(_) => Kind::WorkloadEntry,
            Spec::Sidecar(_) => Kind::Sidecar,
            Spec::HttpRoute(_) => Kind::HttpRoute,
        }
    }

    /// Equal but for where it stands in its file.
    pub fn says_the_same_as(&self, other: &Object) -> bool {
        self.meta == other.meta && self.spec == other.spec
    }

    pub fn key(&self) -> Key {
        Key { kind: self.kind(), namespace: self.meta.namespace.clone(), name: self.meta.name.clone() }
    }
}
