//! Resolves the hosts of STRICT_DNS clusters, again and again, and keeps the last good answer.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use model::Address;
use model::cluster::{DnsFamily, DnsOptions};
use model::endpoint::{Assignment, Endpoint, EndpointTarget, LocalityEndpoints};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// TTLs are held between these.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(600);

/// Resolved endpoints, and when to ask again.
pub struct Resolved {
    pub assignment: Assignment,
    pub again_in: Duration,
}

/// Resolves every name in `wanted`; a name that cannot be resolved is an error for the whole.
pub async fn resolve(wanted: &Assignment, options: &DnsOptions) -> Result<Resolved, String> {
    let mut found = Assignment { localities: Vec::new(), overprovisioning_factor: wanted.overprovisioning_factor };
    let mut again_in = options.refresh;
    for locality in &wanted.localities {
        let mut endpoints = Vec::new();
        for endpoint in &locality.endpoints {
            let (addresses, ttl) = addresses(endpoint, options).await?;
            if options.respect_ttl {
                again_in = again_in.min(ttl.clamp(SHORTEST, LONGEST));
            }
            for address in addresses {
                endpoints.push(Arc::new(Endpoint {
                    target: EndpointTarget::Address(address),
                    hostname: hostname(endpoint),
                    ..(**endpoint).clone()
                }));
            }
        }
        found.localities.push(LocalityEndpoints { endpoints, ..locality.clone() });
    }
    Ok(Resolved { assignment: found, again_in })
}

fn hostname(endpoint: &Endpoint) -> Box<str> {
    match &endpoint.target {
        EndpointTarget::Name(name) if endpoint.hostname.is_empty() => name.host.as_str().into(),
        _ => endpoint.hostname.clone(),
    }
}

async fn addresses(endpoint: &Endpoint, options: &DnsOptions) -> Result<(Vec<Address>, Duration), String> {
    let name = match &endpoint.target {
        EndpointTarget::Address(address) => return Ok((vec![address.clone()], LONGEST)),
        EndpointTarget::Name(name) => name,
    };
    if let Ok(ip) = name.host.parse::<IpAddr>() {
        return Ok((vec![Address::Tcp(SocketAddr::new(ip, name.port))], LONGEST));
    }
    let resolver = resolver(options)?;
    let answer = resolver.lookup_ip(name.host.as_str()).await.map_err(|error| format!("{}: {error}", name.host))?;
    let ttl = answer.as_lookup().valid_until().saturating_duration_since(Instant::now());
    let addresses = answer.iter().map(|ip| Address::Tcp(SocketAddr::new(ip, name.port)));
    Ok((addresses.collect(), ttl))
}

fn resolver(options: &DnsOptions) -> Result<TokioResolver, String> {
    let mut builder = if options.resolvers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| format!("system resolver: {error}"))?
    } else {
        let servers = options.resolvers.iter().map(name_server).collect();
        TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), Default::default())
    };
    builder.options_mut().ip_strategy = match options.family {
        DnsFamily::V4Only => LookupIpStrategy::Ipv4Only,
        DnsFamily::V6Only => LookupIpStrategy::Ipv6Only,
        DnsFamily::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
        DnsFamily::Auto => LookupIpStrategy::Ipv6thenIpv4,
        DnsFamily::All => LookupIpStrategy::Ipv4AndIpv6,
    };
    builder.build().map_err(|error| format!("resolver: {error}"))
}

/// Asked over UDP, and over TCP when the answer does not fit.
fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::address::HostPort;
    use tokio::net::UdpSocket;

    /// Answers one query for an A record: the question again, then 192.0.2.7 with a TTL of 30 s (RFC 1035 section 4).
    async fn answer_once(server: UdpSocket) {
        let mut query = [0u8; 512];
        let (_, client) = server.recv_from(&mut query).await.unwrap();
        let name_end = 12 + query[12..].iter().position(|&byte| byte == 0).unwrap();
        let mut answer = query[..name_end + 5].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 192, 0, 2, 7]);
        server.send_to(&answer, client).await.unwrap();
    }

    #[tokio::test]
    async fn asks_the_configured_resolver() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let options = DnsOptions {
            refresh: Duration::from_secs(5),
            respect_ttl: true,
            family: DnsFamily::V4Only,
            resolvers: vec![server.local_addr().unwrap()],
            failure_base: Duration::from_secs(1),
            failure_max: Duration::from_secs(1),
            wait_at_start: true,
        };
        let endpoint = Endpoint {
            target: EndpointTarget::Name(HostPort { host: "orders.test.".into(), port: 80 }),
            weight: 1,
            health: Default::default(),
            hostname: "".into(),
            check: Default::default(),
            lb_metadata: Vec::new(),
            socket_match: Vec::new(),
        };
        let localities = vec![LocalityEndpoints { endpoints: vec![Arc::new(endpoint)], ..Default::default() }];
        let wanted = Assignment { localities, overprovisioning_factor: 140 };
        let (resolved, ()) = tokio::join!(resolve(&wanted, &options), answer_once(server));
        let resolved = resolved.unwrap();
        let found: Vec<_> = resolved.assignment.endpoints().map(|endpoint| endpoint.target.clone()).collect();
        assert_eq!(found, [EndpointTarget::Address(Address::Tcp("192.0.2.7:80".parse().unwrap()))]);
        assert_eq!(resolved.again_in, options.refresh);
    }
}
