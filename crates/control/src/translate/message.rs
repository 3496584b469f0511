//! Small builders for what Envoy's messages have in common.

use std::net::IpAddr;
use std::time::Duration;

use prost::{Message, Name};
use wire::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, SocketAddress, address, config_source, socket_address,
};
use wire::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use wire::pb::google::protobuf as pb;

pub(super) fn any<M: Message + Name>(message: &M) -> pb::Any {
    pb::Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(super) fn duration(duration: Duration) -> Option<pb::Duration> {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    Some(pb::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default() })
}

pub(super) fn number(value: u32) -> Option<pb::UInt32Value> {
    Some(pb::UInt32Value { value })
}

pub(super) fn text(value: &str) -> pb::Value {
    pb::Value { kind: Some(pb::value::Kind::StringValue(value.to_owned())) }
}

pub(super) fn socket(ip: IpAddr, port: u16) -> Option<Address> {
    host_socket(&ip.to_string(), port)
}

pub(super) fn host_socket(host: &str, port: u16) -> Option<Address> {
    let address = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    };
    Some(Address { address: Some(address::Address::SocketAddress(address)) })
}

/// "Ask me, on this stream."
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

pub(super) fn exactly(value: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(value.to_owned())), ..StringMatcher::default() }
}

pub(super) fn containing(value: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Contains(value.to_owned())), ..StringMatcher::default() }
}

pub(super) fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher { regex: pattern.to_owned(), ..RegexMatcher::default() }
}

pub(super) fn matching(pattern: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex(pattern))), ..StringMatcher::default() }
}
