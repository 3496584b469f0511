//! What the connection manager does to every request and response head, as Envoy documents it under
//! "HTTP header manipulation" and "HTTP header sanitizing".

use crate::head::{Head, Known, tokens};
use ipnet::IpNet;
use model::Refusal;
use model::http::{AddressSource, ForwardClientCert, HttpManager, ServerHeader};
use std::net::{IpAddr, SocketAddr};

/// What the connection contributes.
pub struct Arrival<'a> {
    pub direct_remote: Option<SocketAddr>,
    /// Where the client connected to.
    pub local_port: Option<u16>,
    pub secure: bool,
    /// The verified client certificate's `Hash=...;URI=...` element, if there is one.
    pub client_cert: Option<&'a str>,
    /// A fresh UUID for `x-request-id`.
    pub request_id: &'a dyn Fn() -> [u8; 36],
    /// What external callers may not send.
    pub internal_only: &'a [Box<str>],
}

/// What was learnt of the client.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The trusted address.
    pub address: Option<SocketAddr>,
    /// It may say how a request is treated, in `x-envoy-` headers. Those of others are gone.
    pub internal: bool,
}

/// Rewrites the request head in place; refuses requests of clients that cannot be told.
pub fn arrive(manager: &HttpManager, head: &mut Head, arrival: &Arrival<'_>) -> Result<Client, Refusal> {
    let upgrade = is_upgrade(head);
    strip_hop_by_hop(head, upgrade);
    let (remote, single) = client_address(manager, head, arrival)?;
    forwarded_proto(manager, head, arrival);
    if let Some(scheme) = &manager.scheme {
        head.set_scheme(scheme.as_bytes());
    }
    let internal = single && remote.is_some_and(|remote| is_internal(manager, remote.ip()));
    sanitize(manager, head, arrival, remote, internal);
    user_agent(manager, head);
    client_cert(manager, head, arrival);
    if let Some(via) = &manager.via {
        append_list(head, b"via", via.as_bytes(), b", ");
    }
    if manager.generate_request_id {
        let trusted = !manager.use_remote_address || manager.preserve_external_request_id;
        let keep = head.get(b"x-request-id").is_some() && trusted;
        if !keep {
            head.set(b"x-request-id", &(arrival.request_id)());
        }
    }
    Ok(Client { address: remote, internal })
}

/// Tells whose request it is where the request does not.
fn user_agent(manager: &HttpManager, head: &mut Head) {
    let Some(agent) = &manager.user_agent else { return };
    head.set(b"x-envoy-downstream-service-cluster", agent.cluster.as_bytes());
    if head.get(b"user-agent").is_none_or(<[u8]>::is_empty) {
        head.set(b"user-agent", agent.cluster.as_bytes());
    }
    if !agent.node.is_empty() {
        head.set(b"x-envoy-downstream-service-node", agent.node.as_bytes());
    }
}

/// Fields that describe one connection only, including those that `Connection` names (RFC 9110 section 7.6.1).
pub fn strip_hop_by_hop(head: &mut Head, keep_upgrade: bool) {
    if !head.fields().any(|field| field.known.hop_by_hop()) {
        return;
    }
    let mut named = Vec::new();
    for value in head.fields().filter(|field| field.known == Known::Connection).map(|field| head.slice(field.value)) {
        // What nearly every head says names no field.
        if !matches_any(value, &[b"keep-alive", b"close"]) {
            named.extend(tokens(value).filter(|token| !matches_any(token, STANDARD_OPTIONS)).map(<[u8]>::to_vec));
        }
    }
    for name in named {
        head.remove(&name);
    }
    let te_trailers = head.has_token(Known::Te, b"trailers");
    head.remove_known_if(|known| match known {
        Known::Connection | Known::Upgrade => !keep_upgrade,
        Known::KeepAlive | Known::ProxyConnection | Known::Te | Known::Http2Settings => true,
        _ => false,
    });
    if te_trailers {
        head.push(b"te", b"trailers");
    }
}

/// Values of `Connection` that are no field names of one hop, or are dealt with apart.
const STANDARD_OPTIONS: &[&[u8]] = &[b"close", b"keep-alive", b"upgrade", b"te"];

fn matches_any(token: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|name| token.eq_ignore_ascii_case(name))
}

/// A request for a tunnel (RFC 9110 section 9.3.6).
pub fn is_connect(head: &Head) -> bool {
    head.method() == b"CONNECT"
}

/// What the client wants to switch to, in lower case: what it upgrades to, or `connect`.
pub fn upgrade_type(head: &Head) -> Vec<u8> {
    match head.get_known(Known::Upgrade) {
        Some(wanted) if is_upgrade(head) => wanted.to_ascii_lowercase(),
        _ => b"connect".to_vec(),
    }
}

/// An answer with this status makes a tunnel of the connection, if the client asked for one.
pub fn switches(connect: bool, status: u16) -> bool {
    if connect { (200..300).contains(&status) } else { status == 101 }
}

/// An HTTP/1.1 upgrade request (RFC 9110 section 7.8). An offer of `h2c` is not taken up, so it is none.
pub fn is_upgrade(head: &Head) -> bool {
    head.get_known(Known::Upgrade).is_some_and(|wanted| !wanted.eq_ignore_ascii_case(b"h2c"))
        && head.has_token(Known::Connection, b"upgrade")
}

/// The trusted client address, and whether it is the only one in sight.
fn client_address(
    manager: &HttpManager,
    head: &mut Head,
    arrival: &Arrival<'_>,
) -> Result<(Option<SocketAddr>, bool), Refusal> {
    let direct = arrival.direct_remote;
    let (lines, listed) = (head.all(b"x-forwarded-for").count(), head.all(b"x-forwarded-for").flat_map(tokens).count());
    if lines > 1 {
        let all: Vec<&[u8]> = head.all(b"x-forwarded-for").collect();
        let joined = all.join(&b',');
        head.set(b"x-forwarded-for", &joined);
    }
    if manager.use_remote_address {
        let from_list = match manager.xff_num_trusted_hops {
            0 => None,
            hops => forwarded_for(head, hops as usize - 1),
        };
        if !manager.skip_xff_append {
            append_forwarded_for(head, direct);
        }
        forwarded_port(manager, head, arrival, manager.xff_num_trusted_hops > 0);
        return Ok((from_list.or(direct), listed == 0));
    }
    forwarded_port(manager, head, arrival, true);
    if manager.client_address.is_empty() {
        return Ok(match forwarded_for(head, manager.xff_num_trusted_hops as usize) {
            Some(from_list) => (Some(from_list), listed == 1),
            None => (direct, false),
        });
    }
    detected(manager, head, direct, listed)
}

fn append_forwarded_for(head: &mut Head, direct: Option<SocketAddr>) {
    if let Some(direct) = direct {
        append_list(head, b"x-forwarded-for", direct.ip().to_string().as_bytes(), b",");
    }
}

/// By the first of `original_ip_detection_extensions` that finds an address.
fn detected(
    manager: &HttpManager,
    head: &mut Head,
    direct: Option<SocketAddr>,
    listed: usize,
) -> Result<(Option<SocketAddr>, bool), Refusal> {
    let mut append = false;
    let mut found = None;
    for source in &manager.client_address {
        found = match source {
            AddressSource::Forwarded { hops, trusted, append: wanted } => {
                let address = if trusted.is_empty() {
                    forwarded_for(head, *hops as usize)
                } else {
                    behind_trusted(head, direct, trusted)
                };
                append = *wanted;
                address.map(|address| (address, listed == 1))
            }
            AddressSource::Header { name, trusted, reject } => {
                let text = head.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok());
                let address = text.and_then(|text| text.trim().parse().ok()).map(|ip: IpAddr| SocketAddr::new(ip, 0));
                match (address, reject) {
                    (None, Some(status)) => return Err(Refusal::ClientUnknown(*status)),
                    (address, _) => address.map(|address| (address, *trusted)),
                }
            }
        };
        if found.is_some() {
            break;
        }
    }
    if append {
        append_forwarded_for(head, direct);
    }
    Ok(found.map_or((direct, false), |(address, trusted)| (Some(address), trusted)))
}

/// The last address of `x-forwarded-for` that is no trusted proxy's, if the connection came from one.
fn behind_trusted(head: &Head, direct: Option<SocketAddr>, trusted: &[IpNet]) -> Option<SocketAddr> {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|range| range.contains(&ip));
    if !is_trusted(direct?.ip()) {
        return None;
    }
    let all: Vec<&[u8]> = head.all(b"x-forwarded-for").flat_map(tokens).collect();
    let mut last = None;
    for item in all.iter().rev() {
        let ip: IpAddr = std::str::from_utf8(item).ok()?.parse().ok()?;
        last = Some(SocketAddr::new(ip, 0));
        if !is_trusted(ip) {
            break;
        }
    }
    last
}

/// `append_x_forwarded_port`: a trusted proxy's word stays.
fn forwarded_port(manager: &HttpManager, head: &mut Head, arrival: &Arrival<'_>, trusted: bool) {
    if !manager.append_x_forwarded_port {
        return;
    }
    let told = trusted && head.get(b"x-forwarded-port").is_some();
    if let (false, Some(port)) = (told, arrival.local_port) {
        head.set(b"x-forwarded-port", port.to_string().as_bytes());
    }
}

/// The address `skip` places from the right of `x-forwarded-for`.
fn forwarded_for(head: &Head, skip: usize) -> Option<SocketAddr> {
    let all: Vec<&[u8]> = head.all(b"x-forwarded-for").flat_map(tokens).collect();
    let item = all.len().checked_sub(skip + 1).map(|at| all[at])?;
    let ip: IpAddr = std::str::from_utf8(item).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip, 0))
}

fn forwarded_proto(manager: &HttpManager, head: &mut Head, arrival: &Arrival<'_>) {
    let scheme: &[u8] = if arrival.secure { b"https" } else { b"http" };
    let trusted = !manager.use_remote_address || manager.xff_num_trusted_hops > 0;
    match head.get(b"x-forwarded-proto") {
        Some(given) if trusted => {
            let known = matches_any(given, &[b"http", b"https"]);
            let given = given.to_ascii_lowercase();
            head.set_scheme(if known { &given } else { scheme });
        }
        None if trusted => {
            let scheme = manager.scheme.as_ref().map_or(scheme, |scheme| scheme.as_bytes());
            head.set(b"x-forwarded-proto", scheme);
            head.set_scheme(scheme);
        }
        _ => {
            head.set(b"x-forwarded-proto", scheme);
            head.set_scheme(scheme);
        }
    }
}

const EDGE_ONLY: [&[u8]; 3] =
    [b"x-envoy-decorator-operation", b"x-envoy-downstream-service-cluster", b"x-envoy-downstream-service-node"];

const ENVOY_ONLY: [&[u8]; 13] = [
    b"x-envoy-internal",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retriable-header-names",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-force-trace",
    b"x-envoy-ip-tags",
    b"x-envoy-max-retries",
    b"x-envoy-retry-on",
    b"x-envoy-retry-grpc-on",
];

fn is_internal(manager: &HttpManager, address: IpAddr) -> bool {
    manager.internal_addresses.iter().any(|range| range.contains(&address))
}

/// Removes what only trusted callers may say. Without `internal_address_config` no address is internal, so every
/// caller is external, as with Envoy.
fn sanitize(manager: &HttpManager, head: &mut Head, arrival: &Arrival<'_>, remote: Option<SocketAddr>, internal: bool) {
    if internal {
        head.set(b"x-envoy-internal", b"true");
        return;
    }
    // In one pass: nearly no field begins so.
    head.remove_if(|name, _| {
        name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"x-envoy-")) && matches_any(name, &ENVOY_ONLY)
    });
    for name in arrival.internal_only {
        head.remove(name.as_bytes());
    }
    if manager.use_remote_address {
        for name in EDGE_ONLY {
            head.remove(name);
        }
        if let Some(remote) = remote {
            head.set(b"x-envoy-external-address", remote.ip().to_string().as_bytes());
        }
    }
}

fn client_cert(manager: &HttpManager, head: &mut Head, arrival: &Arrival<'_>) {
    const NAME: &[u8] = b"x-forwarded-client-cert";
    use ForwardClientCert as F;
    match manager.forward_client_cert {
        F::AlwaysForwardOnly => {}
        _ if arrival.client_cert.is_none() => {
            head.remove(NAME);
        }
        F::Sanitize => {
            head.remove(NAME);
        }
        F::ForwardOnly => {}
        F::AppendForward => append_list(head, NAME, arrival.client_cert.unwrap_or_default().as_bytes(), b","),
        F::SanitizeSet => head.set(NAME, arrival.client_cert.unwrap_or_default().as_bytes()),
    }
}

/// Appends to the list `name`, which becomes one field.
pub fn append_list(head: &mut Head, name: &[u8], item: &[u8], separator: &[u8]) {
    let mut joined = Vec::new();
    for value in head.all(name) {
        joined.extend_from_slice(value);
        joined.extend_from_slice(separator);
    }
    joined.extend_from_slice(item);
    head.set(name, &joined);
}

/// Hop-by-hop fields out, `server` and `via` in.
pub fn depart(manager: &HttpManager, head: &mut Head, upgraded: bool) {
    strip_hop_by_hop(head, upgraded);
    match manager.server_header {
        ServerHeader::Overwrite => head.set(b"server", manager.server_name.as_bytes()),
        ServerHeader::AppendIfAbsent if head.get_known(Known::Server).is_none() => {
            head.push(b"server", manager.server_name.as_bytes());
        }
        ServerHeader::AppendIfAbsent | ServerHeader::PassThrough => {}
    }
    if let Some(via) = &manager.via {
        append_list(head, b"via", via.as_bytes(), b", ");
    }
}
