//! Resources as a control plane may send them: accepted or refused, and the snapshot links in any case.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use wire::compile::bootstrap::{Bootstrap, Overrides, load};
use wire::resources::{Change, Incoming};
use wire::{ResourceKind, Resources};

const CONFIG: &str = r#"
dynamic_resources:
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: control}}]}
static_resources: {clusters: [{name: control, type: STATIC}]}
node: {id: a, cluster: b}
"#;

fn bootstrap() -> &'static Bootstrap {
    static BOOTSTRAP: OnceLock<Bootstrap> = OnceLock::new();
    BOOTSTRAP.get_or_init(|| load(Some(("f", CONFIG)), &Overrides::default()).unwrap_or_else(|error| panic!("{error}")))
}

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let kind = ResourceKind::ALL[usize::from(*first) % ResourceKind::ALL.len()];
    let mut resources = Resources::new(bootstrap());
    let (name, aliases, body) = (String::new(), Vec::new(), Bytes::copy_from_slice(body));
    let change = Change { upserts: vec![Incoming { name, version: "1".into(), aliases, body }], ..Change::of(kind) };
    let _ = resources.apply(change);
    let _ = resources.snapshot();
});
