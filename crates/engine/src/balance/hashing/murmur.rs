//! MurmurHash2 for 64 bits (MurmurHash64A, Austin Appleby, public domain).

const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;
/// The seed of libstdc++'s `std::hash`, which Envoy uses.
const SEED: u64 = 0xc70f_6907;

pub(super) fn murmur2(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = fold(u64::from_le_bytes(*word).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
        hash = (hash ^ mixed).wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(MULTIPLIER);
    }
    fold(fold(hash).wrapping_mul(MULTIPLIER))
}

fn fold(value: u64) -> u64 {
    value ^ (value >> 47)
}
