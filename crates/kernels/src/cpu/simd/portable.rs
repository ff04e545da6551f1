//! Vectors for any processor.

use super::{LANES, Simd};

/// Portable code: arrays that the compiler maps to the target's vectors.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Portable {
    #[inline(always)]
    fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
        std::array::from_fn(|i| f(a[i], b[i]))
    }
}

impl Simd for Portable {
    type V = [f32; LANES];
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        *from.first_chunk().expect("load: fewer than sixteen elements")
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32]) {
        *to.first_chunk_mut().expect("store: fewer than sixteen elements") = v;
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without a fused multiply-add instruction, `mul_add` is a library call. Every arm64 processor has the
        // instruction.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding and then subtracting 1.5 · 2^23 rounds away the fraction bits.
        const MAGIC: f32 = 12_582_912.0;
        a.map(|a| (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    fn pow2(self, a: Self::V) -> Self::V {
        a.map(|a| f32::from_bits(((a as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V {
        Self::zip(v, x, |v, x| if x < limit { 0.0 } else { v })
    }
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; LANES] {
        v
    }
    #[inline(always)]
    fn bits(self, from: &[u8], shift: u32, mask: u32) -> Self::V {
        words(from).map(|word| (word >> shift & mask) as f32)
    }
    #[inline(always)]
    fn pick(self, table: &[f32; LANES], from: &[u8], shift: u32) -> Self::V {
        words(from).map(|word| table[(word >> shift & 15) as usize])
    }
    #[inline(always)]
    fn f16(self, from: &[u8]) -> Self::V {
        pairs(from).map(|bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn bf16(self, from: &[u8]) -> Self::V {
        pairs(from).map(|bits| f32::from_bits(u32::from(bits) << 16))
    }
    #[inline(always)]
    fn bf16_pair(self, words: Self::V) -> [Self::V; 2] {
        [
            words.map(|word| f32::from_bits(word.to_bits() << 16)),
            words.map(|word| f32::from_bits(word.to_bits() & !0xffff)),
        ]
    }
    #[inline(always)]
    fn i8(self, from: &[u8]) -> Self::V {
        from.first_chunk::<LANES>().expect("i8: fewer than sixteen numbers").map(|byte| f32::from(byte.cast_signed()))
    }
}

#[inline(always)]
fn words(from: &[u8]) -> [u32; LANES] {
    let bytes: &[u8; 4 * LANES] = from.first_chunk().expect("bits: fewer than sixteen numbers");
    std::array::from_fn(|i| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]))
}

#[inline(always)]
fn pairs(from: &[u8]) -> [u16; LANES] {
    let bytes: &[u8; 2 * LANES] = from.first_chunk().expect("f16: fewer than sixteen numbers");
    std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
}
