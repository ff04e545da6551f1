//! Vectors of sixteen `f32`, whatever the processor.
//!
//! Every kernel is written once over [`Simd`] and compiled for each instruction set; [`dispatch!`] picks one at run time.
//! A vector has sixteen lanes everywhere (AVX2 and the portable code hold it in several registers), so the order in
//! which a kernel adds does not depend on the processor.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

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

    /// Of each of sixteen little-endian numbers of 32 bits, the bits from `shift` on that `mask` keeps.
    ///
    /// # Panics
    /// When there are fewer than 64 bytes; so do the next four with fewer than sixteen numbers.
    fn bits(self, from: &[u8], shift: u32, mask: u32) -> Self::V;
    /// As [`bits`](Self::bits) with four bits, each of which stands for an entry of the table.
    fn pick(self, table: &[f32; LANES], from: &[u8], shift: u32) -> Self::V;
    /// Sixteen IEEE 754 half-precision numbers, little-endian.
    fn f16(self, from: &[u8]) -> Self::V;
    /// The nearest half-precision numbers, as [`f16`](Self::f16) reads them.
    #[inline(always)]
    fn to_f16(self, v: Self::V, to: &mut [u8; 2 * LANES]) {
        for (to, lane) in to.as_chunks_mut::<2>().0.iter_mut().zip(self.lanes(v)) {
            *to = half::f16::from_f32(lane).to_le_bytes();
        }
    }
    /// Sixteen bfloat16 numbers, little-endian.
    fn bf16(self, from: &[u8]) -> Self::V;
    /// Rounds to signed bytes, four to a word, little-endian, and gives their sum. The lanes are within -128 and 127.
    #[inline(always)]
    fn to_i8(self, v: Self::V, to: &mut [i32]) -> i32 {
        let lanes = self.lanes(self.round(v));
        for (word, four) in to.iter_mut().zip(lanes.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(four.map(|lane| (lane as i8).cast_unsigned()));
        }
        lanes.iter().map(|&lane| lane as i32).sum()
    }
    /// Sixteen signed bytes.
    fn i8(self, from: &[u8]) -> Self::V;

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

/// Asks for memory that will be read soon, a line of 64 bytes at a time.
#[inline(always)]
pub fn prefetch<T>(data: &[T]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    prefetch_as::<T, { std::arch::x86_64::_MM_HINT_T1 }>(data);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = data;
}

/// Bytes ahead of what a stream of weights has come to that memory is asked for: the processor's own reading ahead ends with
/// each page.
const AHEAD: usize = 8 << 10;

/// As [`prefetch`], for a stream that has come to some of its bytes: asks for those that lie [`AHEAD`] of them, if there are any.
/// They will be read once, so what the caches hold is left where it is.
#[inline(always)]
pub fn prefetch_ahead(stream: &[u8], reached: std::ops::Range<usize>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(later) = stream.get(reached.start + AHEAD..reached.end + AHEAD) {
        prefetch_as::<u8, { std::arch::x86_64::_MM_HINT_NTA }>(later);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (stream, reached, AHEAD);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn prefetch_as<T, const HINT: i32>(data: &[T]) {
    for line in data.chunks(64 / size_of::<T>()) {
        // SAFETY: every x86-64 processor has the instruction, and it changes nothing that a program can see.
        unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(line.as_ptr().cast()) };
    }
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
            #[target_feature(enable = "avx2,fma,f16c")]
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
