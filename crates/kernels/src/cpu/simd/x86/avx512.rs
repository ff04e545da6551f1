//! AVX-512: a vector is one register.

use std::arch::x86_64::*;

use crate::cpu::simd::{LANES, Simd};

/// AVX-512 Foundation.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Self> {
        (!cfg!(miri) && is_x86_feature_detected!("avx512f")).then_some(Self(()))
    }

    /// For each of sixteen 32-bit numbers: shifted right by `shift`, then masked with `mask`.
    #[inline(always)]
    fn shifted(self, from: &[u8], shift: u32, mask: u32) -> __m512i {
        assert!(from.len() >= 4 * LANES, "bits: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that 64 bytes can be read from `from`; the load needs no alignment. `self`
        // exists only if the processor has AVX-512.
        unsafe {
            let numbers = _mm512_loadu_si512(from.as_ptr().cast());
            let shifted = _mm512_srl_epi32(numbers, _mm_cvtsi32_si128(shift.cast_signed()));
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask.cast_signed()))
        }
    }
}

/// A mask of the first lanes, at most all.
#[inline(always)]
fn first(lanes: usize) -> __mmask16 {
    ((1u32 << lanes.min(LANES)) - 1) as __mmask16
}

/// Implements the arithmetic of [`Simd`] with one intrinsic per function.
macro_rules! by_intrinsic {
    ($($name:ident($($arg:ident),*) = $intrinsic:ident;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::V),*) -> Self::V {
                // SAFETY: a value of this type exists only if the processor has AVX-512. The intrinsic accesses no
                // memory.
                unsafe { $intrinsic($($arg),*) }
            }
        )*
    };
}

impl Simd for Avx512 {
    type V = __m512;
    const TILE_ROWS: usize = 14;
    const TILE_VECTORS: usize = 2;

    by_intrinsic! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        max(a, b) = _mm512_max_ps;
        min(a, b) = _mm512_min_ps;
        fma(a, b, c) = _mm512_fmadd_ps;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsic accesses no memory.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        assert!(from.len() >= LANES, "load: fewer than sixteen elements");
        // SAFETY: the assertion ensures that `from` has sixteen elements; the load needs no alignment. `self` exists
        // only if the processor has AVX-512.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32]) {
        assert!(to.len() >= LANES, "store: fewer than sixteen elements");
        // SAFETY: the assertion ensures that `to` has sixteen elements, and `&mut` gives this function exclusive access
        // to them; the store needs no alignment. `self` exists only if the processor has AVX-512.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_some(self, from: &[f32]) -> Self::V {
        // SAFETY: the mask has a bit for each element of `from`, at most sixteen; the load reads no other, and needs no
        // alignment. `self` exists only if the processor has AVX-512.
        unsafe { _mm512_maskz_loadu_ps(first(from.len()), from.as_ptr()) }
    }
    #[inline(always)]
    fn store_some(self, v: Self::V, to: &mut [f32]) {
        // SAFETY: the mask has a bit for each element of `to`, at most sixteen; the store writes no other, needs no
        // alignment, and `&mut` gives this function exclusive access. `self` exists only if the processor has AVX-512.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), v) }
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsic accesses no memory.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn pow2(self, a: Self::V) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsics access no memory.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsics access no memory.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(limit)), v) }
    }
    #[inline(always)]
    fn transpose(self, r: [Self::V; LANES]) -> [Self::V; LANES] {
        // Loops, not closures: the compiler may leave a closure out of the code that it compiles for the instruction set.
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsics access no memory. The three steps
        // exchange numbers within pairs of rows, then within fours, then whole quarters of the registers.
        unsafe {
            let mut pairs = r;
            for i in (0..LANES).step_by(2) {
                pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
            }
            // Vector 4q + c: columns c, c + 4, c + 8, c + 12 of rows 4q..4q + 4.
            let mut fours = r;
            for (i, four) in fours.iter_mut().enumerate() {
                let (q, c) = (i / 4 * 4, i % 4);
                let (a, b) = (_mm512_castps_pd(pairs[q + c / 2]), _mm512_castps_pd(pairs[q + c / 2 + 2]));
                *four = _mm512_castpd_ps(if c % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) });
            }
            // Vector c: quarters 0 and 2 of row groups 0 and 1, and so on; then the same across.
            let (mut low, mut high) = (r, r);
            for i in 0..8 {
                let (half, c) = (i / 4 * 8, i % 4);
                low[i] = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[half + c], fours[half + c + 4]);
                high[i] = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[half + c], fours[half + c + 4]);
            }
            let mut columns = r;
            for c in 0..4 {
                columns[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low[c], low[c + 4]);
                columns[c + 4] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high[c], high[c + 4]);
                columns[c + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low[c], low[c + 4]);
                columns[c + 12] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high[c], high[c + 4]);
            }
            columns
        }
    }
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes
    }
    #[inline(always)]
    fn bits(self, from: &[u8], shift: u32, mask: u32) -> Self::V {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsic accesses no memory.
        unsafe { _mm512_cvtepi32_ps(self.shifted(from, shift, mask)) }
    }
    #[inline(always)]
    fn pick(self, table: &[f32; LANES], from: &[u8], shift: u32) -> Self::V {
        // SAFETY: `self` proves the instruction set.
        unsafe { _mm512_permutexvar_ps(self.shifted(from, shift, 15), self.load(table)) }
    }
    #[inline(always)]
    fn f16(self, from: &[u8]) -> Self::V {
        assert!(from.len() >= 2 * LANES, "f16: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `from` has 32 bytes; the load needs no alignment. `self` exists only if
        // the processor has AVX-512.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn to_f16(self, v: Self::V, to: &mut [u8; 2 * LANES]) {
        // SAFETY: `to` is an array of 32 bytes, and `&mut` gives this function exclusive access to them; the store
        // needs no alignment. `self` exists only if the processor has AVX-512.
        unsafe {
            let numbers = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
            _mm256_storeu_si256(to.as_mut_ptr().cast(), numbers);
        }
    }
    #[inline(always)]
    fn bf16(self, from: &[u8]) -> Self::V {
        assert!(from.len() >= 2 * LANES, "bf16: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `from` has 32 bytes; the load needs no alignment. `self` exists only if
        // the processor has AVX-512.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn bf16_pair(self, words: Self::V) -> [Self::V; 2] {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsics access no memory.
        unsafe {
            let bits = _mm512_castps_si512(words);
            let high = _mm512_and_si512(bits, _mm512_set1_epi32(!0xffff));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(high)]
        }
    }
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        // SAFETY: `self` exists only if the processor has AVX-512. The intrinsic accesses no memory.
        unsafe { _mm512_reduce_max_ps(v) }
    }
    #[inline(always)]
    fn to_i8(self, v: Self::V, to: &mut [i32]) -> i32 {
        assert!(to.len() >= 4, "to_i8: room for fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `to` has sixteen bytes, and `&mut` gives this function exclusive access to
        // them; the store needs no alignment. `self` exists only if the processor has AVX-512.
        unsafe {
            let numbers = _mm512_cvtps_epi32(v);
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(numbers));
            _mm512_reduce_add_epi32(numbers)
        }
    }
    #[inline(always)]
    fn i8(self, from: &[u8]) -> Self::V {
        assert!(from.len() >= LANES, "i8: fewer than sixteen numbers");
        // SAFETY: the assertion ensures that `from` has sixteen bytes; the load needs no alignment. `self` exists only
        // if the processor has AVX-512.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }
}
