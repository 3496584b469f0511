//! Copies the descriptor set that `envoy-types` ships, without comments and positions, to where `schema` embeds it, in
//! two parts: what a proxy needs to read its configuration, and the rest of the API.
//!
//! The crate does not export the file, so it is looked up among the sources that Cargo unpacked.

use std::collections::{HashMap, HashSet};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `FileDescriptorSet.file`.
const FILE: u64 = 1;
/// `FileDescriptorProto.name`.
const NAME: u64 = 1;
/// `FileDescriptorProto.dependency`.
const DEPENDENCY: u64 = 3;
/// `FileDescriptorProto.source_code_info`.
const SOURCE_CODE_INFO: u64 = 9;

/// The files of what is implemented (`src/support/table.rs`); what they import comes along.
const CORE: &[&str] = &[
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/extensions/access_loggers/file/v3/file.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/clusters/aggregate/v3/cluster.proto",
    "envoy/extensions/clusters/dns/v3/dns_cluster.proto",
    "envoy/extensions/clusters/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/http/adaptive_concurrency/v3/adaptive_concurrency.proto",
    "envoy/extensions/filters/http/admission_control/v3/admission_control.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/fault/v3/fault.proto",
    "envoy/extensions/filters/http/grpc_web/v3/grpc_web.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/on_demand/v3/on_demand.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/connection_limit/v3/connection_limit.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.proto",
    "envoy/extensions/health_check/event_sinks/file/v3/file.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.proto",
    "envoy/extensions/http/original_ip_detection/xff/v3/xff.proto",
    "envoy/extensions/internal_redirect/allow_listed_routes/v3/allow_listed_routes_config.proto",
    "envoy/extensions/internal_redirect/previous_routes/v3/previous_routes_config.proto",
    "envoy/extensions/internal_redirect/safe_cross_scheme/v3/safe_cross_scheme_config.proto",
    "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
    "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
    "envoy/extensions/load_balancing_policies/random/v3/random.proto",
    "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto",
    "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto",
    "envoy/extensions/path/match/uri_template/v3/uri_template_match.proto",
    "envoy/extensions/path/rewrite/uri_template/v3/uri_template_rewrite.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/load_balancing_policies/subset/v3/subset.proto",
    "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.proto",
    "envoy/extensions/retry/host/omit_canary_hosts/v3/omit_canary_hosts.proto",
    "envoy/extensions/retry/host/omit_host_metadata/v3/omit_host_metadata_config.proto",
    "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config.proto",
    "envoy/extensions/request_id/uuid/v3/uuid.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    "envoy/extensions/resource_monitors/injected_resource/v3/injected_resource.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto",
    "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/service/discovery/v3/discovery.proto",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let source = sources_of("envoy-types").join("src/generated/types.bin");
    println!("cargo::rerun-if-changed={}", source.display());
    let set = fs::read(&source).unwrap_or_else(|error| {
        panic!("{}: {error}; envoy-types 0.7 keeps its descriptor set there", source.display());
    });
    let files: Vec<File<'_>> = fields(&set).map(|(_, file)| File::read(file)).collect();
    let core = with_imports(&files, CORE);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    for (name, wanted) in [("core.bin", true), ("rest.bin", false)] {
        let part = files.iter().filter(|file| core.contains(file.name) == wanted);
        let path = out.join(name);
        fs::write(&path, set_of(part)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A `FileDescriptorProto`, still encoded.
struct File<'a> {
    name: &'a str,
    imports: Vec<&'a str>,
    bytes: &'a [u8],
}

impl<'a> File<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let text = |wanted: u64| {
            let found = fields(bytes).filter(move |(number, _)| *number == wanted);
            found.map(|(_, value)| std::str::from_utf8(value).expect("file names are text"))
        };
        File { name: text(NAME).next().expect("a file has a name"), imports: text(DEPENDENCY).collect(), bytes }
    }
}

fn with_imports<'a>(files: &[File<'a>], roots: &[&'a str]) -> HashSet<&'a str> {
    let by_name: HashMap<&str, &File<'a>> = files.iter().map(|file| (file.name, file)).collect();
    let mut found = HashSet::new();
    let mut open = roots.to_vec();
    while let Some(name) = open.pop() {
        let file = by_name.get(name).unwrap_or_else(|| panic!("envoy-types has no {name}"));
        if found.insert(file.name) {
            open.extend(&file.imports);
        }
    }
    found
}

/// The source directory of a dependency. The registry's cache is looked at first: `cargo metadata` wants every
/// package of the lock file downloaded, also those that this build does not need.
fn sources_of(package: &str) -> PathBuf {
    let cargo = env::var_os("CARGO").expect("Cargo sets CARGO");
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let cached = home.and_then(|home| cached(&home.join("registry/src"), package));
    cached.unwrap_or_else(|| from_metadata(&cargo, package))
}

/// `registry/src/INDEX/PACKAGE-VERSION`, the version being the lock file's.
fn cached(registry: &Path, package: &str) -> Option<PathBuf> {
    let folder = format!("{package}-{}", locked_version(package)?);
    let indexes = fs::read_dir(registry).ok()?.flatten();
    indexes.map(|index| index.path().join(&folder)).find(|path| path.is_dir())
}

fn locked_version(package: &str) -> Option<String> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let lock = manifest.ancestors().map(|dir| dir.join("Cargo.lock")).find(|path| path.is_file())?;
    let text = fs::read_to_string(lock).ok()?;
    let (_, after) = text.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(after.split('"').next()?.to_string())
}

/// The way for vendored and patched sources.
fn from_metadata(cargo: &OsStr, package: &str) -> PathBuf {
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("Cargo sets TARGET"))
        .output()
        .unwrap_or_else(|error| panic!("cannot run `cargo metadata`: {error}"));
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`cargo metadata` failed: {problem}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("`cargo metadata` writes JSON");
    let found = metadata["packages"].as_array().into_iter().flatten().find(|entry| entry["name"] == package);
    let path = found.and_then(|entry| entry["manifest_path"].as_str());
    let path = path.unwrap_or_else(|| panic!("`cargo metadata` lists no package `{package}`"));
    Path::new(path).parent().expect("a manifest lies in a directory").to_path_buf()
}

/// A `FileDescriptorSet` of these files without their source info.
fn set_of<'a>(files: impl Iterator<Item = &'a File<'a>>) -> Vec<u8> {
    let mut out = Vec::new();
    for file in files {
        let kept: Vec<_> = fields(file.bytes).filter(|(number, _)| *number != SOURCE_CODE_INFO).collect();
        let length: usize = kept.iter().map(|(number, value)| field_len(*number, value)).sum();
        put_varint(&mut out, FILE << 3 | 2);
        put_varint(&mut out, length as u64);
        for (number, value) in kept {
            put_varint(&mut out, number << 3 | 2);
            put_varint(&mut out, value.len() as u64);
            out.extend_from_slice(value);
        }
    }
    out
}

/// The length-delimited fields of a message; descriptors of files need no others but packed or repeated integers
/// (`public_dependency`, `weak_dependency`), which are not used for anything here.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        while !message.is_empty() {
            let tag = take_varint(&mut message);
            match tag & 7 {
                0 => _ = take_varint(&mut message),
                2 => {
                    let length = take_varint(&mut message) as usize;
                    let (value, rest) = message.split_at(length);
                    message = rest;
                    return Some((tag >> 3, value));
                }
                other => panic!("unexpected wire type {other} in a file descriptor"),
            }
        }
        None
    })
}

fn field_len(number: u64, value: &[u8]) -> usize {
    let mut head = Vec::new();
    put_varint(&mut head, number << 3 | 2);
    put_varint(&mut head, value.len() as u64);
    head.len() + value.len()
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a varint ends before its message does");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
