//! Which of the hosts h0 to h4 Envoy 1.40.0 sent the header values `key-0` to `key-63` to.

use super::*;
use model::balance::{HashFunction, RingHash};
use proptest::prelude::*;

const NAMES: [&str; 5] = ["h0", "h1", "h2", "h3", "h4"];
const EQUAL: [u32; 5] = [1; 5];
const WEIGHTS: [u32; 5] = [1, 2, 3, 1, 5];

fn entries(weights: [u32; 5]) -> Vec<Entry<'static>> {
    let total: u32 = weights.iter().sum();
    let share = |weight: u32| f64::from(weight) / f64::from(total);
    NAMES.iter().zip(weights).map(|(key, weight)| Entry { key, share: share(weight) }).collect()
}

fn ring(min_size: u64, max_size: u64, function: HashFunction, weights: [u32; 5]) -> Ring {
    let config = RingHash { min_size, max_size, function, ..RingHash::default() };
    Ring::new(&config, &entries(weights))
}

fn all(choose: impl Fn(u64) -> Option<usize>, key: impl Fn(usize) -> u64) -> String {
    (0..64).map(|number| choose(key(number)).unwrap().to_string()).collect()
}

fn one(number: usize) -> u64 {
    hash(format!("key-{number}").as_bytes())
}

#[test]
fn rings_as_envoy_has_them() {
    use HashFunction::{MurmurHash2, XxHash};
    let cases = [
        (1024, 8 << 20, XxHash, EQUAL, "0324012442041442100404233141223004134044010023422001002244331142"),
        (1024, 8 << 20, MurmurHash2, EQUAL, "0220011231110032131431412330402343123321114243410333302142320334"),
        (37, 50, XxHash, WEIGHTS, "4444444242421421424444044201442424142444014344414401441244122222"),
        (3, 7, XxHash, EQUAL, "2300000022001100000202032300000023132000010310110300001200002222"),
    ];
    for (min, max, function, weights, expected) in cases {
        let ring = ring(min, max, function, weights);
        assert_eq!(all(|key| ring.choose(key, 0), one), expected, "{min} {max} {function:?}");
    }
}

#[test]
fn tables_as_envoy_has_them() {
    let cases = [
        (65_537, EQUAL, "2300014302431312044300432322102134023201014202412213042044012342"),
        (1009, WEIGHTS, "0320123433241024201243424440442221144044242241413044314104001021"),
    ];
    for (size, weights, expected) in cases {
        let table = Maglev::new(size, &entries(weights));
        assert_eq!(all(|key| table.choose(key, 0), one), expected, "{size}");
    }
}

#[test]
fn several_values_as_envoy_hashes_them() {
    let ring = ring(1024, 8 << 20, HashFunction::XxHash, EQUAL);
    // A header with two values, which are sorted before.
    let values = |number: usize| hash_all([format!("a{number}").as_bytes(), format!("key-{number}").as_bytes()]);
    let expected = "0322203121444330214030340342003434000244030110032433111030143410";
    assert_eq!(all(|key| ring.choose(key, 0), values), expected);
    // Two hash policies.
    let policies = |number: usize| one(number).rotate_left(1) ^ hash(format!("o{number}").as_bytes());
    let expected = "0241130223330123424443003422031412242304023320210233004403002440";
    assert_eq!(all(|key| ring.choose(key, 0), policies), expected);
}

#[test]
fn no_hosts() {
    assert_eq!(Ring::new(&RingHash::default(), &[]).choose(7, 0), None);
    assert_eq!(Maglev::new(1009, &[]).choose(7, 1), None);
}

#[test]
fn another_attempt_finds_another_host() {
    let entries = entries(EQUAL);
    let ring = Ring::new(&RingHash::default(), &entries);
    let table = Maglev::new(65_537, &entries);
    for number in 0..64 {
        let key = one(number);
        assert!((1..20).any(|attempt| ring.choose(key, attempt) != ring.choose(key, 0)));
        assert!((1..20).any(|attempt| table.choose(key, attempt) != table.choose(key, 0)));
    }
}

proptest! {
    #[test]
    fn a_removed_host_moves_only_its_own_keys_on_the_ring(gone in 0..5usize, key in any::<u64>()) {
        let five = Ring::new(&RingHash { min_size: 1000, ..RingHash::default() }, &entries(EQUAL));
        let rest: Vec<Entry<'_>> = NAMES
            .iter()
            .enumerate()
            .filter(|(host, _)| *host != gone)
            .map(|(_, key)| Entry { key, share: 0.25 })
            .collect();
        // As many points for each host as before.
        let four = Ring::new(&RingHash { min_size: 800, ..RingHash::default() }, &rest);
        let before = five.choose(key, 0).unwrap();
        if before != gone {
            prop_assert_eq!(rest[four.choose(key, 0).unwrap()].key, NAMES[before]);
        }
    }

    #[test]
    fn tables_follow_the_shares(weights in [1..6u32, 1..6, 1..6, 1..6, 1..6]) {
        let table = Maglev::new(1009, &entries(weights));
        let total: u32 = weights.iter().sum();
        let mut counts = [0f64; 5];
        for place in 0..1009 {
            counts[table.choose(place, 0).unwrap()] += 1.0;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let fair = 1009.0 * f64::from(weight) / f64::from(total);
            prop_assert!((count - fair).abs() < 6.0, "{counts:?} of {weights:?}");
        }
    }

    #[test]
    fn no_host_exceeds_the_bound_while_another_is_below(
        active in proptest::collection::vec(0..20u32, 2..9),
        first in 0..9usize,
        key in any::<u64>(),
    ) {
        let count = active.len();
        let first = first % count;
        let bounded = Bounded::new(125, vec![1.0 / count as f64; count]);
        let chosen = bounded.choose(first, key, |host| active[host]);
        prop_assert_eq!(chosen, bounded.choose(first, key, |host| active[host]));
        let total: u32 = active.iter().sum();
        let slots = (f64::from((total + 1) * 125).div_euclid(100.0).ceil() / count as f64).ceil() + 1.0;
        prop_assert!(f64::from(active[chosen]) <= slots, "{} of {:?}", active[chosen], active);
    }
}
