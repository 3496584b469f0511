//! How a control plane is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, Clone)]
pub struct Options {
    /// Directory with the mesh's objects.
    pub config: PathBuf,
    /// Directory for the CA, revisions and the last good configuration.
    pub state: PathBuf,
    /// xDS and certificates over TLS.
    pub listen: Option<SocketAddr>,
    /// xDS without TLS, for clients on this machine.
    pub listen_plaintext: Option<Plain>,
    /// Readiness, reports and metrics over HTTP.
    pub admin: Option<SocketAddr>,
    pub trust_domain: String,
}

/// An address that only this machine can reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlainError {
    #[error("{0:?} is neither an address like 127.0.0.1:15012 nor unix:PATH")]
    NotAnAddress(String),
    #[error(
        "{0} can be reached from other machines; without TLS only loopback (127.0.0.1:15012) or unix:PATH is allowed"
    )]
    NotLocal(SocketAddr),
}

impl FromStr for Plain {
    type Err = PlainError;

    fn from_str(text: &str) -> Result<Self, PlainError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(PlainError::NotAnAddress(text.to_owned())),
            Some(path) => Ok(Self::Unix(path.into())),
            None => {
                let address: SocketAddr = text.parse().map_err(|_| PlainError::NotAnAddress(text.to_owned()))?;
                let plain = Self::Tcp(address);
                plain.check()?;
                Ok(plain)
            }
        }
    }
}

impl Plain {
    pub(crate) fn check(&self) -> Result<(), PlainError> {
        match self {
            Self::Tcp(address) if !address.ip().is_loopback() => Err(PlainError::NotLocal(*address)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_machine() {
        assert_eq!("unix:/run/x".parse(), Ok(Plain::Unix("/run/x".into())));
        assert_eq!("[::1]:1".parse(), Ok(Plain::Tcp("[::1]:1".parse().unwrap())));
        for (text, expected) in [
            ("0.0.0.0:15012", "can be reached from other machines"),
            ("10.0.0.1:15012", "can be reached from other machines"),
            ("localhost", "neither an address"),
            ("unix:", "neither an address"),
        ] {
            assert!(text.parse::<Plain>().unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
