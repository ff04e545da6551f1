//! Stored numbers: single or half precision.

use super::simd::{LANES, Simd, dispatch};

/// A number in half precision, little-endian.
pub type F16 = [u8; 2];

/// A number in its stored precision.
pub trait Number: Copy {
    /// Loads the first sixteen numbers.
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::V;
    fn to_f32(self) -> f32;
}

impl Number for f32 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::V {
        simd.load(from)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Number for F16 {
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self]) -> S::V {
        simd.f16(from.as_flattened())
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        half::f16::from_le_bytes(self).to_f32()
    }
}

dispatch! {
    /// Rounds numbers to half precision, and writes them `step` places apart.
    pub fn halve(from: &[f32], to: &mut [F16], step: usize) = halve_with
}

#[inline(always)]
fn halve_with<S: Simd>(simd: S, from: &[f32], to: &mut [F16], step: usize) {
    for (index, from) in from.chunks(LANES).enumerate() {
        let (mut lanes, mut halved) = ([0.0; LANES], [0; 2 * LANES]);
        lanes[..from.len()].copy_from_slice(from);
        simd.to_f16(simd.load(&lanes), &mut halved);
        let to = to[index * LANES * step..].iter_mut().step_by(step);
        to.zip(halved.as_chunks::<2>().0).take(from.len()).for_each(|(to, number)| *to = *number);
    }
}
