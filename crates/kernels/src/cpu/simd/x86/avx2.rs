//! AVX2: a vector is two registers.

use std::arch::x86_64::*;

use crate::cpu::simd::{LANES, Simd};

/// AVX2 with fused multiply-add and half-precision conversion: a vector is two registers.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        let found =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        (!cfg!(miri) && found).then_some(Self(()))
    }

    /// For each of sixteen 32-bit numbers: shifted right by `shift`, then masked with `mask`.
    #[inline(always)]
    fn shifted(self, from: &[u8], shift: u32, mask: u32) -> [__m256i; 2] {
        assert!(from.len() >= 4 * LANES, "bits: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that 64 bytes can be read from `from`; the loads need no alignment. `self`
        // exists only if the processor has AVX2.
        std::array::from_fn(|i| unsafe {
            let numbers = _mm256_loadu_si256(from.as_ptr().add(32 * i).cast());
            let shifted = _mm256_srl_epi32(numbers, _mm_cvtsi32_si128(shift.cast_signed()));
            _mm256_and_si256(shifted, _mm256_set1_epi32(mask.cast_signed()))
        })
    }

    /// Transposes eight registers of eight numbers.
    #[inline(always)]
    fn transpose_eight(self, r: [__m256; 8]) -> [__m256; 8] {
        // Loops, not closures: the compiler may leave a closure out of the code that it compiles for the instruction set.
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory. The steps exchange
        // numbers within pairs of rows, then within fours, then whole halves of the registers.
        unsafe {
            let (mut pairs, mut fours, mut columns) = (r, r, r);
            for i in (0..8).step_by(2) {
                pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
                pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
            }
            for i in 0..8 {
                let (a, b) = (pairs[i / 4 * 4 + i % 4 / 2], pairs[i / 4 * 4 + i % 4 / 2 + 2]);
                fours[i] = if i % 2 == 0 { _mm256_shuffle_ps::<0x44>(a, b) } else { _mm256_shuffle_ps::<0xEE>(a, b) };
            }
            for i in 0..4 {
                columns[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
                columns[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
            }
            columns
        }
    }
}

/// Implements the arithmetic of [`Simd`] with one intrinsic per function, applied to both registers.
macro_rules! by_halves {
    ($($name:ident($($arg:ident),*) = $intrinsic:ident;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::V),*) -> Self::V {
                // SAFETY: a value of this type exists only if the processor has AVX2. The intrinsic accesses no memory.
                unsafe { [$intrinsic($($arg[0]),*), $intrinsic($($arg[1]),*)] }
            }
        )*
    };
}

impl Simd for Avx2 {
    type V = [__m256; 2];
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    by_halves! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        max(a, b) = _mm256_max_ps;
        min(a, b) = _mm256_min_ps;
        fma(a, b, c) = _mm256_fmadd_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsic accesses no memory.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        assert!(from.len() >= LANES, "load: fewer than sixteen elements");
        // SAFETY: the assertion ensures that `from` has sixteen elements; the loads need no alignment. `self` exists
        // only if the processor has AVX2.
        unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32]) {
        assert!(to.len() >= LANES, "store: fewer than sixteen elements");
        // SAFETY: the assertion ensures that `to` has sixteen elements, and `&mut` gives this function exclusive access
        // to them; the stores need no alignment. `self` exists only if the processor has AVX2.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        }
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsic accesses no memory.
        a.map(|a| unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) })
    }
    #[inline(always)]
    fn pow2(self, a: Self::V) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory.
        a.map(|a| unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        })
    }
    #[inline(always)]
    fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory.
        std::array::from_fn(|i| unsafe {
            _mm256_and_ps(v[i], _mm256_cmp_ps::<_CMP_NLT_UQ>(x[i], _mm256_set1_ps(limit)))
        })
    }
    #[inline(always)]
    fn transpose(self, r: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut columns = r;
        for i in 0..2 {
            for j in 0..2 {
                // Block (i, j): register j of the rows 8i to 8i + 7.
                let mut block = [r[0][0]; 8];
                for row in 0..8 {
                    block[row] = r[8 * i + row][j];
                }
                let turned = self.transpose_eight(block);
                for column in 0..8 {
                    columns[8 * j + column][i] = turned[column];
                }
            }
        }
        columns
    }
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes
    }
    #[inline(always)]
    fn bits(self, from: &[u8], shift: u32, mask: u32) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsic accesses no memory.
        self.shifted(from, shift, mask).map(|bits| unsafe { _mm256_cvtepi32_ps(bits) })
    }
    #[inline(always)]
    fn pick(self, table: &[f32; LANES], from: &[u8], shift: u32) -> Self::V {
        let [low, high] = self.load(table);
        // SAFETY: `self` exists only if the processor has AVX2. The permutations use the three lowest bits of each
        // index. The blend uses the fourth bit, shifted into the sign.
        self.shifted(from, shift, 15).map(|index| unsafe {
            let halves = (_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index));
            _mm256_blendv_ps(halves.0, halves.1, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
        })
    }
    #[inline(always)]
    fn f16(self, from: &[u8]) -> Self::V {
        assert!(from.len() >= 2 * LANES, "f16: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `from` has 32 bytes; the loads need no alignment. `self` exists only if
        // the processor has AVX2.
        std::array::from_fn(|i| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(16 * i).cast())) })
    }
    #[inline(always)]
    fn to_f16(self, v: Self::V, to: &mut [u8; 2 * LANES]) {
        for (v, to) in v.into_iter().zip(to.as_chunks_mut::<16>().0) {
            // SAFETY: `to` is an array of sixteen bytes, and `&mut` gives this function exclusive access to them; the
            // store needs no alignment. `self` exists only if the processor has AVX2.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) };
        }
    }
    #[inline(always)]
    fn bf16(self, from: &[u8]) -> Self::V {
        assert!(from.len() >= 2 * LANES, "bf16: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `from` has 32 bytes; the loads need no alignment. `self` exists only if
        // the processor has AVX2.
        std::array::from_fn(|i| unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(16 * i).cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        })
    }
    #[inline(always)]
    fn bf16_pair(self, words: Self::V) -> [Self::V; 2] {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory.
        let low = |i: usize| unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(words[i]))) };
        // SAFETY: as above.
        let high = |i: usize| unsafe {
            let mask = _mm256_set1_epi32(!0xffff);
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(words[i]), mask))
        };
        [[low(0), low(1)], [high(0), high(1)]]
    }
    #[inline(always)]
    fn i8(self, from: &[u8]) -> Self::V {
        assert!(from.len() >= LANES, "i8: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `from` has sixteen bytes; each load takes eight and needs no alignment.
        // `self` exists only if the processor has AVX2.
        std::array::from_fn(|i| unsafe {
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().add(8 * i).cast())))
        })
    }
}
