//! The control plane: sources, registry, translation, xDS, CA.
//!
//! The way of a configuration: [`sources`] take texts in, [`registry`] makes sense of their objects, [`translate`]
//! says what each proxy is to have, [`xds`] tells it.

mod start;

mod admin;
pub mod xds;

pub mod ca;
pub mod status;
pub mod translate;

pub mod registry;
pub mod sources;
pub mod store;

pub mod options;
pub mod peer;
#[cfg(test)]
mod testing;

pub use options::{Options, Plain, PlainError};
pub use start::{Control, Handle, StartError};

use std::path::Path;
use std::time::{Duration, SystemTime};

use identity::SpiffeId;

/// A token with which a workload gets its first certificate from the control plane of this state directory.
pub fn token(state: &Path, id: &SpiffeId, ttl: Duration) -> Result<String, StartError> {
    let tokens = ca::token::Tokens::load(state)?;
    Ok(tokens.make(id, ttl, SystemTime::now())?)
}

/// The roots that members of the mesh trust, PEM. Makes the CA if there is none yet.
pub fn trust_bundle(state: &Path, trust_domain: &str) -> Result<String, StartError> {
    Ok(ca::authority(state, trust_domain)?.root_pem().to_owned())
}
