//! What filters before the router remember from request to request, per worker.

use crate::telemetry::uptime;
use engine::filter::admission::History;
use engine::filter::concurrency::Controller;
use model::filter::{AdaptiveConcurrency, AdmissionControl, FilterKind, HttpFilter};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// By the filter's place in the chain.
pub enum FilterState {
    None,
    Faults(Rc<Cell<u32>>),
    Admission(Rc<RefCell<History>>),
    Concurrency(Rc<RefCell<Controller>>),
    /// What the upstream last said of its health.
    Said(Rc<Cell<Option<Said>>>),
}

/// A health check's answer that may be repeated.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub status: u16,
    pub degraded: bool,
    /// On the process's clock.
    pub until: Duration,
}

impl FilterState {
    pub fn new(filter: &HttpFilter) -> FilterState {
        match &filter.kind {
            FilterKind::Fault(_) => FilterState::Faults(Rc::default()),
            FilterKind::AdmissionControl(_) => FilterState::Admission(Rc::default()),
            FilterKind::AdaptiveConcurrency(config) => {
                FilterState::Concurrency(Rc::new(RefCell::new(Controller::new(config, uptime()))))
            }
            FilterKind::HealthCheck(_) => FilterState::Said(Rc::default()),
            FilterKind::Cors
            | FilterKind::GrpcWeb
            | FilterKind::HeaderMutation(_)
            | FilterKind::Buffer(_)
            | FilterKind::LocalRateLimit(_)
            | FilterKind::OnDemand(_) => FilterState::None,
        }
    }
}

/// Counts a fault while it is under way.
pub struct ActiveFault(Rc<Cell<u32>>);

impl ActiveFault {
    pub fn new(active: &Rc<Cell<u32>>) -> Self {
        active.set(active.get() + 1);
        ActiveFault(active.clone())
    }
}

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A request that adaptive concurrency let through. Its latency counts if it was answered.
pub struct Permit {
    controller: Rc<RefCell<Controller>>,
    config: Arc<AdaptiveConcurrency>,
    began: Duration,
    answered: bool,
}

impl Permit {
    pub fn ask(controller: &Rc<RefCell<Controller>>, config: &Arc<AdaptiveConcurrency>, random: f64) -> Option<Permit> {
        let began = uptime();
        let admitted = controller.borrow_mut().admit(config, began, random);
        admitted.then(|| Permit { controller: controller.clone(), config: config.clone(), began, answered: false })
    }

    pub fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.controller.borrow_mut().end(&self.config, self.began, uptime(), self.answered);
    }
}

/// A request that admission control let through; a failure unless it is told to have succeeded.
pub struct Admitted {
    pub history: Rc<RefCell<History>>,
    pub config: Arc<AdmissionControl>,
    pub success: bool,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.history.borrow_mut().record(&self.config, self.success, uptime());
    }
}
