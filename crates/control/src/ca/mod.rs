//! The mesh's certificate authority and join tokens, kept as files in the state directory.
//!
//! Files and not the store, since `ripstop token` and `ripstop up` need them while a control plane holds the store.
//! Whoever comes first creates a file; the others read it.

pub mod service;
pub mod token;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use identity::tls::CertKey;
use identity::{Authority, CaError, CsrError, SpiffeId, SpiffeIdError, Svid, csr};

const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long certificates live unless less is asked for.
pub const SVID_LIFETIME: Duration = Duration::from_secs(86_400);
const FILE: &str = "ca.pem";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Authority { path: PathBuf, source: CaError },
    #[error("{}: {reason}", path.display())]
    Bad { path: PathBuf, reason: String },
    #[error(transparent)]
    Issue(#[from] CaError),
    #[error(transparent)]
    Key(#[from] CsrError),
    #[error(transparent)]
    Name(#[from] SpiffeIdError),
}

/// The authority of a state directory, made if there is none yet.
pub fn authority(state: &Path, trust_domain: &str) -> Result<Authority, StateError> {
    let path = state.join(FILE);
    let fault = |source| StateError::Authority { path: path.clone(), source };
    let bytes = read_or_create(&path, || {
        let root = Authority::create(trust_domain, ROOT_LIFETIME, SystemTime::now()).map_err(fault)?;
        Ok(format!("{}{}", root.root_pem(), root.key_pem()).into_bytes())
    })?;
    let text = String::from_utf8_lossy(&bytes);
    // One file, so that the two halves can never be of different authorities.
    let (certificate, key) = split(&text).ok_or_else(|| StateError::Bad {
        path: path.clone(),
        reason: "must hold a certificate and after it its private key, both PEM".into(),
    })?;
    Authority::load(trust_domain, certificate, key).map_err(fault)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let end = "-----END CERTIFICATE-----";
    let at = text.find(end)? + end.len();
    Some((text.get(..at)?, text.get(at..)?.trim_start())).filter(|(_, key)| !key.is_empty())
}

/// A private key of our own with a certificate for it.
pub fn issue_pair(authority: &Authority, id: &SpiffeId, hosts: &[&str]) -> Result<(CertKey, Svid), StateError> {
    let request = csr::generate(id)?;
    let svid = authority.issue_with_hosts(&request.csr_pem, id, hosts, SVID_LIFETIME, SystemTime::now())?;
    Ok((CertKey { chain_pem: svid.chain_pem(), key_pem: request.key_pem }, svid))
}

/// The content of a file, which is created whole and private if it does not exist; of several creators one wins.
pub(super) fn read_or_create(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, StateError>,
) -> Result<Vec<u8>, StateError> {
    let fault = |source| StateError::Io { path: path.to_path_buf(), source };
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => return other.map_err(fault),
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(fault)?;
    }
    let new = path.with_extension(format!("new-{}-{:?}", std::process::id(), std::thread::current().id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(fault)?;
    file.write_all(&make()?).and_then(|()| file.sync_all()).map_err(fault)?;
    let linked = std::fs::hard_link(&new, path);
    std::fs::remove_file(&new).map_err(fault)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fault(error)),
        _ => std::fs::read(path).map_err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_made_once() {
        let dir = crate::testing::Directory::new();
        let one = authority(dir.path(), "cluster.local").unwrap();
        let two = authority(dir.path(), "cluster.local").unwrap();
        assert_eq!(one.root_pem().trim(), two.root_pem().trim());
        let error = authority(dir.path(), "other.example").unwrap_err().to_string();
        assert!(error.contains("belongs to spiffe://cluster.local"), "{error}");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn of_several_creators_one_wins() {
        let dir = crate::testing::Directory::new();
        let roots: Vec<String> = std::thread::scope(|scope| {
            let make = || scope.spawn(|| authority(dir.path(), "cluster.local").unwrap().root_pem().to_owned());
            let threads: Vec<_> = (0..4).map(|_| make()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(roots.iter().all(|root| root == &roots[0]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left lying about");
    }
}
