//! Vectors of sixteen `f32`, whatever the processor.
//!
//! Every kernel is written once over [`Simd`] and compiled for each instruction set; [`dispatch!`] picks one at run time.
//! A vector has sixteen lanes everywhere (AVX2 and the portable code hold it in several registers), so the order in
//! which a kernel adds does not depend on the processor.

use std::sync::OnceLock;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// An instruction set. A value of an implementing type is the proof that this processor has it.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32`.
    type V: Copy;

    /// How many rows of a product's tile fit the registers.
    const TILE_ROWS: usize;
    /// How many vectors wide that tile is.
    const TILE_VECTORS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// The first sixteen elements.
    ///
    /// # Panics
    /// When there are fewer.
    fn load(self, from: &[f32]) -> Self::V;
    /// Writes the first sixteen elements.
    ///
    /// # Panics
    /// When there are fewer.
    fn store(self, v: Self::V, to: &mut [f32]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^a` for integers `a` in `-126..=127`.
    fn pow2(self, a: Self::V) -> Self::V;
    /// `v`, and zero in the lanes where `x < limit`.
    fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V;
    /// The lanes as an array.
    fn lanes(self, v: Self::V) -> [f32; LANES];

    /// `e^x`, and 0 where that is below the smallest normal number. The relative error is under 2e-7.
    ///
    /// Source: the range reduction and polynomial of Cephes' `expf` (Moshier).
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        let clamped = self.min(self.max(x, self.splat(MIN_EXP)), self.splat(88.3));
        let n = self.round(self.mul(clamped, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fma(n, self.splat(-0.693_359_4), clamped);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let y = self.add(self.fma(self.mul(r, r), p, r), self.splat(1.0));
        self.zero_below(self.mul(y, self.pow2(n)), x, MIN_EXP)
    }

    /// Lane `j` of vector `i` becomes lane `i` of vector `j`.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let rows = rows.map(|row| self.lanes(row));
        std::array::from_fn(|column| self.load(&rows.map(|row| row[column])))
    }

    /// The sum of the lanes, halves first.
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        halves(self.lanes(v), |a, b| a + b)
    }

    /// The largest lane.
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        halves(self.lanes(v), f32::max)
    }
}

/// Below this, [`Simd::exp`] gives 0.
const MIN_EXP: f32 = -87.3;

#[inline(always)]
fn halves(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
    }
    lanes[0]
}

/// Any processor: arrays that the compiler turns into what the target has.
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
        // A fused multiply-add is a library call on a processor that has none; arm64 always has it.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // Adding and subtracting 1.5 · 2^23 leaves no fraction bits.
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
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Simd};
    use std::arch::x86_64::*;

    /// AVX-512 foundation.
    #[derive(Clone, Copy, Debug)]
    pub struct Avx512(());

    /// AVX2 with fused multiply-add: a vector is two registers.
    #[derive(Clone, Copy, Debug)]
    pub struct Avx2(());

    impl Avx512 {
        pub fn detect() -> Option<Self> {
            (!cfg!(miri) && is_x86_feature_detected!("avx512f")).then_some(Self(()))
        }
    }

    impl Avx2 {
        pub fn detect() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            (!cfg!(miri) && found).then_some(Self(()))
        }
    }

    impl Avx2 {
        /// Eight registers of eight.
        #[inline(always)]
        fn transpose_eight(self, r: [__m256; 8]) -> [__m256; 8] {
            use std::array::from_fn;
            // SAFETY: `self` proves the instruction set. The steps exchange within pairs of rows, within fours, and then
            // whole halves of the registers.
            unsafe {
                let pairs: [__m256; 8] = from_fn(|i| match i % 2 {
                    0 => _mm256_unpacklo_ps(r[i], r[i + 1]),
                    _ => _mm256_unpackhi_ps(r[i - 1], r[i]),
                });
                let fours: [__m256; 8] = from_fn(|i| {
                    let (a, b) = (pairs[i / 4 * 4 + i % 4 / 2], pairs[i / 4 * 4 + i % 4 / 2 + 2]);
                    if i % 2 == 0 { _mm256_shuffle_ps::<0x44>(a, b) } else { _mm256_shuffle_ps::<0xEE>(a, b) }
                });
                from_fn(|i| match i / 4 {
                    0 => _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]),
                    _ => _mm256_permute2f128_ps::<0x31>(fours[i - 4], fours[i]),
                })
            }
        }
    }

    /// Implements the arithmetic of [`Simd`] by one intrinsic each.
    macro_rules! by_intrinsic {
        ($($name:ident($($arg:ident),*) = $intrinsic:ident;)*) => {
            $(
                #[inline(always)]
                fn $name(self, $($arg: Self::V),*) -> Self::V {
                    // SAFETY: a value of this type exists only after the processor was found to have the instruction set.
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
            // SAFETY: as above, the value `self` proves the instruction set.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        fn load(self, from: &[f32]) -> Self::V {
            assert!(from.len() >= LANES, "load: fewer than sixteen elements");
            // SAFETY: sixteen elements are there; the load needs no alignment.
            unsafe { _mm512_loadu_ps(from.as_ptr()) }
        }
        #[inline(always)]
        fn store(self, v: Self::V, to: &mut [f32]) {
            assert!(to.len() >= LANES, "store: fewer than sixteen elements");
            // SAFETY: sixteen elements are there and ours alone; the store needs no alignment.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
        }
        #[inline(always)]
        fn round(self, a: Self::V) -> Self::V {
            // SAFETY: `self` proves the instruction set.
            unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
        }
        #[inline(always)]
        fn pow2(self, a: Self::V) -> Self::V {
            // SAFETY: `self` proves the instruction set.
            unsafe {
                let biased = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
            }
        }
        #[inline(always)]
        fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V {
            // SAFETY: `self` proves the instruction set.
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, _mm512_set1_ps(limit)), v) }
        }
        #[inline(always)]
        fn transpose(self, r: [Self::V; LANES]) -> [Self::V; LANES] {
            use std::array::from_fn;
            // SAFETY: `self` proves the instruction set. The three steps exchange within pairs of rows, within fours, and
            // then whole quarters of the registers.
            unsafe {
                let pairs: [__m512; 16] = from_fn(|i| match i % 2 {
                    0 => _mm512_unpacklo_ps(r[i], r[i + 1]),
                    _ => _mm512_unpackhi_ps(r[i - 1], r[i]),
                });
                // Vector 4q + c: columns c, c + 4, c + 8, c + 12 of rows 4q..4q + 4.
                let fours: [__m512; 16] = from_fn(|i| {
                    let (q, c) = (i / 4 * 4, i % 4);
                    let (a, b) = (_mm512_castps_pd(pairs[q + c / 2]), _mm512_castps_pd(pairs[q + c / 2 + 2]));
                    _mm512_castpd_ps(if c % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
                });
                // Vectors c: quarters 0 and 2 of row groups 0 and 1 …; then the same across.
                let low: [__m512; 8] = from_fn(|i| {
                    let (half, c) = (i / 4 * 8, i % 4);
                    _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[half + c], fours[half + c + 4])
                });
                let high: [__m512; 8] = from_fn(|i| {
                    let (half, c) = (i / 4 * 8, i % 4);
                    _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[half + c], fours[half + c + 4])
                });
                from_fn(|column| {
                    let c = column % 4;
                    match column / 4 {
                        0 => _mm512_shuffle_f32x4::<0b10_00_10_00>(low[c], low[c + 4]),
                        1 => _mm512_shuffle_f32x4::<0b10_00_10_00>(high[c], high[c + 4]),
                        2 => _mm512_shuffle_f32x4::<0b11_01_11_01>(low[c], low[c + 4]),
                        _ => _mm512_shuffle_f32x4::<0b11_01_11_01>(high[c], high[c + 4]),
                    }
                })
            }
        }
        #[inline(always)]
        fn lanes(self, v: Self::V) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            self.store(v, &mut lanes);
            lanes
        }
    }

    /// As `by_intrinsic`, for each of the two registers.
    macro_rules! by_halves {
        ($($name:ident($($arg:ident),*) = $intrinsic:ident;)*) => {
            $(
                #[inline(always)]
                fn $name(self, $($arg: Self::V),*) -> Self::V {
                    // SAFETY: a value of this type exists only after the processor was found to have the instruction set.
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
            // SAFETY: `self` proves the instruction set.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        fn load(self, from: &[f32]) -> Self::V {
            assert!(from.len() >= LANES, "load: fewer than sixteen elements");
            // SAFETY: sixteen elements are there; the loads need no alignment.
            unsafe { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
        }
        #[inline(always)]
        fn store(self, v: Self::V, to: &mut [f32]) {
            assert!(to.len() >= LANES, "store: fewer than sixteen elements");
            // SAFETY: sixteen elements are there and ours alone; the stores need no alignment.
            unsafe {
                _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
                _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
            }
        }
        #[inline(always)]
        fn round(self, a: Self::V) -> Self::V {
            // SAFETY: `self` proves the instruction set.
            a.map(|a| unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) })
        }
        #[inline(always)]
        fn pow2(self, a: Self::V) -> Self::V {
            // SAFETY: `self` proves the instruction set.
            a.map(|a| unsafe {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            })
        }
        #[inline(always)]
        fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V {
            // SAFETY: `self` proves the instruction set.
            std::array::from_fn(|i| unsafe {
                _mm256_and_ps(v[i], _mm256_cmp_ps::<_CMP_NLT_UQ>(x[i], _mm256_set1_ps(limit)))
            })
        }
        #[inline(always)]
        fn transpose(self, r: [Self::V; LANES]) -> [Self::V; LANES] {
            use std::array::from_fn;
            // Block (i, j): rows 8i to 8i + 8, of each the register j.
            let block = |i: usize, j: usize| self.transpose_eight(from_fn(|row| r[8 * i + row][j]));
            let blocks = [[block(0, 0), block(0, 1)], [block(1, 0), block(1, 1)]];
            from_fn(|column| [blocks[0][column / 8][column % 8], blocks[1][column / 8][column % 8]])
        }
        #[inline(always)]
        fn lanes(self, v: Self::V) -> [f32; LANES] {
            let mut lanes = [0.0; LANES];
            self.store(v, &mut lanes);
            lanes
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// Asks for memory that will be read soon, a line at a time.
#[inline(always)]
pub fn prefetch(data: &[f32]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in data.chunks(LANES) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and it changes nothing that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = data;
}

/// What this processor has.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Level {
    /// Everything that this processor can run, the best first.
    pub fn all() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx512::detect().map(Self::Avx512));
            levels.extend(Avx2::detect().map(Self::Avx2));
        }
        levels.push(Self::Portable(Portable));
        levels
    }

    /// The best that this processor can run; found once.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::all()[0])
    }

    /// Rows of a tile that divide a block: fewer than [`tile_rows`](Self::tile_rows), at nearly the same speed.
    pub fn even_tile_rows(self) -> usize {
        if self.tile_rows() >= 8 { 8 } else { 4 }
    }

    /// Rows of a product's tile: [`Simd::TILE_ROWS`].
    pub fn tile_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::TILE_ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::TILE_ROWS,
            Self::Portable(_) => Portable::TILE_ROWS,
        }
    }
}

/// Defines a function that runs `$generic` (an `#[inline(always)]` function whose first argument is a [`Simd`]) compiled
/// for the given [`Level`].
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $generic:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(level: $crate::cpu::simd::Level, $($arg: $ty),*) $(-> $ret)? {
            use $crate::cpu::simd::Level;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            fn avx512(simd: $crate::cpu::simd::Avx512, $($arg: $ty),*) $(-> $ret)? {
                $generic(simd, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2(simd: $crate::cpu::simd::Avx2, $($arg: $ty),*) $(-> $ret)? {
                $generic(simd, $($arg),*)
            }
            match level {
                // SAFETY: the value in the level is the proof that the processor has the instruction set.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(simd) => unsafe { avx512(simd, $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(simd) => unsafe { avx2(simd, $($arg),*) },
                Level::Portable(simd) => $generic(simd, $($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;
