//! Consistent hashing with bounded loads (arXiv 1608.01350): a host that has more than its share of the requests in
//! flight passes keys on, each key always along the same way (arXiv 1908.08762).

/// How far a host may exceed its share.
#[derive(Clone, Debug)]
pub struct Bounded {
    /// Percent of the average.
    factor: u32,
    /// By host; they add up to 1.
    shares: Vec<f64>,
}

impl Bounded {
    pub fn new(factor: u32, shares: Vec<f64>) -> Self {
        Bounded { factor, shares }
    }

    /// `first` unless it is overloaded, else the next host on the key's way that is not, else the least overloaded.
    /// The way is not the one that Envoy takes.
    pub fn choose(&self, first: usize, key: u64, active: impl Fn(usize) -> u32) -> usize {
        let total: u64 = (0..self.shares.len()).map(|host| u64::from(active(host))).sum();
        let slots = ((total + 1) * u64::from(self.factor)).div_ceil(100) as f64;
        let overload = |host: usize| f64::from(active(host)) / (slots * self.shares[host]).ceil().max(1.0);
        let mut least = (overload(first), first);
        if least.0 <= 1.0 {
            return first;
        }
        let count = self.shares.len();
        let mut way = fastrand::Rng::with_seed(key);
        let start = way.usize(..count);
        let step = coprime_step(&mut way, count);
        for host in (0..count).map(|turn| (start + turn * step) % count) {
            let found = overload(host);
            if found <= 1.0 {
                return host;
            }
            if found < least.0 {
                least = (found, host);
            }
        }
        least.1
    }
}

/// A step that visits all of `count` places.
fn coprime_step(way: &mut fastrand::Rng, count: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    loop {
        let step = way.usize(..count) + 1;
        if gcd(step, count) == 1 {
            return step;
        }
    }
}
