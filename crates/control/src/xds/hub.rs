//! What all streams share: the present state of the mesh, who is connected, and certificates for local Envoys.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use identity::tls::CertKey;
use identity::{Authority, Rotation, SpiffeId};
use tokio::sync::watch;

use crate::ca::{StateError, issue_pair};
use crate::registry::Lookup;
use crate::status::Proxies;
use crate::translate::{Node, Secrets, World};

pub struct Hub {
    world: watch::Sender<Arc<World>>,
    stop: watch::Receiver<bool>,
    authority: Arc<Authority>,
    pairs: Mutex<BTreeMap<SpiffeId, (CertKey, Rotation)>>,
    pub proxies: Proxies,
}

impl Hub {
    pub fn new(world: World, authority: Arc<Authority>, stop: watch::Receiver<bool>) -> Self {
        let pairs = Mutex::default();
        Self { world: watch::Sender::new(Arc::new(world)), stop, authority, pairs, proxies: Proxies::default() }
    }

    pub fn publish(&self, world: World) {
        self.world.send_replace(Arc::new(world));
    }

    pub fn world(&self) -> Arc<World> {
        self.world.borrow().clone()
    }

    pub fn follow(&self) -> watch::Receiver<Arc<World>> {
        self.world.subscribe()
    }

    /// Resolves when the control plane is to end.
    pub async fn stopped(&self) {
        wait_for_stop(self.stop.clone()).await;
    }

    /// What an Envoy on this machine gets: the bundle, and the pair of the workload that it is.
    pub fn local_secrets(&self, world: &World, node: &Node) -> Result<Secrets, StateError> {
        let certificate = match world.workload(node) {
            Lookup::Found(workload) => Some(self.pair(&workload.identity)?),
            Lookup::Unknown(_) => None,
        };
        let certificate = certificate.map(|pair| (pair.chain_pem, pair.key_pem));
        Ok(Secrets { certificate, root_pem: self.authority.root_pem().to_owned() })
    }

    fn pair(&self, id: &SpiffeId) -> Result<CertKey, StateError> {
        // Entries are replaced whole, so that a panic elsewhere leaves nothing half done.
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pair, rotation)) = pairs.get(id)
            && !rotation.due(SystemTime::now())
        {
            return Ok(pair.clone());
        }
        let (pair, svid) = issue_pair(&self.authority, id, &[])?;
        pairs.insert(id.clone(), (pair.clone(), Rotation::new(svid.not_before, svid.not_after, 0.5)));
        Ok(pair)
    }
}

pub async fn wait_for_stop(mut stop: watch::Receiver<bool>) {
    // The sender is gone only when the handle is, which ends everything as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
