//! Access logs: lines are gathered per worker and written in batches with one `write` each.

use engine::format::Context;
use engine::{line, log_filter};
use model::access_log::{AccessLog, Sink};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes gathered before a batch is written at once; otherwise the worker's timer does it.
const BATCH: usize = 64 * 1024;

/// One log of one worker.
pub struct AccessLogger {
    config: Arc<AccessLog>,
    output: Rc<Output>,
}

/// An open file, shared by all loggers of a worker that write to it.
pub struct Output {
    sink: Sink,
    state: RefCell<State>,
}

struct State {
    pending: Vec<u8>,
    file: Option<File>,
}

impl Output {
    /// Files are created and appended to.
    pub fn open(sink: &Sink) -> std::io::Result<Output> {
        let file = match sink {
            Sink::File(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            Sink::Stdout | Sink::Stderr => None,
        };
        Ok(Output { sink: sink.clone(), state: RefCell::new(State { pending: Vec::new(), file }) })
    }

    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        if state.pending.is_empty() {
            return;
        }
        let State { pending, file } = &mut *state;
        // A full disk must not stop traffic; the lines are lost.
        let _ = match (&self.sink, file) {
            (Sink::Stdout, _) => std::io::stdout().write_all(pending),
            (Sink::Stderr, _) => std::io::stderr().write_all(pending),
            (Sink::File(_), Some(file)) => file.write_all(pending),
            (Sink::File(_), None) => Ok(()),
        };
        pending.clear();
    }
}

impl AccessLogger {
    pub fn new(config: Arc<AccessLog>, output: Rc<Output>) -> Self {
        AccessLogger { config, output }
    }

    /// Adds one line, if the exchange is to be logged. `random` is uniform over all of `u64`.
    pub fn log(&self, context: &Context<'_>, random: u64) {
        if self.config.filter.as_ref().is_some_and(|filter| !log_filter::passes(filter, context, random)) {
            return;
        }
        let mut state = self.output.state.borrow_mut();
        let pending = &mut state.pending;
        line::render(&self.config.line, context, pending);
        let full = pending.len() >= BATCH;
        drop(state);
        if full {
            self.output.flush();
        }
    }
}
