//! The certificates and keys of a bootstrap, tried before anything runs: like Envoy, a proxy does not start when a file
//! is missing or a key does not fit its certificate.

use super::prepare::{Preparer, read};
use super::{ClientTransport, ServerTransport};
use model::Snapshot;
use model::tls::{CertificateSource, ClientTls, CommonTls, DataSource, Secret, ServerTls, Validation};
use wire::compile::bootstrap::Bootstrap;
use wire::problem::{At, Problem, Problems};

/// A static TLS context.
enum Tls<'b> {
    Server(&'b ServerTls),
    Client(&'b ClientTls),
}

impl Tls<'_> {
    fn common(&self) -> &CommonTls {
        match self {
            Tls::Server(tls) => &tls.common,
            Tls::Client(tls) => &tls.common,
        }
    }

    /// Why it cannot be used.
    fn fault(&self, snapshot: &Snapshot) -> Option<String> {
        let (mut preparer, nothing) = (Preparer::default(), Preparer::default());
        match self {
            Tls::Server(tls) => match preparer.server(&nothing, tls, snapshot) {
                ServerTransport::Broken(reason) => Some(reason.to_string()),
                _ => None,
            },
            Tls::Client(tls) => match preparer.client(&nothing, tls, snapshot) {
                ClientTransport::Broken(reason) => Some(reason.to_string()),
                _ => None,
            },
        }
    }
}

/// Problems with files first; contexts are built only when all files can be read.
pub fn check(bootstrap: &Bootstrap) -> Result<(), Problems> {
    let secrets = bootstrap.secrets.iter().map(|(name, secret)| (name.as_str().into(), secret.clone()));
    let snapshot = Snapshot { secrets: secrets.collect(), ..Snapshot::default() };
    let mut wrong = Vec::new();
    let root = At::ROOT;
    for (index, (_, secret)) in bootstrap.secrets.iter().enumerate() {
        let at = root.field("static_resources");
        secret_files(&at.item("secrets", index), secret, &mut wrong);
    }
    each(bootstrap, |at, tls| context_files(at, tls.common(), &mut wrong));
    if wrong.is_empty() {
        each(bootstrap, |at, tls| {
            if is_complete(tls.common(), &snapshot) {
                wrong.extend(tls.fault(&snapshot).map(|reason| at.problem(reason)));
            }
        });
    }
    if wrong.is_empty() { Ok(()) } else { Err(Problems(wrong)) }
}

/// Visits every static context with the place of its `common_tls_context`.
fn each(bootstrap: &Bootstrap, mut visit: impl FnMut(&At<'_>, Tls<'_>)) {
    let mut socket = |at: &At<'_>, tls: Tls<'_>| {
        let (socket, config) = ("transport_socket", "typed_config");
        visit(&at.field(socket).field(config).field("common_tls_context"), tls);
    };
    let root = At::ROOT;
    let at = root.field("static_resources");
    for (index, listener) in bootstrap.listeners.iter().enumerate() {
        let at = at.item("listeners", index);
        for (index, chain) in listener.value.chains.iter().enumerate() {
            chain.tls.iter().for_each(|tls| socket(&at.item("filter_chains", index), Tls::Server(tls)));
        }
        let default = listener.value.default_chain.iter().filter_map(|chain| chain.tls.as_ref());
        default.for_each(|tls| socket(&at.field("default_filter_chain"), Tls::Server(tls)));
    }
    for (index, cluster) in bootstrap.clusters.iter().enumerate() {
        let at = at.item("clusters", index);
        cluster.value.tls.iter().for_each(|tls| socket(&at, Tls::Client(tls)));
        for (index, entry) in cluster.value.tls_matches.iter().enumerate() {
            let at = at.item("transport_socket_matches", index);
            entry.tls.iter().for_each(|tls| socket(&at, Tls::Client(tls)));
        }
    }
}

/// Every secret it names is at hand; what is discovered comes later.
fn is_complete(common: &CommonTls, snapshot: &Snapshot) -> bool {
    let certificates = common.certificates.iter().filter_map(|source| match source {
        CertificateSource::Secret(name) => Some(name),
        CertificateSource::Inline(_) => None,
    });
    let validation = common.validation.iter().filter_map(|validation| validation.secret.as_ref());
    certificates.chain(validation).all(|name| snapshot.secrets.contains_key(&**name))
}

fn secret_files(at: &At<'_>, secret: &Secret, wrong: &mut Vec<Problem>) {
    match secret {
        Secret::Certificate(one) => {
            let at = at.field("tls_certificate");
            file(&at.field("certificate_chain"), &one.chain, wrong);
            file(&at.field("private_key"), &one.key, wrong);
        }
        Secret::Validation(one) => trust_files(&at.field("validation_context"), one, wrong),
    }
}

fn context_files(at: &At<'_>, common: &CommonTls, wrong: &mut Vec<Problem>) {
    for (index, source) in common.certificates.iter().enumerate() {
        let CertificateSource::Inline(one) = source else { continue };
        let at = at.item("tls_certificates", index);
        file(&at.field("certificate_chain"), &one.chain, wrong);
        file(&at.field("private_key"), &one.key, wrong);
    }
    let Some(validation) = &common.validation else { return };
    match &validation.secret {
        None => trust_files(&at.field("validation_context"), validation, wrong),
        Some(_) => {
            let at = at.field("combined_validation_context");
            trust_files(&at.field("default_validation_context"), validation, wrong);
        }
    }
}

fn trust_files(at: &At<'_>, validation: &Validation, wrong: &mut Vec<Problem>) {
    validation.trusted_ca.iter().for_each(|source| file(&at.field("trusted_ca"), source, wrong));
    validation.crl.iter().for_each(|source| file(&at.field("crl"), source, wrong));
}

fn file(at: &At<'_>, source: &DataSource, wrong: &mut Vec<Problem>) {
    if let (DataSource::File(_), Err(reason)) = (source, read(source)) {
        wrong.push(at.field("filename").problem(reason));
    }
}
