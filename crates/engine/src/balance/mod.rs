//! Picks an endpoint. Hosts are seen through [`Hosts`]; the caller gives the random numbers.

/// The usable hosts of a cluster, by index.
pub trait Hosts {
    fn len(&self) -> usize;
    fn weight(&self, index: usize) -> u32;
    /// Requests in flight.
    fn active(&self, index: usize) -> u32;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// State between picks, one per cluster and worker.
#[derive(Clone, Debug)]
pub enum Balancer {
    RoundRobin(Schedule),
    LeastRequest { choices: u32, bias: f64, schedule: Schedule },
    Random,
}

impl Balancer {
    /// `seed` spreads the starting points of many workers.
    pub fn new(policy: model::cluster::LbPolicy, seed: u64) -> Self {
        use model::cluster::LbPolicy;
        match policy {
            LbPolicy::RoundRobin => Balancer::RoundRobin(Schedule::new(seed)),
            LbPolicy::LeastRequest { choices, bias } => {
                Balancer::LeastRequest { choices, bias, schedule: Schedule::new(seed) }
            }
            LbPolicy::Random => Balancer::Random,
        }
    }

    /// Index of the next host; `None` when there is none.
    pub fn pick(&mut self, hosts: &impl Hosts, mut random: impl FnMut() -> u64) -> Option<usize> {
        if hosts.is_empty() {
            return None;
        }
        Some(match self {
            Balancer::RoundRobin(schedule) => schedule.next(hosts, |index| f64::from(hosts.weight(index))),
            Balancer::LeastRequest { choices, bias, schedule } => {
                if equal_weights(hosts) {
                    least_of(hosts, *choices, &mut random)
                } else {
                    let bias = *bias;
                    schedule.next(hosts, |index| {
                        f64::from(hosts.weight(index)) / (f64::from(hosts.active(index)) + 1.0).powf(bias)
                    })
                }
            }
            Balancer::Random => weighted_random(hosts, random()),
        })
    }

    /// The host list changed: positions mean nothing any more.
    pub fn reset(&mut self) {
        if let Balancer::RoundRobin(schedule) | Balancer::LeastRequest { schedule, .. } = self {
            schedule.reset();
        }
    }
}

fn equal_weights(hosts: &impl Hosts) -> bool {
    let first = hosts.weight(0);
    (1..hosts.len()).all(|index| hosts.weight(index) == first)
}

/// The least loaded of `choices` random hosts (Mitzenmacher's power of two choices). Draws are with replacement.
fn least_of(hosts: &impl Hosts, choices: u32, random: &mut impl FnMut() -> u64) -> usize {
    let mut draw = || (random() % hosts.len() as u64) as usize;
    let mut best = draw();
    for _ in 1..choices.max(1) {
        let other = draw();
        if hosts.active(other) < hosts.active(best) {
            best = other;
        }
    }
    best
}

fn weighted_random(hosts: &impl Hosts, random: u64) -> usize {
    let total: u64 = (0..hosts.len()).map(|index| u64::from(hosts.weight(index))).sum();
    let mut point = random % total.max(1);
    for index in 0..hosts.len() {
        let weight = u64::from(hosts.weight(index));
        if point < weight {
            return index;
        }
        point -= weight;
    }
    hosts.len() - 1
}

/// Smooth weighted round robin: in every cycle each host comes up in proportion to its weight, well spread. With
/// equal weights this is plain round robin.
#[derive(Clone, Debug)]
pub struct Schedule {
    position: usize,
    credit: Vec<f64>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        Schedule { position: seed as usize, credit: Vec::new() }
    }

    fn reset(&mut self) {
        self.credit.clear();
    }

    fn next(&mut self, hosts: &impl Hosts, weight: impl Fn(usize) -> f64) -> usize {
        let count = hosts.len();
        if equal_weights(hosts) && (1..count).all(|index| weight(index) == weight(0)) {
            self.position = self.position.wrapping_add(1);
            return self.position % count;
        }
        self.credit.resize(count, 0.0);
        let mut total = 0.0;
        let mut best = 0;
        for index in 0..count {
            let weight = weight(index);
            total += weight;
            self.credit[index] += weight;
            if self.credit[index] > self.credit[best] {
                best = index;
            }
        }
        self.credit[best] -= total;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::cluster::LbPolicy;

    struct Fake(Vec<(u32, u32)>);

    impl Hosts for Fake {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn weight(&self, index: usize) -> u32 {
            self.0[index].0
        }
        fn active(&self, index: usize) -> u32 {
            self.0[index].1
        }
    }

    fn shares(policy: LbPolicy, hosts: &Fake, picks: usize) -> Vec<usize> {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut balancer = Balancer::new(policy, 3);
        let mut count = vec![0; hosts.len()];
        for _ in 0..picks {
            count[balancer.pick(hosts, || rng.u64(..)).unwrap()] += 1;
        }
        count
    }

    #[test]
    fn round_robin_is_exact() {
        assert_eq!(shares(LbPolicy::RoundRobin, &Fake(vec![(1, 0), (1, 0), (1, 0)]), 300), [100, 100, 100]);
        assert_eq!(shares(LbPolicy::RoundRobin, &Fake(vec![(1, 0), (2, 0), (4, 0)]), 700), [100, 200, 400]);
    }

    #[test]
    fn least_request_avoids_the_busy() {
        let share = shares(LbPolicy::LeastRequest { choices: 2, bias: 1.0 }, &Fake(vec![(1, 9), (1, 0), (1, 0)]), 9000);
        // Only a draw of the busy host twice (1/9) sends there.
        assert!((800..1200).contains(&share[0]), "{share:?}");
    }

    #[test]
    fn random_follows_weights() {
        let share = shares(LbPolicy::Random, &Fake(vec![(1, 0), (3, 0)]), 8000);
        assert!((1800..2200).contains(&share[0]), "{share:?}");
    }

    #[test]
    fn no_hosts() {
        let mut balancer = Balancer::new(LbPolicy::Random, 0);
        assert_eq!(balancer.pick(&Fake(vec![]), || 0), None);
    }
}
