//! Mesh mTLS: each side presents its SVID and verifies the other's.

use wire::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use wire::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use wire::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use wire::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use wire::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
    SdsSecretConfig, SubjectAltNameMatcher, UpstreamTlsContext,
};
use wire::pb::google::protobuf::{Any, BoolValue};

use super::Agent;
use super::message::{ads, any, exactly};
use super::secret::{CERTIFICATE, ROOT};

/// A server that wants to know who calls.
pub(super) fn server() -> TransportSocket {
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
            alpn_protocols: vec!["h2".into(), "http/1.1".into()],
            validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(secret(ROOT))),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: Some(BoolValue { value: true }),
        ..DownstreamTlsContext::default()
    };
    socket("envoy.transport_sockets.tls", any(&context))
}

/// A client that accepts only these identities.
pub(super) fn client(identities: &[String], agent: Agent) -> TransportSocket {
    let names = identities.iter().map(|identity| SubjectAltNameMatcher {
        san_type: SanType::Uri as i32,
        matcher: Some(exactly(identity)),
        oid: String::new(),
    });
    let mut validation =
        CertificateValidationContext { match_typed_subject_alt_names: names.collect(), ..Default::default() };
    let mut common = CommonTlsContext::default();
    if agent == Agent::Grpc {
        // The library takes keys and roots from a provider of that name in its own bootstrap.
        let instance =
            CertificateProviderPluginInstance { instance_name: "default".into(), certificate_name: String::new() };
        common.tls_certificate_provider_instance = Some(instance.clone());
        validation.ca_certificate_provider_instance = Some(instance);
        common.validation_context_type = Some(ValidationContextType::ValidationContext(validation));
    } else {
        common.tls_certificate_sds_secret_configs = vec![secret(CERTIFICATE)];
        let combined = CombinedCertificateValidationContext {
            default_validation_context: Some(validation),
            validation_context_sds_secret_config: Some(secret(ROOT)),
            ..Default::default()
        };
        common.validation_context_type = Some(ValidationContextType::CombinedValidationContext(combined));
    }
    let context = UpstreamTlsContext { common_tls_context: Some(common), ..Default::default() };
    socket("envoy.transport_sockets.tls", any(&context))
}

pub(super) fn plaintext() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", any(&RawBuffer {}))
}

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: ads() }
}

fn socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket { name: name.to_owned(), config_type: Some(transport_socket::ConfigType::TypedConfig(config)) }
}
