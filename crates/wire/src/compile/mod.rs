//! Envoy's protobuf messages to the data plane's model, with Envoy's defaults and Envoy's checks.
//!
//! Each file compiles the messages of the `model` module of the same name. A message that cannot be carried out
//! as written is an error that names the field; what `support` refuses never gets this far.

// Deprecated fields are still valid configuration.
#![allow(deprecated)]

pub mod access_log;
mod action;
pub mod address;
pub mod bootstrap;
mod client;
pub mod cluster;
mod cluster_http;
pub mod data;
mod discovery;
pub mod endpoint;
pub mod filter;
mod follow;
pub mod format;
pub mod header;
mod health;
mod health_check;
pub mod http;
mod lb;
mod limits;
mod line;
pub mod listener;
mod local_reply;
pub mod matcher;
mod on_demand;
mod outlier;
mod overload;
pub mod retry;
pub mod route;
pub mod scope;
pub mod secret;
pub mod source;
mod tcp_proxy;
mod template;
pub mod tls;

use crate::kind::ResourceKind;
use crate::pb::google::protobuf::{Any, BoolValue, Duration as PbDuration, UInt32Value};
use crate::problem::{At, Problems};
use crate::schema::type_name;
use prost::{Message, Name};
use source::Source;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

pub type Result<T> = std::result::Result<T, Problems>;

/// What compilation may refer to beyond the message itself.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub node_id: String,
    pub node_cluster: String,
    /// Secrets of the bootstrap, which need no SDS.
    pub static_secrets: BTreeSet<String>,
    /// Clusters that a route may name; `None`: any, they may still come.
    pub clusters: Option<BTreeSet<String>>,
    /// There is an aggregated stream, and it is a delta one.
    pub delta_ads: bool,
}

/// Collects what a resource refers to while it is compiled.
pub struct Context<'a> {
    pub scope: &'a Scope,
    pub needs: Vec<Need>,
}

/// A resource that another one refers to and that has to be discovered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Need {
    pub kind: ResourceKind,
    pub name: Arc<str>,
    pub source: Source,
}

/// A compiled resource and what it waits for.
#[derive(Clone, Debug)]
pub struct Compiled<T> {
    pub value: T,
    /// Shared: what serves is noted beside what was accepted.
    pub needs: Arc<[Need]>,
}

impl<'a> Context<'a> {
    pub fn new(scope: &'a Scope) -> Self {
        Context { scope, needs: Vec::new() }
    }

    pub fn need(&mut self, kind: ResourceKind, name: impl Into<Arc<str>>, source: Source) {
        let need = Need { kind, name: name.into(), source };
        if !self.needs.contains(&need) {
            self.needs.push(need);
        }
    }
}

/// Runs `compile` and pairs its result with the needs it met.
pub fn compiled<T>(scope: &Scope, compile: impl FnOnce(&mut Context<'_>) -> Result<T>) -> Result<Compiled<T>> {
    let mut cx = Context::new(scope);
    let value = compile(&mut cx)?;
    Ok(Compiled { value, needs: shared(cx.needs) })
}

/// An empty list costs nothing.
fn shared<T>(list: Vec<T>) -> Arc<[T]> {
    if list.is_empty() { Arc::default() } else { list.into() }
}

/// A duration that must not be negative; `None` when it is not set.
fn duration(at: &At<'_>, name: &str, value: &Option<PbDuration>) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Some(Duration::new(seconds, nanos))),
        _ => at.field(name).wrong("must not be negative"),
    }
}

/// As `duration`, and zero is wrong too.
fn positive(at: &At<'_>, name: &str, value: &Option<PbDuration>) -> Result<Option<Duration>> {
    match duration(at, name, value)? {
        Some(Duration::ZERO) => at.field(name).wrong("must be greater than 0s"),
        other => Ok(other),
    }
}

fn uint(value: &Option<UInt32Value>) -> Option<u32> {
    value.as_ref().map(|wrapper| wrapper.value)
}

fn flag(value: &Option<BoolValue>) -> Option<bool> {
    value.as_ref().map(|wrapper| wrapper.value)
}

/// An enum number that this build of the API knows.
fn known<E: TryFrom<i32>>(at: &At<'_>, name: &str, number: i32) -> Result<E> {
    E::try_from(number).map_err(|_| at.field(name).problem(format!("{number} is not a value of this enum")).into())
}

fn not_empty<'t>(at: &At<'_>, name: &str, text: &'t str) -> Result<&'t str> {
    if text.is_empty() { at.field(name).wrong("must not be empty") } else { Ok(text) }
}

/// The message inside an `Any` of the type that the caller has checked.
fn unpack<M: Message + Name + Default>(at: &At<'_>, any: &Any) -> Result<M> {
    let wanted = M::full_name();
    if type_name(&any.type_url) != wanted {
        return at.wrong(format!("is a {}; it must be a {wanted}", type_name(&any.type_url)));
    }
    M::decode(any.value.as_slice()).map_err(|error| at.problem(format!("is not a {wanted}: {error}")).into())
}

/// Tells configurations apart within this process.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn hash_of(message: &impl Message) -> u64 {
    hash(&message.encode_to_vec())
}

/// Lower-case text for names that HTTP compares without case.
fn lower(text: &str) -> Box<str> {
    text.to_ascii_lowercase().into()
}
