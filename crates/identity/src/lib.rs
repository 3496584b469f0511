//! SPIFFE, CSR, CA, trust bundles, rotation, rustls configuration.
//!
//! Nothing here reads the clock, the network or the disk: time and PEM texts are arguments.
//! [`tls`] turns what Envoy's TLS contexts can say into rustls configurations, [`ca`] issues the certificates that
//! they use, [`rotation`] says when to ask for the next one.

pub mod ca;
pub mod certificate;
pub mod csr;

pub mod names;
pub mod rotation;
pub mod spiffe;
pub mod tls;
mod verify;

pub use ca::{Authority, CaError, Svid};
pub use certificate::{fingerprint, validity};
pub use csr::{CsrError, KeyAndCsr};
pub use names::{PeerNames, peer_names};
pub use rotation::Rotation;
pub use spiffe::{SpiffeId, SpiffeIdError};
