//! Integer dot products of the x86-64 instruction sets.

use std::arch::x86_64::*;

use super::Dots;
use crate::cpu::simd::{Avx2, Avx512, Simd};

/// AVX-512 with integer dot products (VNNI).
#[derive(Clone, Copy, Debug)]
pub struct Vnni(Avx512);

impl Vnni {
    pub fn detect(simd: Avx512) -> Option<Self> {
        let found = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
        found.then_some(Self(simd))
    }
}

impl Dots for Vnni {
    type Simd = Avx512;
    type Numbers = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn numbers(self, from: &[u8], shift: u32, mask: u8) -> __m512i {
        assert!(from.len() >= 64, "numbers: fewer than 64 bytes");
        // SAFETY: the assertion ensures that 64 bytes can be read from `from`; the load needs no alignment. `self`
        // exists only if the processor has AVX-512 VNNI.
        unsafe {
            let bytes = _mm512_loadu_si512(from.as_ptr().cast());
            let shifted = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift.cast_signed()));
            _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
        }
    }
    #[inline(always)]
    fn join(self, low: __m512i, high: __m512i, shift: u32) -> __m512i {
        // SAFETY: `self` exists only if the processor has the instruction sets. The intrinsics access no memory.
        unsafe { _mm512_or_si512(low, _mm512_sll_epi32(high, _mm_cvtsi32_si128(shift.cast_signed()))) }
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: `self` exists only if the processor has the instruction sets. The intrinsic accesses no memory.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    fn dot(self, sums: __m512i, numbers: __m512i, x: i32) -> __m512i {
        // SAFETY: `self` exists only if the processor has the instruction sets. The intrinsics access no memory.
        unsafe { _mm512_dpbusd_epi32(sums, numbers, _mm512_set1_epi32(x)) }
    }
    #[inline(always)]
    fn float(self, sums: __m512i) -> <Avx512 as Simd>::V {
        // SAFETY: `self` exists only if the processor has the instruction sets. The intrinsic accesses no memory.
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

/// AVX2 without integer dot products: it multiplies bytes and adds pairs of products in sixteen bits.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(Avx2);

/// AVX2 with integer dot products (AVX-VNNI).
#[derive(Clone, Copy, Debug)]
pub struct AvxVnni(Avx2);

impl Bytes {
    pub fn new(simd: Avx2) -> Self {
        Self(simd)
    }
}

impl AvxVnni {
    pub fn detect(simd: Avx2) -> Option<Self> {
        is_x86_feature_detected!("avxvnni").then_some(Self(simd))
    }
}

type Pair = [__m256i; 2];

/// The functions that both kinds of AVX2 share: all except the products.
macro_rules! by_pairs {
    () => {
        type Simd = Avx2;
        type Numbers = Pair;
        type Sums = Pair;

        #[inline(always)]
        fn simd(self) -> Avx2 {
            self.0
        }
        #[inline(always)]
        fn numbers(self, from: &[u8], shift: u32, mask: u8) -> Pair {
            assert!(from.len() >= 64, "numbers: fewer than 64 bytes");
            // SAFETY: the assertion ensures that 64 bytes can be read from `from`; the loads need no alignment. `self`
            // exists only if the processor has AVX2.
            unsafe {
                let shift = _mm_cvtsi32_si128(shift.cast_signed());
                let mask = _mm256_set1_epi8(mask.cast_signed());
                let low = _mm256_srl_epi32(_mm256_loadu_si256(from.as_ptr().cast()), shift);
                let high = _mm256_srl_epi32(_mm256_loadu_si256(from.as_ptr().add(32).cast()), shift);
                [_mm256_and_si256(low, mask), _mm256_and_si256(high, mask)]
            }
        }
        #[inline(always)]
        fn join(self, low: Pair, high: Pair, shift: u32) -> Pair {
            // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory.
            unsafe {
                let shift = _mm_cvtsi32_si128(shift.cast_signed());
                [
                    _mm256_or_si256(low[0], _mm256_sll_epi32(high[0], shift)),
                    _mm256_or_si256(low[1], _mm256_sll_epi32(high[1], shift)),
                ]
            }
        }
        #[inline(always)]
        fn zero(self) -> Pair {
            // SAFETY: `self` exists only if the processor has AVX2. The intrinsic accesses no memory.
            unsafe { [_mm256_setzero_si256(); 2] }
        }
        #[inline(always)]
        fn float(self, sums: Pair) -> <Avx2 as Simd>::V {
            // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory.
            unsafe { [_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])] }
        }
    };
}

impl Dots for AvxVnni {
    by_pairs!();

    #[inline(always)]
    fn dot(self, sums: Pair, numbers: Pair, x: i32) -> Pair {
        // SAFETY: `self` exists only if the processor has AVX-VNNI. The intrinsics access no memory.
        unsafe {
            let x = _mm256_set1_epi32(x);
            [_mm256_dpbusd_avx_epi32(sums[0], numbers[0], x), _mm256_dpbusd_avx_epi32(sums[1], numbers[1], x)]
        }
    }
}

impl Dots for Bytes {
    by_pairs!();

    #[inline(always)]
    fn dot(self, sums: Pair, numbers: Pair, x: i32) -> Pair {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory. The result is exact: a
        // number below 128 times one from -127 to 127, twice, fits in sixteen bits.
        unsafe {
            let (x, ones) = (_mm256_set1_epi32(x), _mm256_set1_epi16(1));
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(numbers[0], x), ones);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(numbers[1], x), ones);
            [_mm256_add_epi32(sums[0], low), _mm256_add_epi32(sums[1], high)]
        }
    }
    #[inline(always)]
    fn dot_wide(self, sums: Pair, numbers: Pair, x: i32) -> Pair {
        // SAFETY: `self` exists only if the processor has AVX2. The intrinsics access no memory. Each number is split
        // into its lower and upper four bits; the products of the upper ones are multiplied by sixteen.
        unsafe {
            let (x, ones, sixteens) = (_mm256_set1_epi32(x), _mm256_set1_epi16(1), _mm256_set1_epi16(16));
            let four = _mm256_set1_epi8(15);
            let mut sums = sums;
            for i in 0..2 {
                let low = _mm256_and_si256(numbers[i], four);
                let high = _mm256_and_si256(_mm256_srli_epi32::<4>(numbers[i]), four);
                let low = _mm256_madd_epi16(_mm256_maddubs_epi16(low, x), ones);
                let high = _mm256_madd_epi16(_mm256_maddubs_epi16(high, x), sixteens);
                sums[i] = _mm256_add_epi32(sums[i], _mm256_add_epi32(low, high));
            }
            sums
        }
    }
}
