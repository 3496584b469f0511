//! Notices when certificate files are replaced.

use model::Snapshot;
use model::tls::{CertificateSource, CommonTls, DataSource, Secret, Validation};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// When each file was last changed; empty before the first look.
pub type Stamps = HashMap<PathBuf, Option<SystemTime>>;

/// True when a file the snapshot's TLS contexts name is not what it was at the last look.
pub fn changed(snapshot: &Snapshot, stamps: &mut Stamps) -> bool {
    let fresh: Stamps = paths(snapshot).into_iter().map(|path| (path.clone(), stamp(&path))).collect();
    let differs = fresh.iter().any(|(path, time)| stamps.get(path).is_some_and(|old| old != time));
    *stamps = fresh;
    differs
}

fn stamp(path: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn paths(snapshot: &Snapshot) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for listener in snapshot.listeners.values() {
        for chain in listener.chains.iter().chain(&listener.default_chain) {
            chain.tls.iter().for_each(|tls| context(&tls.common, &mut found));
        }
    }
    for cluster in snapshot.clusters.values() {
        let matches = cluster.tls_matches.iter().filter_map(|entry| entry.tls.as_ref());
        cluster.tls.iter().chain(matches).for_each(|tls| context(&tls.common, &mut found));
    }
    for secret in snapshot.secrets.values() {
        match secret {
            Secret::Certificate(certificate) => {
                found.extend([&certificate.chain, &certificate.key].into_iter().filter_map(path))
            }
            Secret::Validation(validation) => trust(validation, &mut found),
        }
    }
    found
}

fn context(common: &CommonTls, found: &mut Vec<PathBuf>) {
    for source in &common.certificates {
        if let CertificateSource::Inline(certificate) = source {
            found.extend([&certificate.chain, &certificate.key].into_iter().filter_map(path));
        }
    }
    common.validation.iter().for_each(|validation| trust(validation, found));
}

fn trust(validation: &Validation, found: &mut Vec<PathBuf>) {
    found.extend(validation.trusted_ca.iter().chain(&validation.crl).filter_map(path));
}

fn path(source: &DataSource) -> Option<PathBuf> {
    match source {
        DataSource::File(path) => Some(path.clone()),
        DataSource::Inline(_) => None,
    }
}
