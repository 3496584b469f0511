//! One worker's state.

use super::clusters::Clusters;
use super::demand::Demands;
use super::groups::{CallNames, GroupNames};
use super::scopes::Scopes;
use super::service::{ListenerService, Routes};
use super::shed::Shed;
use crate::telemetry::Registry;
use crate::telemetry::access_log::Output;
use crate::upstream::Cluster;
use engine::balance::zones::Peers;
use engine::date::Civil;
use model::access_log::Sink;
use model::cluster::Discovery;
use model::demand::Source;
use model::listener::Listener;
use model::snapshot::OwnZone;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Aggregates within aggregates.
const MOST_AGGREGATES: u32 = 4;

type Names<T> = RefCell<HashMap<Arc<str>, T, foldhash::fast::RandomState>>;

pub struct Worker {
    pub index: usize,
    pub registry: Arc<Registry>,
    pub(super) clusters: Clusters,
    pub(super) routes: Names<Rc<Routes>>,
    pub(super) scopes: RefCell<HashMap<Source, Rc<Scopes>>>,
    /// What requests wait for.
    pub demands: Demands,
    pub(super) listeners: RefCell<HashMap<Arc<str>, Rc<Slot>>>,
    /// Listener versions that were replaced or removed and still have connections.
    pub(super) leaving: RefCell<Vec<Rc<ListenerService>>>,
    outputs: RefCell<Vec<Rc<Output>>>,
    pub(super) groups: GroupNames,
    pub(super) calls: CallNames,
    random: RefCell<fastrand::Rng>,
    pub shed: RefCell<Shed>,
    /// Told when `shed` changes.
    pub shed_changed: Notify,
    next_connection: Cell<u64>,
    pub(super) zone: RefCell<Option<Arc<OwnZone>>>,
    date: RefCell<(u64, String)>,
}

const ANY_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// A listener's place: its accepting tasks take the version that is current when a connection arrives.
pub struct Slot {
    pub current: RefCell<Rc<ListenerService>>,
    pub tasks: RefCell<Vec<tokio::task::JoinHandle<()>>>,
}

impl Worker {
    pub fn new(index: usize, registry: Arc<Registry>) -> Self {
        Worker {
            index,
            registry,
            clusters: Clusters::default(),
            routes: RefCell::default(),
            scopes: RefCell::default(),
            demands: Demands::default(),
            listeners: RefCell::default(),
            leaving: RefCell::default(),
            outputs: RefCell::default(),
            groups: GroupNames::default(),
            calls: CallNames::default(),
            random: RefCell::new(fastrand::Rng::new()),
            shed: RefCell::default(),
            shed_changed: Notify::new(),
            next_connection: Cell::new(index as u64),
            zone: RefCell::default(),
            date: RefCell::default(),
        }
    }

    pub fn cluster(&self, name: &str) -> Option<Rc<Cluster>> {
        let cluster = self.cluster_itself(name)?;
        match &cluster.config.discovery {
            Discovery::Aggregate(members) => self.member(members, MOST_AGGREGATES),
            _ => Some(cluster),
        }
    }

    /// The member of an aggregate for the next request: the first while enough of it is well.
    fn member(&self, members: &[Arc<str>], deep: u32) -> Option<Rc<Cluster>> {
        let known = members.iter().filter_map(|name| self.cluster_itself(name));
        let resolve = |cluster: Rc<Cluster>| match &cluster.config.discovery {
            Discovery::Aggregate(inner) if deep > 0 => self.member(inner, deep - 1),
            Discovery::Aggregate(_) => None,
            _ => Some(cluster),
        };
        let known: Vec<Rc<Cluster>> = known.filter_map(resolve).collect();
        let groups = known.iter().map(|cluster| cluster.availability());
        let point = (self.random() % 100) as u32;
        // With nobody available the first one says so, or panics.
        known.get(engine::balance::spill::spill(groups, point).unwrap_or(0)).cloned()
    }

    pub fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// Uniform in `[0, 1)`.
    pub fn random_unit(&self) -> f64 {
        self.random.borrow_mut().f64()
    }

    /// The listener of `address`, else that of its port on any address.
    pub fn listener_at(&self, address: SocketAddr) -> Option<Rc<ListenerService>> {
        let any = SocketAddr::new(if address.is_ipv4() { ANY_V4 } else { ANY_V6 }, address.port());
        let listeners = self.listeners.borrow();
        let services = || listeners.values().map(|slot| slot.current.borrow());
        let listens = |config: &Listener, wanted: SocketAddr| {
            let mut all = std::iter::once(&config.address).chain(&config.additional_addresses);
            all.any(|address| address.tcp() == Some(wanted))
        };
        let found = [address, any].into_iter().find_map(|wanted| services().find(|one| listens(&one.config, wanted)));
        found.map(|service| service.clone())
    }

    /// The administrator wants this process to be taken for unwell.
    pub fn failed(&self) -> bool {
        self.registry.unwell.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether to turn away one of which `share` is to be.
    pub fn sheds(&self, share: impl Fn(&Shed) -> f64) -> bool {
        let share = share(&self.shed.borrow());
        share > 0.0 && self.random_unit() < share
    }

    /// Unique within the process: workers take turns.
    pub fn next_connection_id(&self) -> u64 {
        const MOST_WORKERS: u64 = 1024;
        let id = self.next_connection.get();
        self.next_connection.set(id + MOST_WORKERS);
        id
    }

    /// A random UUID (RFC 9562 section 5.4) as text.
    pub fn uuid(&self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = self.random.borrow_mut().u128(..).to_be_bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        text
    }

    /// The current date as HTTP writes it (RFC 9110 section 5.6.7); made once a second.
    pub fn with_date(&self, use_date: impl FnOnce(&[u8])) {
        let now = crate::clock::unix_micros() / 1_000_000;
        let mut date = self.date.borrow_mut();
        if date.0 != now {
            *date = (now, http_date(now));
        }
        use_date(date.1.as_bytes());
    }

    /// The output for `sink`, shared by all logs of this worker that write there.
    pub fn output(&self, sink: &Sink) -> std::io::Result<Rc<Output>> {
        let mut outputs = self.outputs.borrow_mut();
        if let Some(known) = outputs.iter().find(|output| output.sink() == sink) {
            return Ok(known.clone());
        }
        let output = Rc::new(Output::open(sink)?);
        outputs.push(output.clone());
        Ok(output)
    }

    pub fn flush_logs(&self) {
        for output in self.outputs.borrow().iter() {
            output.flush();
        }
    }

    /// Failing hosts are left out, and ejected ones return, in clusters whose interval is over.
    pub fn detect_outliers(&self) {
        self.clusters.each(|cluster| cluster.detect_outliers());
    }

    /// Tells every cluster how many proxies like this one there are, and where.
    pub(super) fn tell_peers(&self) {
        let Some((own, peers)) = self.peers() else { return };
        self.clusters.each(|cluster| {
            if cluster.config.name != own {
                cluster.set_peers(peers.as_ref());
            }
        });
    }

    pub(super) fn tell_peers_to(&self, cluster: &Cluster) {
        let Some(zone) = self.zone.borrow().clone() else { return };
        if cluster.config.name != zone.cluster {
            cluster.set_peers(self.peers().and_then(|(_, peers)| peers).as_ref());
        }
    }

    /// The cluster of proxies like this one, and what there is of them.
    fn peers(&self) -> Option<(Arc<str>, Option<Rc<Peers>>)> {
        let zone = self.zone.borrow().clone()?;
        let cluster = self.cluster_itself(&zone.cluster);
        Some((zone.cluster.clone(), cluster.map(|cluster| Rc::new(cluster.as_peers(&zone.locality)))))
    }

    /// Housekeeping: idle connections close, drained listeners are forgotten.
    pub fn tick(&self, now: Instant) {
        self.clusters.each(|cluster| cluster.tick(now));
        self.demands.tick();
        self.tell_peers();
        self.leaving.borrow_mut().retain(|listener| listener.drain.members() > 0);
    }

    /// Every cluster that was used.
    pub fn each_cluster(&self, each: impl FnMut(&Rc<Cluster>)) {
        self.clusters.each(each);
    }

    /// Stops accepting; connections end when they have nothing under way.
    pub fn start_drain(&self) {
        for slot in self.listeners.borrow().values() {
            for task in slot.tasks.borrow().iter() {
                task.abort();
            }
            slot.current.borrow().drain.start();
        }
        for listener in self.leaving.borrow().iter() {
            listener.drain.start();
        }
    }

    /// Connections that are still open.
    pub fn open_connections(&self) -> usize {
        let current: usize = self.listeners.borrow().values().map(|slot| slot.current.borrow().drain.members()).sum();
        current + self.leaving.borrow().iter().map(|listener| listener.drain.members()).sum::<usize>()
    }
}

fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let c = Civil::from_unix(seconds);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[c.weekday as usize],
        c.day,
        MONTHS[c.month as usize - 1],
        c.year,
        c.hour,
        c.minute,
        c.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_uuids() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        let worker = Worker::new(0, Arc::default());
        let uuid = String::from_utf8(worker.uuid().to_vec()).unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert_ne!(worker.uuid(), worker.uuid());
    }
}
