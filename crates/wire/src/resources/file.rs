//! Resources from files (`path_config_source`): a `DiscoveryResponse` as YAML or JSON.

use super::{Change, Incoming};
use crate::json::Document;
use crate::kind::ResourceKind;
use crate::pb::envoy::service::discovery::v3::DiscoveryResponse;
use crate::problem::{At, FileError};
use std::sync::Arc;

/// All resources of `kind` that the file holds.
pub fn read_file(kind: ResourceKind, file: &str, text: &str) -> Result<Change, FileError> {
    let document = Document::parse(file, text)?;
    let response: DiscoveryResponse = document.read()?;
    let version: Arc<str> = response.version_info.into();
    let mut upserts = Vec::new();
    for (index, any) in response.resources.into_iter().enumerate() {
        if any.type_url != kind.type_url() {
            let text = format!("is a {}; this file must hold {}", any.type_url, kind.type_url());
            return Err(document.explain(At::ROOT.item("resources", index).problem(text).into()));
        }
        let (version, body) = (version.clone(), any.value.into());
        upserts.push(Incoming { name: String::new(), version, aliases: Vec::new(), body });
    }
    Ok(Change { upserts, full: true, ..Change::of(kind) })
}
