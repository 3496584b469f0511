//! Secrets, as SDS and the bootstrap give them (`extensions.transport_sockets.tls.v3.Secret`).

use super::{Result, data, known, matcher};
use crate::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use crate::problem::{At, gather};
use model::tls::{Certificate, NameKind, NameMatcher, Secret, Validation};
use pb::certificate_validation_context::TrustChainVerification;
use pb::secret::Type;
use pb::subject_alt_name_matcher::SanType;
use std::sync::Arc;

pub fn secret(at: &At<'_>, pb: &pb::Secret) -> Result<Secret> {
    match at.required("type", &pb.r#type)? {
        Type::TlsCertificate(one) => Ok(Secret::Certificate(Arc::new(certificate(&at.field("tls_certificate"), one)?))),
        Type::ValidationContext(one) => {
            Ok(Secret::Validation(Arc::new(validation(&at.field("validation_context"), one)?)))
        }
        Type::SessionTicketKeys(_) => at.field("session_ticket_keys").wrong("is not implemented"),
        Type::GenericSecret(_) => at.field("generic_secret").wrong("is not implemented"),
    }
}

pub(super) fn certificate(at: &At<'_>, pb: &pb::TlsCertificate) -> Result<Certificate> {
    let chain = at.required("certificate_chain", &pb.certificate_chain)?;
    let key = at.required("private_key", &pb.private_key)?;
    Ok(Certificate {
        chain: data::source(&at.field("certificate_chain"), chain)?,
        key: data::source(&at.field("private_key"), key)?,
    })
}

pub(super) fn validation(at: &At<'_>, pb: &pb::CertificateValidationContext) -> Result<Validation> {
    let typed = pb.match_typed_subject_alt_names.iter().enumerate().map(|(index, name)| {
        let at = at.item("match_typed_subject_alt_names", index);
        let kind = match known(&at, "san_type", name.san_type)? {
            SanType::Unspecified => return at.field("san_type").wrong("is required"),
            SanType::Email => NameKind::Email,
            SanType::Dns => NameKind::Dns,
            SanType::Uri => NameKind::Uri,
            SanType::IpAddress => NameKind::Ip,
            SanType::OtherName => return at.field("san_type").wrong("OTHER_NAME is not implemented"),
        };
        let wanted = at.required("matcher", &name.matcher)?;
        Ok(NameMatcher { kind, matcher: matcher::string(&at.field("matcher"), wanted)? })
    });
    let untyped = pb.match_subject_alt_names.iter().enumerate().map(|(index, name)| {
        let matcher = matcher::string(&at.item("match_subject_alt_names", index), name)?;
        Ok(NameMatcher { kind: NameKind::Any, matcher })
    });
    let names = gather(typed.chain(untyped))?;
    if !names.is_empty() && pb.trusted_ca.is_none() {
        return at.field("trusted_ca").wrong("is required where names are checked: anybody can write a name");
    }
    Ok(Validation {
        trusted_ca: pb.trusted_ca.as_ref().map(|ca| data::source(&at.field("trusted_ca"), ca)).transpose()?,
        crl: pb.crl.as_ref().map(|crl| data::source(&at.field("crl"), crl)).transpose()?,
        names,
        secret: None,
        accept_untrusted: match known(at, "trust_chain_verification", pb.trust_chain_verification)? {
            TrustChainVerification::VerifyTrustChain => false,
            TrustChainVerification::AcceptUntrusted => true,
        },
    })
}
