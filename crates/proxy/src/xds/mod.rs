//! Discovery: streams to the control plane and files, both feeding the same resources.

mod files;
mod stream;

use crate::agent;
use crate::core::Configuration;
use model::demand::Demand;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use wire::ResourceKind;
use wire::compile::bootstrap::Bootstrap;
use wire::compile::source::{AdsSource, Source};
use wire::pb::envoy::config::core::v3::Node;
use wire::resources::Change;
use wire::xds::client::Interest;

/// Told when the first complete configuration is there.
pub struct FirstAnswer(Arc<Notify>);

impl FirstAnswer {
    pub async fn arrived(&mut self) {
        self.0.notified().await;
    }
}

/// What all streams and files share.
#[derive(Clone)]
pub(crate) struct Discovery {
    configuration: Configuration,
    node: Node,
    ads: Option<AdsSource>,
    /// Kinds whose whole list comes over ADS.
    wildcards: Vec<ResourceKind>,
    /// Secrets that this process makes itself and must not ask for.
    local_secrets: bool,
    /// Counts changes of the resources, so that every stream looks again at what it wants.
    changes: watch::Sender<u64>,
    first: Arc<Notify>,
}

/// Starts the streams and file watchers that the bootstrap and its resources ask for.
pub(crate) async fn start(
    configuration: Configuration,
    bootstrap: &Bootstrap,
    local_secrets: bool,
    tasks: &mut JoinSet<()>,
) -> FirstAnswer {
    let dynamic = &bootstrap.dynamic;
    let whole = [(ResourceKind::Cluster, &dynamic.cds), (ResourceKind::Listener, &dynamic.lds)];
    let over_ads = whole.iter().filter(|(_, source)| **source == Some(Source::Ads)).map(|(kind, _)| *kind);
    let first: Arc<Notify> = Arc::default();
    let (asking, asked) = mpsc::unbounded_channel();
    // Before any worker has a snapshot: what cannot be asked for counts as absent.
    configuration.core.lock().await.publisher.set_asking(asking);
    let discovery = Discovery {
        configuration,
        node: introduced(&bootstrap.node),
        ads: dynamic.ads.clone(),
        wildcards: over_ads.collect(),
        local_secrets,
        changes: watch::Sender::new(0),
        first: first.clone(),
    };
    if let Some(ads) = &discovery.ads {
        tasks.spawn(stream::run(discovery.clone(), stream::Target::ads(ads, &discovery.wildcards)));
    }
    tasks.spawn(ask(discovery.clone(), asked));
    let fixed = whole.iter().filter_map(|(kind, source)| Some((*kind, (*source).clone()?))).collect();
    tasks.spawn(follow(discovery, fixed));
    FirstAnswer(first)
}

/// The bootstrap's node, saying what program it is.
fn introduced(node: &Node) -> Node {
    use wire::pb::envoy::config::core::v3::node::UserAgentVersionType;
    let mut node = node.clone();
    node.user_agent_name = "ripstop".into();
    node.user_agent_version_type = Some(UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").into()));
    node
}

/// Passes on what requests wait for.
async fn ask(discovery: Discovery, mut asked: mpsc::UnboundedReceiver<(Demand, Source)>) {
    while let Some((demand, source)) = asked.recv().await {
        if discovery.configuration.core.lock().await.resources.ask(demand, source) {
            discovery.changes.send_modify(|count| *count += 1);
        }
    }
}

/// Starts a stream or file watcher for every source that comes up.
async fn follow(discovery: Discovery, fixed: HashSet<(ResourceKind, Source)>) {
    let mut running: HashSet<(ResourceKind, Source)> = HashSet::new();
    let mut tasks = JoinSet::new();
    let mut changes = discovery.changes.subscribe();
    // There may be nothing to wait for.
    discovery.check_first(&HashSet::new()).await;
    loop {
        let mut wanted = fixed.clone();
        {
            let core = discovery.configuration.core.lock().await;
            for source in core.resources.sources() {
                let kinds = ResourceKind::ALL.into_iter();
                wanted.extend(
                    kinds
                        .filter(|kind| !core.resources.wanted(*kind, &source).is_empty())
                        .map(|kind| (kind, source.clone())),
                );
            }
        }
        for (kind, source) in wanted {
            if source == Source::Ads || !running.insert((kind, source.clone())) {
                continue;
            }
            let whole = fixed.contains(&(kind, source.clone()));
            match source {
                Source::Path(path) => {
                    tasks.spawn(files::watch(discovery.clone(), kind, path));
                }
                Source::Grpc { cluster, delta } => {
                    tasks.spawn(stream::run(discovery.clone(), stream::Target::own(kind, cluster, delta, whole)));
                }
                Source::Ads => {}
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Discovery {
    /// Applies `change`; the reason when it is refused.
    async fn apply(&self, change: Change, source: &Source) -> Result<(), String> {
        let change = Change { source: Some(source.clone()), ..change };
        let kind = change.kind;
        let outcome = self.configuration.core.lock().await.resources.apply(change).map_err(|error| error.to_string());
        self.configuration.lifecycle.count(outcome.is_ok());
        if let Err(reason) = &outcome {
            tracing::warn!(?kind, reason, "configuration refused; the last good one stays");
            return outcome;
        }
        self.configuration.publish().await;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What is wanted from `source`.
    async fn wanted(&self, kind: ResourceKind, source: &Source) -> Interest {
        let mut interest = self.configuration.core.lock().await.resources.wanted(kind, source);
        if self.local_secrets && kind == ResourceKind::Secret {
            interest.names.remove(agent::CERTIFICATE);
            interest.names.remove(agent::BUNDLE);
        }
        interest
    }

    /// Tells the start-up when everything asked for has come.
    async fn check_first(&self, answered: &HashSet<ResourceKind>) {
        if !self.wildcards.iter().all(|kind| answered.contains(kind)) {
            return;
        }
        if !self.configuration.core.lock().await.resources.is_warming() {
            self.first.notify_one();
        }
    }
}
