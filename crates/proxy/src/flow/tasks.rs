//! Tasks that serve one thing after the other: what finds a task waiting costs no allocation.

use crate::clock;
use crate::http::spares::Spares;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread::LocalKey;

/// Tasks that wait, per worker.
const MOST: usize = 1024;

/// The waiting tasks of one kind.
pub struct Tasks<T>(RefCell<Spares<Waiting<T>>>);

/// What a task and those who give it work share.
struct Desk<T> {
    next: Cell<Option<T>>,
    task: Cell<Option<Waker>>,
    /// It waits in `Tasks`.
    listed: Cell<bool>,
}

/// A task that waits. Dropping this wakes it: there is something to serve, or it is not needed any more.
struct Waiting<T>(Rc<Desk<T>>);

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.0.listed.set(false);
        if let Some(task) = self.0.task.take() {
            task.wake();
        }
    }
}

impl<T: 'static> Tasks<T> {
    pub(super) const fn new() -> Self {
        Tasks(RefCell::new(Spares::new(MOST)))
    }

    /// Has `item` served by a task of its own.
    pub fn serve<F: Future<Output = ()> + 'static>(tasks: &'static LocalKey<Self>, item: T, each: fn(T) -> F) {
        if let Some(waiting) = tasks.with(|tasks| tasks.0.borrow_mut().take()) {
            waiting.0.next.set(Some(item));
            return;
        }
        let desk = Rc::new(Desk { next: Cell::new(Some(item)), task: Cell::default(), listed: Cell::default() });
        tokio::task::spawn_local(async move {
            let work = async {
                while let Some(item) = desk.next(tasks).await {
                    each(item).await;
                }
            };
            clock::Ticking::new(pin!(work)).await;
        });
    }

    /// Ends tasks that nobody needed since the last call.
    pub fn trim(&self) {
        self.0.borrow_mut().trim();
    }
}

impl<T: 'static> Desk<T> {
    /// What is there to serve, or comes; `None` when the task is not needed any more.
    async fn next(self: &Rc<Self>, tasks: &'static LocalKey<Tasks<T>>) -> Option<T> {
        if let Some(item) = self.next.take() {
            return Some(item);
        }
        self.listed.set(true);
        tasks.with(|tasks| tasks.0.borrow_mut().give(Waiting(self.clone())));
        poll_fn(|cx| {
            // It may also be woken for what it served before.
            if !self.listed.get() {
                return Poll::Ready(self.next.take());
            }
            self.task.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static TASKS: Tasks<u32> = const { Tasks::new() };
        static SERVED: RefCell<Vec<(u32, tokio::task::Id)>> = const { RefCell::new(Vec::new()) };
    }

    async fn note(item: u32) {
        // A wake-up that comes when the next item is already waited for.
        poll_fn(|cx| {
            let late = cx.waker().clone();
            tokio::task::spawn_local(async move { late.wake() });
            Poll::Ready(())
        })
        .await;
        SERVED.with_borrow_mut(|served| served.push((item, tokio::task::id())));
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_task_serves_one_after_the_other() {
        let set = tokio::task::LocalSet::new();
        set.run_until(async {
            for item in 0..3 {
                Tasks::serve(&TASKS, item, note);
                settle().await;
            }
            Tasks::serve(&TASKS, 3, note);
            Tasks::serve(&TASKS, 4, note);
            settle().await;
            let served = SERVED.take();
            let items: Vec<u32> = served.iter().map(|(item, _)| *item).collect();
            assert_eq!(items, [0, 1, 2, 3, 4]);
            assert!(served[..4].iter().all(|(_, task)| *task == served[0].1), "the first four in one task");
            assert_ne!(served[4].1, served[0].1, "it was busy");
        })
        .await;
    }

    #[tokio::test]
    async fn tasks_that_nobody_needs_end() {
        let set = tokio::task::LocalSet::new();
        set.run_until(async {
            Tasks::serve(&TASKS, 1, note);
            settle().await;
            let waiting = || TASKS.with(|tasks| tasks.0.borrow().count());
            let desk = TASKS.with(|tasks| {
                let waiting = tasks.0.borrow_mut().take().unwrap();
                let desk = Rc::downgrade(&waiting.0);
                tasks.0.borrow_mut().give(waiting);
                desk
            });
            TASKS.with(Tasks::trim);
            settle().await;
            assert_eq!(waiting(), 1, "it was asked for since the last time");
            TASKS.with(Tasks::trim);
            settle().await;
            assert_eq!(waiting(), 0);
            assert!(desk.upgrade().is_none(), "the task is gone");
        })
        .await;
    }
}
