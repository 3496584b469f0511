//! What requests of this worker wait for: the main thread is asked once, and whoever waits looks again after each new
//! snapshot, until the thing is there or known not to be.

use model::demand::{Demand, Source};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

/// How workers ask the main thread.
pub type Asking = UnboundedSender<(Demand, Source)>;

#[derive(Default)]
pub struct Demands {
    asking: RefCell<Option<Asking>>,
    waiting: RefCell<HashMap<Demand, Weak<Waiting>>>,
}

/// A demand, shared by those who wait.
#[derive(Default)]
pub struct Waiting {
    changed: Notify,
    answered: Cell<bool>,
}

impl Demands {
    pub(super) fn set_asking(&self, asking: Option<Asking>) {
        *self.asking.borrow_mut() = asking;
    }

    /// Asks, unless somebody waits for the same already.
    pub fn ask(&self, demand: Demand, source: &Source) -> Rc<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let known = waiting.get(&demand).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| !known.answered.get()) {
            return known;
        }
        let fresh: Rc<Waiting> = Rc::default();
        let asking = self.asking.borrow();
        let asked = asking.as_ref().is_some_and(|asking| asking.send((demand.clone(), source.clone())).is_ok());
        fresh.answered.set(!asked);
        waiting.insert(demand, Rc::downgrade(&fresh));
        fresh
    }

    /// A snapshot was adopted.
    pub(super) fn look_again(&self) {
        for waiting in self.waiting.borrow().values().filter_map(Weak::upgrade) {
            waiting.changed.notify_waiters();
        }
    }

    /// The control plane has said all that there is to say of these.
    pub fn answered(&self, demands: &[Demand]) {
        let all = self.waiting.borrow();
        for waiting in demands.iter().filter_map(|demand| all.get(demand)?.upgrade()) {
            waiting.answered.set(true);
            waiting.changed.notify_waiters();
        }
    }

    /// Forgets what nobody waits for any more.
    pub(super) fn tick(&self) {
        self.waiting.borrow_mut().retain(|_, waiting| waiting.strong_count() > 0);
    }
}

impl Waiting {
    /// Waits until `there` holds, or will not.
    pub async fn until(&self, there: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if there() || self.answered.get() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    #[tokio::test]
    async fn many_wait_and_one_asks() {
        let (asking, mut asked) = unbounded_channel();
        let demands = Demands::default();
        demands.set_asking(Some(asking));
        let (first, second) = (Demand::cluster("a"), Demand::cluster("b"));
        let waiting = [demands.ask(first.clone(), &Source::Ads), demands.ask(first.clone(), &Source::Ads)];
        let other = demands.ask(second.clone(), &Source::Ads);
        assert_eq!(asked.recv().await, Some((first.clone(), Source::Ads)));
        assert_eq!(asked.recv().await, Some((second, Source::Ads)));
        let there = Cell::new(false);
        let wait = async { tokio::join!(waiting[0].until(|| there.get()), waiting[1].until(|| there.get())) };
        let wait = tokio::time::timeout(std::time::Duration::from_secs(5), wait);
        let come = async {
            demands.look_again();
            tokio::task::yield_now().await;
            there.set(true);
            demands.look_again();
        };
        assert!(tokio::join!(wait, come).0.is_ok());
        demands.answered(std::slice::from_ref(&first));
        assert!(asked.try_recv().is_err());
        other.answered.set(true);
        other.until(|| false).await;
        // What was answered is asked for anew.
        demands.ask(first, &Source::Ads);
        assert!(asked.try_recv().is_ok());
    }

    #[tokio::test]
    async fn without_discovery_there_is_nothing_to_wait_for() {
        let demands = Demands::default();
        demands.ask(Demand::cluster("a"), &Source::Ads).until(|| false).await;
    }
}
