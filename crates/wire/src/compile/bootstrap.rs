//! The bootstrap: the file a proxy starts from (`bootstrap.v3.Bootstrap`).

use super::source::{AdsSource, Source, ads, source};
use super::{Compiled, Context, Need, Result, Scope, address, cluster, compiled, listener, overload, secret};
use crate::json::Document;
use crate::pb::envoy::config::bootstrap::v3 as pb;
use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::config::core::v3::api_config_source::ApiType;
use crate::problem::{At, FileError, Problem, Problems, gather};
use crate::support;
use model::Address;
use model::cluster::Cluster;
use model::endpoint::Locality;
use model::listener::Listener;
use model::overload::Overload;
use model::snapshot::OwnZone;
use model::tls::Secret;
use prost::{Message, Name};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub node: Node,
    pub admin: Option<Address>,
    pub listeners: Vec<Compiled<Arc<Listener>>>,
    pub clusters: Vec<Compiled<Arc<Cluster>>>,
    pub secrets: Vec<(String, Secret)>,
    pub dynamic: Dynamic,
    /// Where this proxy is among its peers.
    pub zone: Option<Arc<OwnZone>>,
    pub overload: Option<Overload>,
    /// For what is compiled later.
    pub scope: Scope,
    /// As it was read, for `/config_dump`.
    pub raw: Vec<u8>,
    /// Accepted fields that do nothing, with the reason.
    pub without_effect: Vec<Problem>,
}

/// `dynamic_resources`.
#[derive(Clone, Debug, Default)]
pub struct Dynamic {
    pub ads: Option<AdsSource>,
    pub lds: Option<Source>,
    pub cds: Option<Source>,
}

/// What the command line adds to the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config-yaml`: merged over the file.
    pub yaml: Option<String>,
    /// `--service-node`.
    pub node_id: Option<String>,
    /// `--service-cluster`.
    pub node_cluster: Option<String>,
}

/// Reads, checks and compiles a bootstrap given as YAML or JSON; `file` is named in errors. Without a file there
/// is only what the overrides say.
pub fn load(file: Option<(&str, &str)>, overrides: &Overrides) -> std::result::Result<Bootstrap, FileError> {
    load_and_check(file, overrides, |_| Ok(()))
}

/// As `load`; `check` may find more wrong, which is then explained with its position too.
pub fn load_and_check(
    file: Option<(&str, &str)>,
    overrides: &Overrides,
    check: impl FnOnce(&Bootstrap) -> Result<()>,
) -> std::result::Result<Bootstrap, FileError> {
    // One schema for reading and checking.
    let _schema = crate::schema::schema();
    let mut message = pb::Bootstrap::default();
    let mut documents = Vec::new();
    let yaml = overrides.yaml.as_deref().map(|text| ("--config-yaml", text));
    for (name, text) in [file, yaml].into_iter().flatten() {
        let document = Document::parse(name, text)?;
        let part: pb::Bootstrap = document.read()?;
        match documents.is_empty() {
            true => message = part,
            false => message.merge(part.encode_to_vec().as_slice()).expect("an encoded message of the same type"),
        }
        documents.push(document);
    }
    let node = message.node.get_or_insert_default();
    node.id = overrides.node_id.clone().unwrap_or(std::mem::take(&mut node.id));
    node.cluster = overrides.node_cluster.clone().unwrap_or(std::mem::take(&mut node.cluster));
    let checked = bootstrap(&message).and_then(|bootstrap| check(&bootstrap).map(|()| bootstrap));
    checked.map_err(|problems| match documents.first() {
        Some(document) => document.explain(problems),
        None => FileError { file: "command line".into(), problems: problems.0 },
    })
}

/// Compiles a bootstrap.
pub fn bootstrap(pb: &pb::Bootstrap) -> Result<Bootstrap> {
    let raw = pb.encode_to_vec();
    let report = support::check(&pb::Bootstrap::full_name(), &raw);
    if !report.refused.is_empty() {
        return Err(Problems(report.refused));
    }
    let resources = pb.static_resources.clone().unwrap_or_default();
    let scope = Scope {
        node_id: pb.node.as_ref().map(|node| node.id.clone()).unwrap_or_default(),
        node_cluster: pb.node.as_ref().map(|node| node.cluster.clone()).unwrap_or_default(),
        static_secrets: resources.secrets.iter().map(|secret| secret.name.clone()).collect(),
        clusters: Some(resources.clusters.iter().map(|cluster| cluster.name.clone()).collect()),
        delta_ads: delta_ads(pb),
    };
    let root = At::ROOT;
    let at = root.field("static_resources");
    check_names(&at, &resources)?;
    let mut wrong = Vec::new();
    let secrets = resources.secrets.iter().enumerate();
    let secrets = secrets.map(|(index, one)| Ok((one.name.clone(), secret::secret(&at.item("secrets", index), one)?)));
    let secrets = keep(&mut wrong, gather(secrets));
    let clusters = resources.clusters.iter().enumerate();
    let clusters = clusters.map(|(index, one)| {
        compiled(&scope, |cx| cluster::cluster(cx, &at.item("clusters", index), one).map(Arc::new))
    });
    let clusters = keep(&mut wrong, gather(clusters));
    let listeners = resources.listeners.iter().enumerate();
    let listeners = listeners.map(|(index, one)| {
        compiled(&scope, |cx| listener::listener(cx, &at.item("listeners", index), one).map(Arc::new))
    });
    let listeners = keep(&mut wrong, gather(listeners));
    let dynamic = keep(&mut wrong, dynamic(&scope, pb));
    let admin = keep(&mut wrong, admin(pb));
    let overload = pb.overload_manager.as_ref();
    let overload = overload.map(|one| overload::overload(&root.field("overload_manager"), one)).transpose();
    let overload = keep(&mut wrong, overload);
    let zone = keep(&mut wrong, zone(&scope, pb));
    let needs = clusters.iter().map(|one| (&one.value.name, &one.needs));
    let needs = needs.chain(listeners.iter().map(|one| (&one.value.name, &one.needs)));
    if wrong.is_empty() {
        keep(&mut wrong, check_sources(&scope, &dynamic, needs));
        keep(&mut wrong, check_addresses(&at, &listeners));
    }
    if !wrong.is_empty() {
        return Err(Problems(wrong));
    }
    Ok(Bootstrap {
        node: pb.node.clone().unwrap_or_default(),
        admin,
        listeners,
        clusters,
        secrets,
        dynamic,
        zone,
        overload,
        // What comes later may name clusters that come later.
        scope: Scope { clusters: None, ..scope },
        raw,
        without_effect: report.without_effect,
    })
}

fn delta_ads(pb: &pb::Bootstrap) -> bool {
    let ads = pb.dynamic_resources.as_ref().and_then(|dynamic| dynamic.ads_config.as_ref());
    ads.is_some_and(|ads| matches!(ads.api_type(), ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc))
}

/// Goes on after an error, so that every part is checked.
fn keep<T: Default>(wrong: &mut Vec<Problem>, result: Result<T>) -> T {
    result.unwrap_or_else(|problems| {
        wrong.extend(problems.0);
        T::default()
    })
}

fn check_names(at: &At<'_>, resources: &pb::bootstrap::StaticResources) -> Result<()> {
    let twice = |field: &'static str, names: Vec<&String>| {
        let mut seen = HashSet::new();
        let duplicate = names.into_iter().enumerate().find(|(_, name)| !name.is_empty() && !seen.insert(*name));
        match duplicate {
            Some((index, name)) => at.item(field, index).field("name").wrong(format!("`{name}` is used twice")),
            None => Ok(()),
        }
    };
    gather([
        twice("listeners", resources.listeners.iter().map(|listener| &listener.name).collect()),
        twice("clusters", resources.clusters.iter().map(|cluster| &cluster.name).collect()),
        twice("secrets", resources.secrets.iter().map(|secret| &secret.name).collect()),
    ])
    .map(|_| ())
}

/// What is referred to must have somewhere to come from.
fn check_sources<'a>(
    scope: &Scope,
    dynamic: &Dynamic,
    needs: impl Iterator<Item = (&'a Arc<str>, &'a Arc<[Need]>)>,
) -> Result<()> {
    let root = At::ROOT;
    let ads = root.field("dynamic_resources");
    let all = needs.flat_map(|(owner, needs)| needs.iter().map(move |need| (owner, need)));
    gather(all.map(|(owner, need)| match &need.source {
        Source::Ads if dynamic.ads.is_none() => {
            ads.field("ads_config").wrong(format!("is required: `{owner}` refers to `{}` by ADS", need.name))
        }
        Source::Grpc { cluster, .. } if scope.clusters.as_ref().is_some_and(|names| !names.contains(cluster)) => {
            root.field("static_resources").wrong(format!("`{owner}` asks cluster `{cluster}`, which does not exist"))
        }
        _ => Ok(()),
    }))
    .map(|_| ())
}

/// Two listeners on one address would share its connections by chance.
fn check_addresses(at: &At<'_>, listeners: &[Compiled<Arc<Listener>>]) -> Result<()> {
    let mut owners: HashMap<&Address, &str> = HashMap::new();
    gather(listeners.iter().enumerate().map(|(index, one)| {
        let all = std::iter::once(&one.value.address).chain(&one.value.additional_addresses);
        for address in all.filter(|address| address.tcp().is_none_or(|tcp| tcp.port() != 0)) {
            if let Some(owner) = owners.insert(address, &one.value.name) {
                let text = format!("{address} is the address of listener `{owner}` too");
                return at.item("listeners", index).field("address").wrong(text);
            }
        }
        Ok(())
    }))
    .map(|_| ())
}

fn admin(pb: &pb::Bootstrap) -> Result<Option<Address>> {
    let Some(pb::Admin { address: Some(given), .. }) = &pb.admin else { return Ok(None) };
    let root = At::ROOT;
    let at = root.field("admin");
    address::address(&at.field("address"), given).map(Some)
}

/// Envoy wants the local cluster in the bootstrap, so that it is there before all others.
fn zone(scope: &Scope, pb: &pb::Bootstrap) -> Result<Option<Arc<OwnZone>>> {
    let name = pb.cluster_manager.as_ref().map(|manager| manager.local_cluster_name.as_str()).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    if scope.clusters.as_ref().is_some_and(|names| !names.contains(name)) {
        let root = At::ROOT;
        let at = root.field("cluster_manager");
        return at.field("local_cluster_name").wrong(format!("static_resources has no cluster `{name}`"));
    }
    let locality = pb.node.as_ref().and_then(|node| node.locality.clone()).unwrap_or_default();
    let locality =
        Locality { region: locality.region.into(), zone: locality.zone.into(), sub_zone: locality.sub_zone.into() };
    Ok(Some(Arc::new(OwnZone { locality, cluster: name.into() })))
}

fn dynamic(scope: &Scope, pb: &pb::Bootstrap) -> Result<Dynamic> {
    let Some(resources) = &pb.dynamic_resources else { return Ok(Dynamic::default()) };
    let root = At::ROOT;
    let at = root.field("dynamic_resources");
    let ads = resources.ads_config.as_ref().map(|config| ads(&at.field("ads_config"), config)).transpose()?;
    let clusters = scope.clusters.as_ref();
    if let Some(ads) = ads.as_ref().filter(|ads| clusters.is_some_and(|names| !names.contains(&ads.cluster))) {
        let text = format!("static_resources has no cluster `{}`", ads.cluster);
        return at.field("ads_config").item("grpc_services", 0).wrong(text);
    }
    let lds = resources.lds_config.as_ref().map(|config| source(&at.field("lds_config"), config)).transpose()?;
    let cds = resources.cds_config.as_ref().map(|config| source(&at.field("cds_config"), config)).transpose()?;
    for (name, one) in [("lds_config", &lds), ("cds_config", &cds)] {
        if *one == Some(Source::Ads) && ads.is_none() {
            return at.field(name).wrong("asks for ADS; give ads_config");
        }
    }
    Ok(Dynamic { ads, lds, cds })
}

impl Bootstrap {
    /// A context for resources that arrive later.
    pub fn context(&self) -> Context<'_> {
        Context::new(&self.scope)
    }
}
