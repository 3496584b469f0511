//! Worker threads: each runs its own event loop with everything it needs, and is told of changes by messages.

use crate::accept::listen::{Acceptor, Bound};
use crate::clock;
use crate::flow::{connection, http2, watch};
use crate::http;
use crate::socket::Socket;
use crate::state::adopt::{Change, Update};
use crate::state::shed::{Open, Shed};
use crate::state::worker::Slot;
use crate::state::{ListenerService, Worker};
use crate::telemetry::Registry;
use crate::upstream::{Host, dial};
use model::demand::Demand;
use model::health::{ActiveHealth, HealthTable};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};

/// How often logs are flushed and pools looked through.
const TICK: Duration = Duration::from_millis(250);
/// A failing `accept` (out of file descriptors) is tried again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// New sockets for listeners, by name; one per address.
pub type Sockets = HashMap<Arc<str>, Vec<Bound>>;

pub enum Command {
    Update(Box<Update>, Sockets),
    /// Health checks found something new.
    Health(Arc<HealthTable>),
    /// The control plane has spoken of these.
    Answered(Arc<[Demand]>),
    /// What to turn away from now on.
    Shed(Shed),
    /// Stop accepting and finish what is under way; answers when the last connection has gone.
    Drain(oneshot::Sender<()>),
    /// Tell of the clusters that were used.
    Report(oneshot::Sender<Vec<ClusterReport>>),
    Stop,
}

/// A cluster's hosts as one worker sees them, for `/clusters`.
pub struct ClusterReport {
    pub name: Arc<str>,
    pub hosts: Vec<HostReport>,
}

pub struct HostReport {
    pub address: Arc<str>,
    pub hostname: Box<str>,
    pub requests: u64,
    pub errors: u64,
    pub active: u32,
    pub weight: u32,
    pub ejected: bool,
    pub health: model::endpoint::Health,
    pub checked: ActiveHealth,
}

/// The main thread's end of a worker.
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// A worker that has ended ignores commands.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    pub fn join(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts worker `index`, on `cpu` if given.
pub fn spawn(index: usize, registry: Arc<Registry>, cpu: Option<usize>) -> io::Result<Handle> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let runtime = move || {
        if let Some(cpu) = cpu {
            pin(cpu);
        }
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(run(Rc::new(Worker::new(index, registry)), inbox)),
            Err(error) => tracing::error!(%error, "worker cannot start its event loop"),
        }
    };
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(runtime)?;
    Ok(Handle { commands, thread: Some(thread) })
}

/// The CPUs this process may use.
pub fn usable_cpus() -> Vec<usize> {
    // SAFETY: the set is plain memory of the size given, filled by the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// Without pinning the worker still works, only less evenly.
fn pin(cpu: usize) {
    // SAFETY: as above; the call only reads the set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

async fn run(worker: Rc<Worker>, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining: Option<oneshot::Sender<()>> = None;
    let mut slow_ticks = 0u32;
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(Command::Update(update, sockets)) => apply(&worker, &update, sockets),
                Some(Command::Health(table)) => worker.adopt_health(&table),
                Some(Command::Answered(demands)) => worker.demands.answered(&demands),
                Some(Command::Shed(shed)) => {
                    *worker.shed.borrow_mut() = shed;
                    worker.shed_changed.notify_waiters();
                }
                Some(Command::Drain(done)) => {
                    worker.start_drain();
                    draining = Some(done);
                }
                Some(Command::Report(answer)) => {
                    // Whoever asked may have gone away.
                    let _ = answer.send(report(&worker));
                }
                Some(Command::Stop) | None => break,
            },
            _ = ticks.tick() => {
                worker.flush_logs();
                worker.detect_outliers();
                slow_ticks += 1;
                if slow_ticks.is_multiple_of(4) {
                    http::trim();
                    http2::trim();
                    watch::trim();
                    worker.tick(Instant::now());
                }
            }
        }
        if worker.open_connections() == 0
            && let Some(done) = draining.take()
        {
            let _ = done.send(());
        }
    }
    worker.flush_logs();
}

fn apply(worker: &Rc<Worker>, update: &Update, mut sockets: Sockets) {
    for change in worker.adopt(update) {
        match change {
            Change::Removed(slot) => {
                for task in slot.tasks.borrow().iter() {
                    task.abort();
                }
            }
            Change::Added(slot, listener) => {
                for bound in sockets.remove(&listener.name).unwrap_or_default() {
                    match bound.into_acceptor() {
                        Ok(acceptor) => {
                            let task = tokio::task::spawn_local(accept(worker.clone(), slot.clone(), acceptor));
                            slot.tasks.borrow_mut().push(task);
                        }
                        Err(error) => tracing::error!(listener = %listener.name, %error, "cannot listen"),
                    }
                }
            }
        }
    }
}

async fn accept(worker: Rc<Worker>, slot: Rc<Slot>, acceptor: Acceptor) {
    let mut failing = false;
    loop {
        let changed = worker.shed_changed.notified();
        if worker.shed.borrow().stop_accepting && !slot.current.borrow().config.bypass_overload {
            changed.await;
            continue;
        }
        let accepted = tokio::select! {
            biased;
            () = changed => continue,
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                failing = false;
                let service = slot.current.borrow().clone();
                if let (Some(keepalive), Some(tcp)) = (&service.config.tcp_keepalive, socket.as_tcp()) {
                    let _ = dial::keep_alive(tcp, keepalive);
                }
                serve(&worker, service, socket);
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "accept failed; trying again and again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn serve(worker: &Rc<Worker>, service: Rc<ListenerService>, socket: Socket) {
    let original = connection::original(&service, &socket);
    let other = original.filter(|_| service.config.hand_over).and_then(|original| worker.listener_at(original));
    let service = other.unwrap_or(service);
    let Ok(open) = admit(worker, &service) else { return };
    let stats = service.stats.clone();
    // Boxed: an `async` block would hold twice what it takes over.
    let connection = Box::pin(connection::serve(worker.clone(), service, socket, original));
    tokio::task::spawn_local(async move {
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        clock::Ticking::new(connection).await;
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        drop(open);
    });
}

/// Whether a connection may stay; what counts it, where that matters.
fn admit(worker: &Worker, service: &ListenerService) -> Result<Option<Open>, ()> {
    let config = &service.config;
    if !config.bypass_overload && worker.sheds(|shed| shed.rejected) {
        service.stats.downstream_cx_overload_reject.inc();
        return Err(());
    }
    let connections = worker.shed.borrow().connections.clone();
    let Some(connections) = connections.filter(|_| !config.ignore_global_limit) else { return Ok(None) };
    match connections.admit(worker.index) {
        Some(open) => Ok(Some(open)),
        None => {
            service.stats.downstream_global_cx_overflow.inc();
            Err(())
        }
    }
}

fn report(worker: &Worker) -> Vec<ClusterReport> {
    let mut reports = Vec::new();
    worker.each_cluster(|cluster| reports.push(ClusterReport::new(&cluster.config.name, &cluster.every_host())));
    reports
}

impl ClusterReport {
    pub fn new(name: &Arc<str>, hosts: &[Rc<Host>]) -> Self {
        let hosts = hosts.iter().map(|host| HostReport {
            address: Arc::from(&*host.name),
            hostname: host.endpoint.hostname.clone(),
            requests: host.requests.get(),
            errors: host.errors.get(),
            active: host.active.get(),
            weight: host.endpoint.weight,
            ejected: host.outlier.borrow().is_ejected(),
            health: host.endpoint.health,
            checked: host.checked.get(),
        });
        ClusterReport { name: name.clone(), hosts: hosts.collect() }
    }
}
