//! Random numbers that are a pure function of a seed and a place.

/// 64 random bits for a place.
pub(crate) fn draw(seed: u64, place: usize) -> u64 {
    mix(seed.wrapping_add((place as u64).wrapping_mul(GOLDEN)))
}

/// 2^64 divided by the golden ratio: SplitMix64's increment.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function (Steele, Lea and Flood 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
