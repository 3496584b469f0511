//! A connection being opened for which several requests wait.

use super::connect::ConnectError;
use super::host::Host;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Notify;

#[derive(Default)]
pub struct Opening {
    done: Notify,
    failure: RefCell<Option<ConnectError>>,
}

/// Held by the request that opens the connection; when it goes, the others are told.
pub(super) struct Opener<'h> {
    host: &'h Host,
    opening: Rc<Opening>,
}

impl Opening {
    pub(super) fn under_way(host: &Host) -> Option<Rc<Opening>> {
        host.opening.borrow().clone()
    }

    pub(super) fn start(host: &Host) -> Opener<'_> {
        let opening = Rc::<Opening>::default();
        *host.opening.borrow_mut() = Some(opening.clone());
        Opener { host, opening }
    }

    /// Returns when the connection is open, has failed or was given up.
    pub(super) async fn finished(&self) {
        self.done.notified().await;
    }

    pub(super) fn failure(&self) -> Option<ConnectError> {
        self.failure.borrow().clone()
    }
}

impl Opener<'_> {
    pub(super) fn fail(&self, error: &ConnectError) {
        *self.opening.failure.borrow_mut() = Some(error.clone());
    }
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.host.opening.borrow_mut().take();
        self.opening.done.notify_waiters();
    }
}
