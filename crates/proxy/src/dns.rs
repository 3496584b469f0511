//! Resolves the hosts of STRICT_DNS and LOGICAL_DNS clusters, again and again, and keeps the last good answers.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use model::address::{Address, HostPort};
use model::cluster::{DnsFamily, DnsOptions};
use model::endpoint::{Assignment, Endpoint, EndpointTarget, LocalityEndpoints};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// TTLs are held between these.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The names of one cluster.
pub struct Names {
    cluster: Arc<str>,
    wanted: Arc<Assignment>,
    options: Arc<DnsOptions>,
    /// All addresses of a name are one endpoint.
    logical: bool,
    known: HashMap<HostPort, Vec<SocketAddr>>,
}

/// What one name's question gave.
enum Answer {
    /// And how long it holds.
    Addresses(Vec<SocketAddr>, Duration),
    Failed(String),
}

impl Names {
    pub fn new(cluster: Arc<str>, wanted: Arc<Assignment>, options: Arc<DnsOptions>, logical: bool) -> Self {
        Names { cluster, wanted, options, logical, known: HashMap::new() }
    }

    /// Sends what was found, and again whenever it changes.
    pub async fn keep_resolving(mut self, found: mpsc::Sender<(Arc<str>, Assignment)>) {
        let mut backoff = kit::Backoff::new(self.options.failure_base, self.options.failure_max);
        let mut last: Option<Assignment> = None;
        loop {
            let again_in = self.ask().await;
            let assignment = self.assignment();
            if last.as_ref() != Some(&assignment) {
                last = Some(assignment.clone());
                if found.send((self.cluster.clone(), assignment)).await.is_err() {
                    return;
                }
            }
            let wait = match again_in {
                Some(wait) => {
                    backoff.reset();
                    wait + self.options.jitter.mul_f64(fastrand::f64())
                }
                None => backoff.next(fastrand::f64().max(0.2)),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for every name; when to ask again, or `None` if one could not be resolved. Its last answer stays.
    async fn ask(&mut self) -> Option<Duration> {
        let mut again_in = None;
        let mut failed = false;
        let names: Vec<HostPort> = self.wanted.endpoints().filter_map(|endpoint| name_of(endpoint).cloned()).collect();
        for name in names {
            match lookup(&name, &self.options).await {
                Answer::Addresses(addresses, ttl) => {
                    self.known.insert(name, addresses);
                    again_in = Some(again_in.map_or(ttl, |known: Duration| known.min(ttl)));
                }
                Answer::Failed(error) => {
                    tracing::warn!(cluster = %self.cluster, %error, "a name cannot be resolved; its last answer stays");
                    failed = true;
                }
            }
        }
        if failed {
            return None;
        }
        // A TTL of zero says nothing about when to ask again.
        let ttl = again_in.filter(|ttl| self.options.respect_ttl && !ttl.is_zero());
        let ttl = ttl.map(|ttl| ttl.clamp(SHORTEST, LONGEST).max(self.options.min_refresh));
        Some(ttl.unwrap_or(self.options.refresh))
    }

    fn assignment(&self) -> Assignment {
        let localities = self.wanted.localities.iter().map(|locality| LocalityEndpoints {
            endpoints: locality.endpoints.iter().flat_map(|endpoint| self.resolved(endpoint)).collect(),
            ..locality.clone()
        });
        let overprovisioning_factor = self.wanted.overprovisioning_factor;
        Assignment { localities: localities.collect(), overprovisioning_factor }
    }

    fn resolved(&self, endpoint: &Arc<Endpoint>) -> Vec<Arc<Endpoint>> {
        let Some(name) = name_of(endpoint) else { return vec![endpoint.clone()] };
        let addresses = self.known.get(name).map(Vec::as_slice).unwrap_or_default();
        let hostname: Box<str> =
            if endpoint.hostname.is_empty() { name.host.as_str().into() } else { endpoint.hostname.clone() };
        let at = |address: SocketAddr, more: &[SocketAddr]| {
            Arc::new(Endpoint {
                target: EndpointTarget::Address(Address::Tcp(address)),
                more_addresses: more.into(),
                hostname: hostname.clone(),
                ..(**endpoint).clone()
            })
        };
        match (addresses, self.logical) {
            ([first, more @ ..], true) => vec![at(*first, more)],
            (all, _) => all.iter().map(|address| at(*address, &[])).collect(),
        }
    }
}

fn name_of(endpoint: &Endpoint) -> Option<&HostPort> {
    match &endpoint.target {
        EndpointTarget::Name(name) => Some(name),
        EndpointTarget::Address(_) => None,
    }
}

/// The addresses of a name, each once. A name that does not exist has none (as in Envoy); that is an answer too.
async fn lookup(name: &HostPort, options: &DnsOptions) -> Answer {
    if let Ok(ip) = name.host.parse::<IpAddr>() {
        return Answer::Addresses(vec![SocketAddr::new(ip, name.port)], LONGEST);
    }
    let resolver = match resolver(options) {
        Ok(resolver) => resolver,
        Err(error) => return Answer::Failed(error),
    };
    let absolute = options.absolute_names && !name.host.ends_with('.');
    let asked = if absolute { format!("{}.", name.host) } else { name.host.clone() };
    match resolver.lookup_ip(asked.as_str()).await {
        Ok(answer) => {
            let ttl = answer.as_lookup().valid_until().saturating_duration_since(Instant::now());
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in answer.iter().map(|ip| SocketAddr::new(ip, name.port)) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Answer::Addresses(addresses, ttl)
        }
        Err(error) if error.is_no_records_found() => Answer::Addresses(Vec::new(), Duration::ZERO),
        Err(error) => Answer::Failed(format!("{}: {error}", name.host)),
    }
}

fn resolver(options: &DnsOptions) -> Result<TokioResolver, String> {
    let mut builder = if options.resolvers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| format!("system resolver: {error}"))?
    } else {
        let servers = options.resolvers.iter().map(|address| name_server(address, options.tcp_only)).collect();
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

/// Asked over UDP, and over TCP when the answer does not fit; or over TCP only.
fn name_server(address: &SocketAddr, tcp_only: bool) -> NameServerConfig {
    let mut server = match tcp_only {
        true => NameServerConfig::tcp(address.ip()),
        false => NameServerConfig::udp_and_tcp(address.ip()),
    };
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

    fn names(options: DnsOptions, logical: bool) -> Names {
        let endpoint = Endpoint {
            target: EndpointTarget::Name(HostPort { host: "orders.test.".into(), port: 80 }),
            more_addresses: Default::default(),
            weight: 1,
            health: Default::default(),
            hostname: "".into(),
            check: Default::default(),
            lb_metadata: Default::default(),
            socket_match: Default::default(),
        };
        let localities = vec![LocalityEndpoints { endpoints: vec![Arc::new(endpoint)], ..Default::default() }];
        Names::new(
            "orders".into(),
            Arc::new(Assignment { localities, overprovisioning_factor: 140 }),
            options.into(),
            logical,
        )
    }

    fn options(resolvers: Vec<SocketAddr>) -> DnsOptions {
        DnsOptions {
            refresh: Duration::from_secs(5),
            respect_ttl: true,
            min_refresh: Duration::ZERO,
            jitter: Duration::ZERO,
            family: DnsFamily::V4Only,
            resolvers,
            tcp_only: false,
            absolute_names: false,
            failure_base: Duration::from_secs(1),
            failure_max: Duration::from_secs(1),
            wait_at_start: true,
        }
    }

    #[tokio::test]
    async fn asks_the_configured_resolver_and_respects_the_ttl() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut names = names(options(vec![server.local_addr().unwrap()]), false);
        let (again_in, ()) = tokio::join!(names.ask(), answer_once(server));
        let found = names.assignment();
        let found: Vec<_> = found.endpoints().map(|endpoint| endpoint.target.clone()).collect();
        assert_eq!(found, [EndpointTarget::Address(Address::Tcp("192.0.2.7:80".parse().unwrap()))]);
        let again_in = again_in.expect("no failure");
        assert!((29..=30).contains(&again_in.as_secs()), "{again_in:?}");
    }

    #[test]
    fn all_addresses_are_one_logical_endpoint() {
        let all: Vec<SocketAddr> = ["192.0.2.1:80", "192.0.2.2:80"].map(|text| text.parse().unwrap()).into();
        for (logical, endpoints) in [(true, 1), (false, 2)] {
            let mut names = names(options(Vec::new()), logical);
            names.known.insert(HostPort { host: "orders.test.".into(), port: 80 }, all.clone());
            let found = names.assignment();
            assert_eq!(found.endpoints().count(), endpoints);
            let first = found.endpoints().next().unwrap();
            assert_eq!(*first.more_addresses, if logical { all[1..].to_vec() } else { Vec::new() });
            assert_eq!(&*first.hostname, "orders.test.");
        }
    }
}
