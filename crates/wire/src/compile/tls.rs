//! TLS contexts (`DownstreamTlsContext`, `UpstreamTlsContext`).

use super::source::source;
use super::{Context, Result, flag, known, not_empty, secret, unpack};
use crate::kind::ResourceKind;
use crate::pb::envoy::config::core::v3 as core;
use crate::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use crate::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use crate::pb::google::protobuf::Any;
use crate::problem::{At, gather};
use crate::schema::type_name;
use core::proxy_protocol_config::Version;
use core::transport_socket::ConfigType;
use model::listener::ProxyVersion;
use model::tls::{CertificateSource, ClientTls, CommonTls, ServerTls, TlsVersion, Validation};
use pb::common_tls_context::ValidationContextType;
use pb::tls_parameters::TlsProtocol;
use std::sync::Arc;

const PROXY_PROTOCOL: &str = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

/// `None`: plaintext.
pub(super) fn server(cx: &mut Context<'_>, at: &At<'_>, socket: &core::TransportSocket) -> Result<Option<ServerTls>> {
    let Some(any) = typed(at, socket)? else { return Ok(None) };
    let at = at.field("typed_config");
    let pb: pb::DownstreamTlsContext = unpack(&at, any)?;
    let common = at.required("common_tls_context", &pb.common_tls_context)?;
    let inner = at.field("common_tls_context");
    let common = common_tls(cx, &inner, common)?;
    if common.certificates.is_empty() {
        return inner.field("tls_certificates").wrong("a TLS server needs a certificate, here or by SDS");
    }
    Ok(Some(ServerTls { common, require_client_certificate: flag(&pb.require_client_certificate).unwrap_or(false) }))
}

/// `None`: plaintext.
fn client(cx: &mut Context<'_>, at: &At<'_>, socket: &core::TransportSocket) -> Result<Option<ClientTls>> {
    let Some(any) = typed(at, socket)? else { return Ok(None) };
    let at = at.field("typed_config");
    let pb: pb::UpstreamTlsContext = unpack(&at, any)?;
    let common = pb.common_tls_context.unwrap_or_default();
    if pb.sni.len() > 255 {
        return at.field("sni").wrong("must not be longer than 255 bytes");
    }
    Ok(Some(ClientTls {
        common: common_tls(cx, &at.field("common_tls_context"), &common)?,
        sni: pb.sni.as_str().into(),
        auto_host_sni: false,
        auto_san_validation: pb.auto_sni_san_validation,
    }))
}

/// How connections to an endpoint begin.
#[derive(Default)]
pub(super) struct ClientTransport {
    /// `None`: plaintext.
    pub(super) tls: Option<ClientTls>,
    pub(super) proxy_protocol: Option<ProxyVersion>,
}

/// A transport socket, perhaps wrapped in one that sends a PROXY protocol header first.
pub(super) fn transport(cx: &mut Context<'_>, at: &At<'_>, socket: &core::TransportSocket) -> Result<ClientTransport> {
    let Some(any) = typed(at, socket)?.filter(|any| type_name(&any.type_url) == PROXY_PROTOCOL) else {
        return Ok(ClientTransport { tls: client(cx, at, socket)?, proxy_protocol: None });
    };
    let at = at.field("typed_config");
    let wrapper: ProxyProtocolUpstreamTransport = unpack(&at, any)?;
    let version = proxy_version(&at.field("config"), &wrapper.config.unwrap_or_default())?;
    let inner = at.required("transport_socket", &wrapper.transport_socket)?;
    let inner_at = at.field("transport_socket");
    if typed(&inner_at, inner)?.is_some_and(|any| type_name(&any.type_url) == PROXY_PROTOCOL) {
        return inner_at.wrong("cannot be another PROXY protocol transport");
    }
    Ok(ClientTransport { tls: client(cx, &inner_at, inner)?, proxy_protocol: Some(version) })
}

pub(super) fn proxy_version(at: &At<'_>, pb: &core::ProxyProtocolConfig) -> Result<ProxyVersion> {
    Ok(match known(at, "version", pb.version)? {
        Version::V1 => ProxyVersion::V1,
        Version::V2 => ProxyVersion::V2,
    })
}

fn typed<'a>(at: &At<'_>, socket: &'a core::TransportSocket) -> Result<Option<&'a Any>> {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return match socket.name.as_str() {
            "envoy.transport_sockets.raw_buffer" => Ok(None),
            _ => at.field("typed_config").wrong("is required"),
        };
    };
    Ok((type_name(&any.type_url) != RAW_BUFFER).then_some(any))
}

fn common_tls(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::CommonTlsContext) -> Result<CommonTls> {
    let inline = pb.tls_certificates.iter().enumerate().map(|(index, certificate)| {
        let certificate = secret::certificate(&at.item("tls_certificates", index), certificate)?;
        Ok(CertificateSource::Inline(Arc::new(certificate)))
    });
    let mut certificates = gather(inline)?;
    let named = pb.tls_certificate_sds_secret_configs.iter().enumerate();
    certificates.extend(gather(named.map(|(index, config)| {
        let name = sds(cx, &at.item("tls_certificate_sds_secret_configs", index), config)?;
        Ok(CertificateSource::Secret(name))
    }))?);
    let params = pb.tls_params.clone().unwrap_or_default();
    let inner = at.field("tls_params");
    let min_version = version(&inner, "tls_minimum_protocol_version", params.tls_minimum_protocol_version)?;
    let max_version = version(&inner, "tls_maximum_protocol_version", params.tls_maximum_protocol_version)?;
    if max_version != TlsVersion::Auto && min_version > max_version {
        return inner.field("tls_minimum_protocol_version").wrong("is newer than tls_maximum_protocol_version");
    }
    Ok(CommonTls {
        certificates,
        validation: validation(cx, at, pb)?,
        alpn: pb.alpn_protocols.iter().map(|name| name.as_str().into()).collect(),
        min_version,
        max_version,
    })
}

fn version(at: &At<'_>, name: &str, number: i32) -> Result<TlsVersion> {
    match known(at, name, number)? {
        TlsProtocol::TlsAuto => Ok(TlsVersion::Auto),
        TlsProtocol::TlSv12 => Ok(TlsVersion::V1_2),
        TlsProtocol::TlSv13 => Ok(TlsVersion::V1_3),
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            at.field(name).wrong("TLS 1.0 and 1.1 are not implemented; use TLSv1_2 or TLSv1_3")
        }
    }
}

fn validation(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::CommonTlsContext) -> Result<Option<Validation>> {
    use ValidationContextType as Kind;
    Ok(match &pb.validation_context_type {
        None => None,
        Some(Kind::ValidationContext(context)) => Some(secret::validation(&at.field("validation_context"), context)?),
        Some(Kind::ValidationContextSdsSecretConfig(config)) => {
            let name = sds(cx, &at.field("validation_context_sds_secret_config"), config)?;
            Some(Validation { secret: Some(name), ..Validation::default() })
        }
        Some(Kind::CombinedValidationContext(combined)) => Some(combined_validation(cx, at, combined)?),
        Some(_) => return at.wrong("certificate providers are not implemented; use SDS or files"),
    })
}

fn combined_validation(
    cx: &mut Context<'_>,
    at: &At<'_>,
    pb: &pb::common_tls_context::CombinedCertificateValidationContext,
) -> Result<Validation> {
    let at = at.field("combined_validation_context");
    let config = at.required("validation_context_sds_secret_config", &pb.validation_context_sds_secret_config)?;
    let name = sds(cx, &at.field("validation_context_sds_secret_config"), config)?;
    // The secret brings the CA; names are checked against it, so the default needs none of its own.
    let mut default = at.required("default_validation_context", &pb.default_validation_context)?.clone();
    let without_ca = default.trusted_ca.is_none();
    if without_ca {
        default.trusted_ca = Some(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineBytes(Vec::new())),
            watched_directory: None,
        });
    }
    let mut validation = secret::validation(&at.field("default_validation_context"), &default)?;
    if without_ca {
        validation.trusted_ca = None;
    }
    validation.secret = Some(name);
    Ok(validation)
}

/// Without a source the name is that of a secret in the bootstrap.
fn sds(cx: &mut Context<'_>, at: &At<'_>, pb: &pb::SdsSecretConfig) -> Result<Box<str>> {
    let name = not_empty(at, "name", &pb.name)?;
    match &pb.sds_config {
        Some(config) => {
            let source = source(&at.field("sds_config"), config)?;
            cx.need(ResourceKind::Secret, name, source);
        }
        None if cx.scope.static_secrets.contains(name) => {}
        None => {
            let text = format!("static_resources has no secret `{name}`; give sds_config to have it discovered");
            return at.field("name").wrong(text);
        }
    }
    Ok(name.into())
}
