//! Tells connections that they should end as soon as they have nothing under way, and counts who is left.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub struct Drain {
    started: Cell<bool>,
    next: Cell<u64>,
    members: RefCell<HashMap<u64, Rc<Member>>>,
}

#[derive(Default)]
struct Member {
    waker: RefCell<Option<Waker>>,
}

/// A connection that takes part; leaving is dropping this.
pub struct Membership {
    drain: Rc<Drain>,
    id: u64,
    member: Rc<Member>,
}

impl Drain {
    pub fn started(&self) -> bool {
        self.started.get()
    }

    pub fn start(&self) {
        self.started.set(true);
        for member in self.members.borrow().values() {
            if let Some(waker) = member.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    pub fn join(self: &Rc<Self>) -> Membership {
        let id = self.next.get();
        self.next.set(id + 1);
        let member: Rc<Member> = Rc::default();
        self.members.borrow_mut().insert(id, member.clone());
        Membership { drain: self.clone(), id, member }
    }

    /// Connections that are still there.
    pub fn members(&self) -> usize {
        self.members.borrow().len()
    }
}

impl Membership {
    /// Ready once draining has started. Registering again costs nothing while the task is the same.
    pub fn poll_started(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.started() {
            return Poll::Ready(());
        }
        let mut waker = self.member.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub async fn started(&self) {
        std::future::poll_fn(|cx| self.poll_started(cx)).await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.drain.members.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_tells() {
        let drain: Rc<Drain> = Rc::default();
        let member = drain.join();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(member.poll_started(&mut cx).is_pending());
        assert_eq!(drain.members(), 1);
        drain.start();
        assert!(member.poll_started(&mut cx).is_ready());
        drop(member);
        assert_eq!(drain.members(), 0);
    }
}
