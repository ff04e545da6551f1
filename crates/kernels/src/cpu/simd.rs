//! Vectors of sixteen `f32`, on any processor.
//!
//! Every kernel is written once, generic over [`Simd`], and compiled for each instruction set. [`dispatch!`] picks one
//! at run time. A vector always has sixteen lanes (AVX2 and the portable code use several registers), so the order of
//! additions in a kernel does not depend on the processor.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// Lanes of a vector.
pub const LANES: usize = 16;

/// An instruction set. A value of an implementing type exists only if this processor has the instruction set.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen `f32`.
    type V: Copy;

    /// The number of rows of a product's tile that fit in the registers.
    const TILE_ROWS: usize;
    /// The width of that tile, in vectors.
    const TILE_VECTORS: usize;

    /// A vector with `x` in all lanes.
    fn splat(self, x: f32) -> Self::V;
    /// Loads the first sixteen elements.
    ///
    /// # Panics
    /// When there are fewer.
    fn load(self, from: &[f32]) -> Self::V;
    /// Writes the first sixteen elements.
    ///
    /// # Panics
    /// When there are fewer.
    fn store(self, v: Self::V, to: &mut [f32]);
    /// Loads the first elements, at most sixteen; the other lanes are zero.
    #[inline(always)]
    fn load_some(self, from: &[f32]) -> Self::V {
        let mut lanes = [0.0; LANES];
        lanes.iter_mut().zip(from).for_each(|(lane, from)| *lane = *from);
        self.load(&lanes)
    }
    /// Writes the first elements, at most sixteen.
    #[inline(always)]
    fn store_some(self, v: Self::V, to: &mut [f32]) {
        to.iter_mut().zip(self.lanes(v)).for_each(|(to, lane)| *to = lane);
    }
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the processor can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Rounds to the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^a` for integers `a` in `-126..=127`.
    fn pow2(self, a: Self::V) -> Self::V;
    /// `v`, but zero in the lanes where `x < limit`.
    fn zero_below(self, v: Self::V, x: Self::V, limit: f32) -> Self::V;
    /// The lanes as an array.
    fn lanes(self, v: Self::V) -> [f32; LANES];

    /// For each of sixteen little-endian 32-bit numbers: shifted right by `shift`, then masked with `mask`.
    ///
    /// # Panics
    /// When there are fewer than 64 bytes. The next four functions panic when there are fewer than sixteen numbers.
    fn bits(self, from: &[u8], shift: u32, mask: u32) -> Self::V;
    /// As [`bits`](Self::bits) with a mask of four bits, each result replaced by the table's entry with that index.
    fn pick(self, table: &[f32; LANES], from: &[u8], shift: u32) -> Self::V;
    /// Loads sixteen IEEE 754 half-precision numbers, little-endian.
    fn f16(self, from: &[u8]) -> Self::V;
    /// Rounds to half precision and stores the result in the format that [`f16`](Self::f16) loads.
    #[inline(always)]
    fn to_f16(self, v: Self::V, to: &mut [u8; 2 * LANES]) {
        for (to, lane) in to.as_chunks_mut::<2>().0.iter_mut().zip(self.lanes(v)) {
            *to = half::f16::from_f32(lane).to_le_bytes();
        }
    }
    /// Loads sixteen bfloat16 numbers, little-endian.
    fn bf16(self, from: &[u8]) -> Self::V;
    /// The two bfloat16 numbers in the bits of each lane, the lower one first.
    fn bf16_pair(self, words: Self::V) -> [Self::V; 2];
    /// Rounds to signed bytes, stores them four to a word, little-endian, and returns their sum. The lanes must be
    /// within -128 and 127.
    #[inline(always)]
    fn to_i8(self, v: Self::V, to: &mut [i32]) -> i32 {
        let lanes = self.lanes(self.round(v));
        for (word, four) in to.iter_mut().zip(lanes.as_chunks::<4>().0) {
            *word = i32::from_le_bytes(four.map(|lane| (lane as i8).cast_unsigned()));
        }
        lanes.iter().map(|&lane| lane as i32).sum()
    }
    /// Loads sixteen signed bytes.
    fn i8(self, from: &[u8]) -> Self::V;

    /// `e^x`; 0 where the result would be below the smallest normal number. The relative error is under 2e-7.
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

    /// Transposes: lane `j` of vector `i` becomes lane `i` of vector `j`.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let rows = rows.map(|row| self.lanes(row));
        std::array::from_fn(|column| self.load(&rows.map(|row| row[column])))
    }

    /// The sum of the lanes; the two halves are added first, then the quarters, and so on.
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

/// For `x` below this, [`Simd::exp`] returns 0.
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

/// Prefetches memory that will be read soon, one cache line of 64 bytes at a time.
#[inline(always)]
pub fn prefetch<T>(data: &[T]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    prefetch_as::<T, { std::arch::x86_64::_MM_HINT_T1 }>(data);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = data;
}

/// How many bytes ahead of the current position a stream of weights is prefetched. The processor's own prefetcher stops
/// at each page.
const AHEAD: usize = 8 << 10;

/// As [`prefetch`], for a stream: given the bytes that are being read now, prefetches the bytes that come [`AHEAD`]
/// later, if there are any. They will be read only once, so the hint asks to leave the other contents of the caches in
/// place, where the processor can do so without waiting ([`streams_past_caches`]).
#[inline(always)]
pub fn prefetch_ahead(stream: &[u8], reached: std::ops::Range<usize>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(later) = stream.get(reached.start + AHEAD..reached.end + AHEAD) {
        if streams_past_caches() {
            prefetch_as::<u8, { std::arch::x86_64::_MM_HINT_NTA }>(later);
        } else {
            prefetch(later);
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (stream, reached, AHEAD);
}

/// Whether a stream is best prefetched past the caches. On AMD's processors that leaves the other caches their contents
/// and is 6% to 8% faster. On Intel's, such data goes to the first-level cache alone, whose few requests under way limit
/// the stream: into the second-level cache, decoding is 1.5 times as fast (docs/notebook.md).
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn streams_past_caches() -> bool {
    static AMD: OnceLock<bool> = OnceLock::new();
    *AMD.get_or_init(|| {
        let vendor = std::arch::x86_64::__cpuid(0);
        let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
        [b"AuthenticAMD", b"HygonGenuine"].contains(&name.as_flattened().as_array().expect("twelve bytes"))
    })
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn prefetch_as<T, const HINT: i32>(data: &[T]) {
    for line in data.chunks(64 / size_of::<T>()) {
        // SAFETY: every x86-64 processor has this instruction. It does not access memory in a way that a program can
        // observe, and it does not fault on any address.
        unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(line.as_ptr().cast()) };
    }
}

/// The best instruction set to use.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Level {
    /// All instruction sets that this processor has, the best first.
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

    /// The best instruction set that this processor has. It is detected once.
    pub fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| Self::all()[0])
    }

    /// Rows of a tile, such that tiles divide a block: fewer than [`tile_rows`](Self::tile_rows), at nearly the same
    /// speed.
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

/// Defines a function that calls `$generic` (an `#[inline(always)]` function whose first argument is a [`Simd`]),
/// compiled for the given [`Level`].
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
                // SAFETY: the value `simd` in the level exists only if the processor has AVX-512.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(simd) => unsafe { avx512(simd, $($arg),*) },
                // SAFETY: the value `simd` in the level exists only if the processor has AVX2, FMA and F16C.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(simd) => unsafe { avx2(simd, $($arg),*) },
                Level::Portable(simd) => $generic(simd, $($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;
