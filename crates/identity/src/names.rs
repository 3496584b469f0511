//! The names inside a certificate, and matching them as Envoy's `match_typed_subject_alt_names` does.

use std::net::IpAddr;

use model::matcher::StringKind;
use model::tls::{NameKind, NameMatcher};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a peer's certificate says of it; for logs and policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerNames {
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub subject: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the certificate is not X.509: {0}")]
pub struct BadCertificate(String);

/// Reads the names of a DER certificate. Says nothing about whether it is to be trusted.
pub fn peer_names(certificate: &[u8]) -> Result<PeerNames, BadCertificate> {
    X509Certificate::from_der(certificate)
        .map(|(_, certificate)| names_of(&certificate))
        .map_err(|e| BadCertificate(e.to_string()))
}

pub(crate) fn names_of(certificate: &X509Certificate<'_>) -> PeerNames {
    let mut names = PeerNames { subject: certificate.subject().to_string(), ..PeerNames::default() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return names };
    for name in &extension.value.general_names {
        match name {
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => names.emails.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => names.ips.extend(ip_address(bytes)),
            _ => {}
        }
    }
    names
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

impl PeerNames {
    /// The one SPIFFE ID, if the certificate is an SVID.
    pub fn spiffe_id(&self) -> Option<crate::SpiffeId> {
        match self.uris.as_slice() {
            [uri] => crate::SpiffeId::parse(uri).ok(),
            _ => None,
        }
    }
}

/// Whether any name of the matcher's kind satisfies it.
pub fn matches(matcher: &NameMatcher, names: &PeerNames) -> bool {
    let wants = |kind| matcher.kind == NameKind::Any || matcher.kind == kind;
    let matches = |name: &String| matcher.matcher.matches(name.as_bytes());
    (wants(NameKind::Uri) && names.uris.iter().any(matches))
        || (wants(NameKind::Dns) && names.dns.iter().any(|dns| matches_dns(matcher, dns)))
        || (wants(NameKind::Ip) && names.ips.iter().any(|ip| matches_ip(matcher, ip)))
        || (wants(NameKind::Email) && names.emails.iter().any(matches))
}

/// A certificate for `*.example.com` satisfies the exact name `a.example.com`, as in Envoy.
fn matches_dns(matcher: &NameMatcher, presented: &str) -> bool {
    match &matcher.matcher.kind {
        StringKind::Exact(wanted) => dns_covers(presented, wanted),
        _ => matcher.matcher.matches(presented.as_bytes()),
    }
}

fn matches_ip(matcher: &NameMatcher, ip: &IpAddr) -> bool {
    match &matcher.matcher.kind {
        // Compared as addresses: IPv6 has many spellings.
        StringKind::Exact(text) => text.parse() == Ok(*ip),
        _ => matcher.matcher.matches(ip.to_string().as_bytes()),
    }
}

/// Whether the DNS name of a certificate covers `host`; a wildcard stands for exactly one label.
pub(crate) fn dns_covers(presented: &str, host: &str) -> bool {
    if presented.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(parent), Some((label, rest))) = (presented.strip_prefix("*."), host.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::matcher::{StringMatcher, full_match_regex};

    fn names() -> PeerNames {
        PeerNames {
            uris: vec!["spiffe://td/ns/a/sa/web".into()],
            dns: vec!["*.example.com".into()],
            ips: vec!["::1".parse().unwrap()],
            emails: vec!["ops@example.com".into()],
            subject: String::new(),
        }
    }

    #[test]
    fn kinds_and_matchers() {
        let exact = |text: &str| StringKind::Exact(text.into());
        let regex = |text: &str| StringKind::Regex(full_match_regex(text).unwrap());
        let cases = [
            (NameKind::Uri, exact("spiffe://td/ns/a/sa/web"), true),
            (NameKind::Uri, exact("spiffe://td/ns/a/sa/we"), false),
            (NameKind::Dns, exact("spiffe://td/ns/a/sa/web"), false),
            (NameKind::Any, exact("spiffe://td/ns/a/sa/web"), true),
            (NameKind::Uri, StringKind::Prefix("spiffe://td/".into()), true),
            (NameKind::Uri, StringKind::Suffix("/sa/web".into()), true),
            (NameKind::Uri, StringKind::Contains("/ns/b/".into()), false),
            (NameKind::Uri, regex("spiffe://td/ns/[^/]+/sa/web"), true),
            (NameKind::Uri, regex("spiffe://td/ns"), false),
            (NameKind::Dns, exact("A.example.com"), true),
            (NameKind::Dns, exact("a.b.example.com"), false),
            (NameKind::Dns, exact("example.com"), false),
            (NameKind::Ip, exact("0:0:0:0:0:0:0:1"), true),
            (NameKind::Ip, exact("127.0.0.1"), false),
            (NameKind::Email, exact("ops@example.com"), true),
        ];
        for (kind, matcher, expected) in cases {
            let label = format!("{kind:?} {matcher:?}");
            let matcher = NameMatcher { kind, matcher: StringMatcher { kind: matcher, ignore_case: false } };
            assert_eq!(matches(&matcher, &names()), expected, "{label}");
        }
    }
}
