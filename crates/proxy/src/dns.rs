//! Resolves the hosts of STRICT_DNS clusters, again and again, and keeps the last good answer.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
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
    let mut builder = TokioResolver::builder_tokio().map_err(|error| format!("system resolver: {error}"))?;
    builder.options_mut().ip_strategy = match options.family {
        DnsFamily::V4Only => LookupIpStrategy::Ipv4Only,
        DnsFamily::V6Only => LookupIpStrategy::Ipv6Only,
        DnsFamily::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
        DnsFamily::Auto => LookupIpStrategy::Ipv6thenIpv4,
        DnsFamily::All => LookupIpStrategy::Ipv4AndIpv6,
    };
    builder.build().map_err(|error| format!("resolver: {error}"))
}
