//! The files of a mesh directory, and what in them concerns this machine: workloads and services.

use anyhow::Context;
use api::{Object, Spec, parse_file};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Annotations on a WorkloadEntry.
pub(crate) const COMMAND: &str = "ripstop.dev/command";
pub(crate) const DIRECTORY: &str = "ripstop.dev/directory";
pub(crate) const SIDECAR: &str = "ripstop.dev/sidecar";

/// The directory's content at one moment. A file that cannot be understood is passed on as it is: the control plane
/// rejects it by line and keeps what was good.
#[derive(Clone, Debug)]
pub(crate) struct MeshFiles {
    dir: PathBuf,
    texts: BTreeMap<String, String>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) services: Vec<Service>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) service_account: String,
    /// The application's ports by name.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) command: Option<String>,
    pub(crate) directory: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) namespace: String,
    pub(crate) name: String,
    selector: BTreeMap<String, String>,
    pub(crate) port: u16,
    pub(crate) port_name: String,
}

impl MeshFiles {
    pub(crate) fn read(dir: &Path) -> anyhow::Result<MeshFiles> {
        let texts = read_texts(dir)?;
        let mut files = MeshFiles { dir: dir.to_path_buf(), texts, workloads: Vec::new(), services: Vec::new() };
        files.understand(true)?;
        anyhow::ensure!(
            !files.workloads.is_empty(),
            "{} has no WorkloadEntry, so there is nothing to run; see examples/hello",
            dir.display()
        );
        Ok(files)
    }

    /// Reads again; true when something changed.
    pub(crate) fn changed(&mut self) -> anyhow::Result<bool> {
        let texts = read_texts(&self.dir)?;
        if texts == self.texts {
            return Ok(false);
        }
        self.texts = texts;
        self.understand(false)?;
        Ok(true)
    }

    /// Finds workloads and services. `strict`: a file that cannot be parsed is an error (at the first start).
    fn understand(&mut self, strict: bool) -> anyhow::Result<()> {
        let mut objects = Vec::new();
        for (name, text) in &self.texts {
            let shown = self.dir.join(name).display().to_string();
            match parse_file(&shown, text) {
                Ok(more) => objects.extend(more),
                Err(error) if strict => return Err(anyhow::Error::msg(error.to_string())),
                Err(error) => {
                    eprintln!("{error}");
                    // What the file said before stays in force.
                    return Ok(());
                }
            }
        }
        self.services = objects.iter().filter_map(service).collect();
        self.workloads = objects.iter().filter_map(|object| workload(object, &self.services, &self.dir)).collect();
        Ok(())
    }

    /// The files as the control plane gets them: each WorkloadEntry with a sidecar listens where the sidecar does.
    pub(crate) fn rewritten(&self, inbound: impl Fn(&str, &str) -> Option<u16>) -> BTreeMap<String, String> {
        self.texts
            .iter()
            .map(|(name, text)| (name.clone(), rewrite(text, &inbound).unwrap_or_else(|| text.clone())))
            .collect()
    }
}

fn read_texts(dir: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let entries = std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        if matches!(suffix, "yaml" | "yml" | "json")
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            texts.insert(name.to_string(), text);
        }
    }
    Ok(texts)
}

fn service(object: &Object) -> Option<Service> {
    let Spec::Service(spec) = &object.spec else { return None };
    let port = spec.ports.first()?;
    Some(Service {
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        selector: spec.selector.clone(),
        port: port.port.0,
        port_name: port.name.clone().unwrap_or_default(),
    })
}

fn workload(object: &Object, services: &[Service], dir: &Path) -> Option<Workload> {
    let Spec::WorkloadEntry(spec) = &object.spec else { return None };
    let meta = &object.meta;
    if meta.annotations.get(SIDECAR).is_some_and(|value| value == "false") {
        return None;
    }
    let selects = |service: &&Service| {
        service.namespace == meta.namespace
            && !service.selector.is_empty()
            && service.selector.iter().all(|(name, value)| spec.labels.get(name) == Some(value))
    };
    let service = services.iter().find(selects).map(|service| service.name.clone());
    Some(Workload {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        service: service.unwrap_or_else(|| meta.name.clone()),
        service_account: spec.service_account().to_string(),
        ports: spec.ports.iter().map(|(name, port)| (name.clone(), port.0)).collect(),
        command: meta.annotations.get(COMMAND).cloned(),
        directory: meta.annotations.get(DIRECTORY).map_or_else(|| dir.to_path_buf(), |sub| dir.join(sub)),
    })
}

/// `None` when nothing has to be changed.
fn rewrite(text: &str, inbound: &impl Fn(&str, &str) -> Option<u16>) -> Option<String> {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).ok()?;
    let mut changed = false;
    for document in &mut documents {
        if let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) {
            for item in items {
                changed |= rewrite_one(item, inbound);
            }
        } else {
            changed |= rewrite_one(document, inbound);
        }
    }
    let list = || serde_json::json!({"apiVersion": "v1", "kind": "List", "items": documents});
    changed.then(|| list().to_string())
}

fn rewrite_one(object: &mut Value, inbound: &impl Fn(&str, &str) -> Option<u16>) -> bool {
    if object.get("kind").and_then(Value::as_str) != Some("WorkloadEntry") {
        return false;
    }
    let Some(name) = object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_string) else { return false };
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return false };
    let mut changed = false;
    if let Some(ports) = spec.get_mut("ports").and_then(Value::as_object_mut) {
        for (port_name, number) in ports.iter_mut() {
            if let Some(port) = inbound(&name, port_name) {
                *number = port.into();
                changed = true;
            }
        }
    }
    if changed {
        spec.insert("address".into(), "127.0.0.1".into());
        let labels = spec.entry("labels").or_insert_with(|| serde_json::json!({}));
        labels["security.istio.io/tlsMode"] = "istio".into();
        labels["ripstop.dev/workload"] = name.into();
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_move_behind_their_sidecars() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a-1}\nspec: {address: 127.0.0.1, ports: {http: 8080}, labels: {app: a}}\n";
        let new = rewrite(text, &|name, port| (name == "a-1" && port == "http").then_some(9000)).unwrap();
        let new: Value = serde_json::from_str(&new).unwrap();
        assert_eq!(new["items"][0]["kind"], "Service");
        assert_eq!(new["items"][1]["spec"]["ports"]["http"], 9000);
        assert_eq!(new["items"][1]["spec"]["labels"]["security.istio.io/tlsMode"], "istio");
        assert!(rewrite(text, &|_, _| None).is_none());
    }
}
