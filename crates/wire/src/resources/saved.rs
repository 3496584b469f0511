//! The last known good: accepted resources as bytes for a file, so that a proxy can start while the control plane is
//! away. One length-delimited `DeltaDiscoveryResponse` per kind.

use super::{Change, Incoming, Rejected, Rejection, Resources};
use crate::kind::ResourceKind;
use crate::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use crate::pb::google::protobuf::Any;
use crate::problem::At;
use prost::Message;

impl Resources {
    /// Everything accepted but secrets: private keys do not belong in this file. What requests asked for is asked for
    /// again.
    pub fn export(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let left_out = [ResourceKind::Secret, ResourceKind::VirtualHosts];
        for kind in ResourceKind::ALL.into_iter().filter(|kind| !left_out.contains(kind)) {
            let kept = self.dump(kind).into_iter();
            let kept = kept.filter(|held| kind != ResourceKind::Cluster || !self.is_on_demand(&held.name));
            let resources = kept.map(|held| Resource {
                name: held.name.to_string(),
                version: held.version.to_string(),
                resource: Some(Any { type_url: kind.type_url().into(), value: held.body.to_vec() }),
                ..Resource::default()
            });
            let message = DeltaDiscoveryResponse {
                type_url: kind.type_url().into(),
                resources: resources.collect(),
                ..DeltaDiscoveryResponse::default()
            };
            message.encode_length_delimited(&mut out).expect("a vector grows");
        }
        out
    }

    /// Takes an export over.
    pub fn import(&mut self, mut saved: &[u8]) -> Result<(), Rejected> {
        let damaged = |text: String| {
            Rejected(vec![Rejection { name: "saved resources".into(), problems: At::ROOT.problem(text).into() }])
        };
        while !saved.is_empty() {
            let message = DeltaDiscoveryResponse::decode_length_delimited(&mut saved);
            let message = message.map_err(|error| damaged(format!("are damaged: {error}")))?;
            let kind = ResourceKind::from_type_url(&message.type_url);
            let kind = kind.ok_or_else(|| damaged(format!("hold an unknown type `{}`", message.type_url)))?;
            let upserts = message.resources.into_iter().map(|resource| Incoming {
                name: resource.name,
                version: resource.version.into(),
                aliases: Vec::new(),
                body: resource.resource.map(|any| any.value).unwrap_or_default().into(),
            });
            self.apply(Change { upserts: upserts.collect(), ..Change::of(kind) })?;
        }
        Ok(())
    }
}
