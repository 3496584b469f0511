//! Access logs: where lines go and how they look.

use crate::line::Line;
use crate::matcher::HeaderMatcher;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct AccessLog {
    pub sink: Sink,
    pub line: Line,
    /// Only these exchanges are logged.
    pub filter: Option<LogFilter>,
}

/// `accesslog.v3.AccessLogFilter`; also chooses local replies.
#[derive(Clone, Debug)]
pub enum LogFilter {
    Status(Comparison),
    /// Milliseconds.
    Duration(Comparison),
    /// Requests of health checks are not meant.
    NotHealthCheck,
    /// `%` of all, in parts per million.
    Share(u32),
    And(Vec<LogFilter>),
    Or(Vec<LogFilter>),
    /// Of the request.
    Header(HeaderMatcher),
    /// Any of these response flags; empty: any flag at all.
    Flags(Vec<Box<str>>),
    GrpcStatus {
        statuses: Vec<u8>,
        exclude: bool,
    },
}

/// `accesslog.v3.ComparisonFilter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub with: Order,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Equal,
    AtLeast,
    AtMost,
    NotEqual,
}

impl Comparison {
    pub fn holds(self, value: u64) -> bool {
        match self.with {
            Order::Equal => value == self.value,
            Order::AtLeast => value >= self.value,
            Order::AtMost => value <= self.value,
            Order::NotEqual => value != self.value,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sink {
    File(PathBuf),
    Stdout,
    Stderr,
}
