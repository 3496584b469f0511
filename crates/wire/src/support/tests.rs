//! What the support table refuses, and by which path.

use super::*;
use crate::json::Document;
use crate::pb::envoy::config::bootstrap::v3::Bootstrap;
use proptest::proptest;
use prost::{Message, Name};

fn refused(yaml: &str) -> Vec<String> {
    let message: Bootstrap = Document::parse("f", yaml).unwrap().read().unwrap();
    let report = check(&Bootstrap::full_name(), &message.encode_to_vec());
    report.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn refused_fields_are_named_by_path() {
    let table = [
        (
            "static_resources: {clusters: [{name: a}, {name: b, outlier_detection: {detect_degraded_hosts: true}}]}",
            "static_resources.clusters[1].outlier_detection.detect_degraded_hosts: is not implemented",
        ),
        ("hds_config: {}", "hds_config: is not implemented"),
        (
            "static_resources: {listeners: [{filter_chains: [{filters: [{name: x, typed_config: {\"@type\": \
          type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
          tracing: {}}}]}]}]}",
            "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.tracing: is not implemented",
        ),
        (
            "static_resources: {clusters: [{typed_extension_protocol_options: {k: {\"@type\": \
          type.googleapis.com/envoy.config.core.v3.Http3ProtocolOptions}}}]}",
            "static_resources.clusters[0].typed_extension_protocol_options[\"k\"]: \
          extension `envoy.config.core.v3.Http3ProtocolOptions` is not implemented",
        ),
    ];
    for (yaml, wanted) in table {
        assert_eq!(refused(yaml), [wanted], "{yaml}");
    }
}

#[test]
fn fields_without_effect_are_reported_apart() {
    let message: Bootstrap = Document::parse("f", "stats_flush_interval: 5s").unwrap().read().unwrap();
    let report = check(&Bootstrap::full_name(), &message.encode_to_vec());
    assert!(report.refused.is_empty());
    assert_eq!(report.without_effect[0].path, "stats_flush_interval");
}

#[test]
fn unknown_field_numbers_are_reported() {
    let mut bytes = Vec::new();
    prost::encoding::uint32::encode(999, &7, &mut bytes);
    let report = check(&Bootstrap::full_name(), &bytes);
    assert_eq!(report.refused[0].message, "field number 999 is not known to this version");
}

/// Resolving panics on a message or field that Envoy does not have.
#[test]
fn the_table_fits_the_schema() {
    assert!(REGISTRY.messages.len() > 100);
    let names: std::collections::HashSet<_> =
        table::TABLE.iter().flat_map(|part| part.iter()).map(|d| d.message).collect();
    assert_eq!(names.len(), REGISTRY.messages.len(), "a message is declared twice");
    let page = markdown();
    assert!(page.contains("## `envoy.config.cluster.v3.Cluster`"));
}

/// A field declared as supported whose own message is declared nowhere would be refused all the same.
#[test]
fn supported_messages_are_declared() {
    for declared in table::TABLE.iter().flat_map(|part| part.iter()) {
        for name in declared.supported.split_whitespace().filter(|name| *name != "*") {
            let index = REGISTRY.by_name[declared.message];
            let field = REGISTRY.messages[index].iter().find(|field| &*field.name == name).unwrap();
            assert!(!matches!(field.rule, Rule::Refused), "{}.{name}: its message is not declared", declared.message);
        }
    }
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
        check(&Bootstrap::full_name(), &bytes);
    }
}
