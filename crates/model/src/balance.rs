//! Load balancing: which policy picks a host, and within which set of hosts it picks.

use crate::matcher::Substitution;
use std::time::Duration;

/// Key and JSON value, sorted by key: `filter_metadata["envoy.lb"]`, or a part of it that is asked for.
pub type Metadata = [(Box<str>, Box<str>)];

/// `lb_policy` with its configuration, or the first known of `load_balancing_policy`.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    RoundRobin {
        slow_start: Option<SlowStart>,
    },
    LeastRequest(LeastRequest),
    Random,
    RingHash(RingHash),
    Maglev(Maglev),
    PeakEwma(PeakEwma),
    ClientWeighted(Box<ClientWeighted>),
    /// Ripstop's own; see `engine::balance::adaptive`.
    Adaptive,
}

impl Policy {
    /// The same key goes to the same host: picks need the hash of the request.
    pub fn is_hashing(&self) -> bool {
        matches!(self, Policy::RingHash(_) | Policy::Maglev(_))
    }

    /// Goes by how requests ended, and after how long.
    pub fn wants_outcomes(&self) -> bool {
        matches!(self, Policy::PeakEwma(_) | Policy::Adaptive)
    }

    /// Reads the load reports in responses (`endpoint-load-metrics`).
    pub fn wants_reports(&self) -> bool {
        matches!(self, Policy::ClientWeighted(_))
    }
}

/// `least_request.v3.LeastRequest`.
#[derive(Clone, Debug, PartialEq)]
pub struct LeastRequest {
    /// Hosts drawn; at least 2.
    pub choices: u32,
    /// `active_request_bias`: exponent of the requests in flight where weights differ; not negative.
    pub bias: f64,
    /// Compare all hosts instead of drawing some.
    pub full_scan: bool,
    pub slow_start: Option<SlowStart>,
}

impl Default for LeastRequest {
    fn default() -> Self {
        LeastRequest { choices: 2, bias: 1.0, full_scan: false, slow_start: None }
    }
}

/// `SlowStartConfig`: a new host's weight grows from `min_weight` to its full weight within `window`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// Greater than zero.
    pub window: Duration,
    /// Above 1 the weight grows faster at first, below 1 slower; greater than zero.
    pub aggression: f64,
    /// Share of the full weight, 0 to 1.
    pub min_weight: f64,
}

/// `ring_hash.v3.RingHash`.
#[derive(Clone, Debug, PartialEq)]
pub struct RingHash {
    pub min_size: u64,
    /// Not smaller than `min_size`.
    pub max_size: u64,
    pub function: HashFunction,
    pub hashing: Hashing,
}

impl Default for RingHash {
    fn default() -> Self {
        let function = HashFunction::XxHash;
        RingHash { min_size: 1024, max_size: 8 << 20, function, hashing: Hashing::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFunction {
    XxHash,
    MurmurHash2,
}

/// `maglev.v3.Maglev`.
#[derive(Clone, Debug, PartialEq)]
pub struct Maglev {
    /// A prime number.
    pub table_size: u32,
    pub hashing: Hashing,
}

impl Default for Maglev {
    fn default() -> Self {
        Maglev { table_size: 65_537, hashing: Hashing::default() }
    }
}

/// `ConsistentHashingLbConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hashing {
    /// A host's place depends on its name, not on its address.
    pub use_hostname: bool,
    /// Percent of the average load that a host may have before its keys go elsewhere; `None`: any.
    pub balance_factor: Option<u32>,
}

/// `peak_ewma.v3alpha.PeakEwma`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// An observed latency counts 1/e after this time; greater than zero.
    pub decay: Duration,
    /// Assumed of a host never used.
    pub default_latency: Duration,
    /// Cost of a host that was sent requests and has answered none, in milliseconds.
    pub penalty: f64,
    /// Hosts drawn; at least 2.
    pub choices: u32,
}

impl Default for PeakEwma {
    fn default() -> Self {
        PeakEwma {
            decay: Duration::from_secs(10),
            default_latency: Duration::from_millis(10),
            penalty: 1_000_000.0,
            choices: 2,
        }
    }
}

/// `client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin`: weights from the load that hosts report.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientWeighted {
    /// A host's reports count only after it has reported for so long.
    pub blackout: Duration,
    /// A weight not renewed for so long counts no more.
    pub expiration: Duration,
    /// How often new weights are taken over.
    pub update_period: Duration,
    /// How much the share of errors adds to the utilization.
    pub error_penalty: f64,
    /// `metric_names_for_computing_utilization`: `named_metrics.foo`, `cpu_utilization` and the like.
    pub metrics: Vec<Box<str>>,
    pub slow_start: Option<SlowStart>,
}

impl Default for ClientWeighted {
    fn default() -> Self {
        ClientWeighted {
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            update_period: Duration::from_secs(1),
            error_penalty: 1.0,
            metrics: Vec::new(),
            slow_start: None,
        }
    }
}

/// How the hosts of one priority are chosen from by locality.
#[derive(Clone, Debug, PartialEq)]
pub enum Localities {
    /// `zone_aware_lb_config`; without a local cluster all localities are one.
    ZoneAware(ZoneAware),
    /// `locality_weighted_lb_config`: in proportion to `load_balancing_weight`.
    Weighted,
}

/// `ZoneAwareLbConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneAware {
    /// Percent of the requests for which the zone counts.
    pub routing_enabled: u32,
    /// Healthy hosts below which zones do not count.
    pub min_cluster_size: u64,
    /// In a panic, refuse requests instead of using all hosts.
    pub fail_traffic_on_panic: bool,
    /// `force_locality_direct_routing`: always to the own zone, while it has a healthy host.
    pub force_local: bool,
}

impl Default for ZoneAware {
    fn default() -> Self {
        ZoneAware { routing_enabled: 100, min_cluster_size: 6, fail_traffic_on_panic: false, force_local: false }
    }
}

impl Default for Localities {
    fn default() -> Self {
        Localities::ZoneAware(ZoneAware::default())
    }
}

/// `LbSubsetConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subsets {
    pub selectors: Vec<Selector>,
    /// Where no selector decides.
    pub fallback: Fallback,
    pub default_subset: Vec<(Box<str>, Box<str>)>,
    pub locality_weight_aware: bool,
    pub scale_locality_weight: bool,
    /// Rather any host than none, where the fallback has none.
    pub panic_mode_any: bool,
    /// A host whose value is a list is in the subset of each element.
    pub list_as_any: bool,
}

/// `LbSubsetSelector`: hosts that have these keys form a subset per combination of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Sorted.
    pub keys: Vec<Box<str>>,
    pub single_host: bool,
    /// `None`: as the whole configuration has it.
    pub fallback: Option<Fallback>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// `NO_FALLBACK`: no host.
    #[default]
    Nothing,
    /// `ANY_ENDPOINT`.
    Any,
    /// `DEFAULT_SUBSET`.
    Default,
    /// `KEYS_SUBSET`: asks again with these keys only; sorted.
    Keys(Vec<Box<str>>),
}

/// One of a route's `hash_policy`.
#[derive(Clone, Debug)]
pub struct HashPolicy {
    pub by: HashBy,
    /// If there is a hash after it, the rest is not looked at.
    pub terminal: bool,
}

/// What of a request is hashed.
#[derive(Clone, Debug)]
pub enum HashBy {
    /// All values; each may be rewritten first.
    Header {
        name: Box<str>,
        rewrite: Option<Substitution>,
    },
    Cookie(CookieHash),
    SourceIp,
    QueryParameter(Box<str>),
}

/// A cookie whose value is hashed; with a `ttl` the client is given one if it has none.
#[derive(Clone, Debug)]
pub struct CookieHash {
    pub name: Box<str>,
    /// Zero: a session cookie.
    pub ttl: Option<Duration>,
    pub path: Box<str>,
    pub attributes: Vec<(Box<str>, Box<str>)>,
}
