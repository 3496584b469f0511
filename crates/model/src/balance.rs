//! Load balancing: which policy picks a host, and within which set of hosts it picks.

use std::time::Duration;

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
    /// Ripstop's own; see `engine::balance::adaptive`.
    Adaptive,
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
