//! Products of few rows by integer dot products: the rows are rounded to eight bits, the weights are taken as they are.
//!
//! For decoding alone: the rounding is an error of its own, about a 250th of a group's largest element.

use super::matrix::{BLOCK, Blocks, Shape};
use super::simd::{LANES, Level, Portable, Simd, dispatch};
use crate::encoding::{Numbers, Offset};

/// Rows that one pass over a weight serves.
pub const ROWS: usize = 8;

/// Rows in eight bits, with a scale a group of 32: `x ≈ scale · number`.
#[derive(Debug)]
pub struct Rounded {
    /// Four numbers each, `[rows][in/4]`.
    words: Vec<i32>,
    /// `[rows][in/32]`
    scales: Vec<f32>,
    /// Sums of sixteen numbers, `[rows][in/16]`.
    sums: Vec<i32>,
    input: usize,
}

impl Rounded {
    /// Rounds rows of a multiple of 32 elements.
    pub fn new(level: Level, x: &[f32], input: usize) -> Self {
        let count = x.len();
        let (mut words, mut scales, mut sums) = (vec![0; count / 4], vec![0.0; count / BLOCK], vec![0; count / 16]);
        round(level, x, &mut words, &mut scales, &mut sums);
        Self { words, scales, sums, input }
    }
}

dispatch! {
    fn round(x: &[f32], words: &mut [i32], scales: &mut [f32], sums: &mut [i32]) = round_with
}

#[inline(always)]
fn round_with<S: Simd>(simd: S, x: &[f32], words: &mut [i32], scales: &mut [f32], sums: &mut [i32]) {
    let groups = words.chunks_exact_mut(8).zip(scales).zip(sums.chunks_exact_mut(2));
    for (x, ((words, scale), sums)) in x.chunks_exact(BLOCK).zip(groups) {
        let halves = [simd.load(x), simd.load(&x[LANES..])];
        let largest = simd.max(halves[0], halves[1]);
        let least = simd.min(halves[0], halves[1]);
        *scale = simd.max_lane(simd.max(largest, simd.sub(simd.splat(0.0), least))) / 127.0;
        let inverse = simd.splat(if *scale > 0.0 { 1.0 / *scale } else { 0.0 });
        for (half, (words, sum)) in halves.into_iter().zip(words.chunks_exact_mut(4).zip(sums)) {
            let numbers = simd.lanes(simd.round(simd.mul(half, inverse)));
            let mut bytes = [0; LANES];
            *sum = 0;
            for (byte, number) in bytes.iter_mut().zip(numbers) {
                *byte = (number as i8).cast_unsigned();
                *sum += number as i32;
            }
            for (word, four) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = i32::from_le_bytes(*four);
            }
        }
    }
}

/// Whether weights of this kind have an integer product here.
pub fn is_integer(blocks: &Blocks) -> bool {
    blocks.encoding().numbers() != Numbers::Levels
}

/// `x·Wᵀ` for up to [`ROWS`] rows of `x` from `first` on and the 32 outputs of a panel, written to as many rows of `to`.
pub fn sum(blocks: &Blocks, panel: usize, x: &Rounded, first: usize, to: &mut [[f32; BLOCK]]) {
    let (shape, panel) = (blocks.shape(), blocks.panel(panel));
    #[cfg(target_arch = "x86_64")]
    if let Some(dots) = Vnni::detect() {
        // SAFETY: the value is the proof that the processor has the instruction sets.
        return unsafe { sum_vnni(dots, shape, panel, x, first, to) };
    }
    by_rows(Portable, shape, panel, x, first, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum_vnni(dots: Vnni, shape: Shape, panel: &[u8], x: &Rounded, first: usize, to: &mut [[f32; BLOCK]]) {
    by_rows(dots, shape, panel, x, first, to);
}

/// Integer dot products of an instruction set, whose values prove it as those of [`Simd`] do.
trait Dots: Copy {
    type Simd: Simd;
    /// 64 unsigned bytes.
    type Numbers: Copy;
    /// Sixteen sums.
    type Sums: Copy;

    fn simd(self) -> Self::Simd;
    /// Of each of 64 bytes, the bits from `shift` on that `mask` keeps.
    fn numbers(self, from: &[u8], shift: u32, mask: u8) -> Self::Numbers;
    /// `low + 16 · high`, where that is at most 255.
    fn join(self, low: Self::Numbers, high: Self::Numbers) -> Self::Numbers;
    fn zero(self) -> Self::Sums;
    /// Adds to each sum the products of its four numbers with the four signed bytes of `x`.
    fn dot(self, sums: Self::Sums, numbers: Self::Numbers, x: i32) -> Self::Sums;
    /// The sums less `x`, as floating-point numbers.
    fn less(self, sums: Self::Sums, x: i32) -> <Self::Simd as Simd>::V;
}

#[inline(always)]
fn by_rows<D: Dots>(dots: D, shape: Shape, panel: &[u8], x: &Rounded, first: usize, to: &mut [[f32; BLOCK]]) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match to.len() {
                $($rows => by_numbers::<D, $rows>(dots, shape, panel, x, first, to),)*
                rows => unreachable!("{rows} rows at once"),
            }
        };
    }
    rows!(0 1 2 3 4 5 6 7 8);
}

#[inline(always)]
fn by_numbers<D: Dots, const R: usize>(
    dots: D,
    shape: Shape,
    panel: &[u8],
    x: &Rounded,
    first: usize,
    to: &mut [[f32; BLOCK]],
) {
    // Word `g` of a block holds inputs `4g..4g + 4`.
    let four = |half: &[u8], g: usize| dots.numbers(&half[g % 4 * 64..], (g / 4 * 4) as u32, 15);
    match shape.encoding.numbers() {
        Numbers::Four => sum_with::<D, R>(dots, shape, panel, x, first, to, four),
        Numbers::Six => sum_with::<D, R>(dots, shape, panel, x, first, to, |half, g| {
            dots.join(four(half, g), dots.numbers(&half[256 + g % 2 * 64..], (g / 2 * 2) as u32, 3))
        }),
        Numbers::Eight => {
            sum_with::<D, R>(dots, shape, panel, x, first, to, |half, g| dots.numbers(&half[g * 64..], 0, 255));
        }
        Numbers::Levels => unreachable!("levels have no integer product"),
    }
}

#[inline(always)]
fn sum_with<D: Dots, const R: usize>(
    dots: D,
    shape: Shape,
    panel: &[u8],
    x: &Rounded,
    first: usize,
    to: &mut [[f32; BLOCK]],
    numbers: impl Fn(&[u8], usize) -> D::Numbers,
) {
    let simd = dots.simd();
    let run = shape.encoding.group().min(BLOCK);
    let blocks = x.input / BLOCK;
    let zero = match shape.encoding.offset() {
        Offset::Zero(zero) => i32::from(zero),
        Offset::Minimum => 0,
    };
    let words: [&[i32]; R] = std::array::from_fn(|row| &x.words[(first + row) * blocks * 8..][..blocks * 8]);
    let scales: [&[f32]; R] = std::array::from_fn(|row| &x.scales[(first + row) * blocks..][..blocks]);
    let sums: [&[i32]; R] = std::array::from_fn(|row| &x.sums[(first + row) * blocks * 2..][..blocks * 2]);
    let mut found = [[simd.splat(0.0); 2]; R];
    for at in 0..blocks {
        let (head, block) = shape.block(panel, at);
        for half in 0..2 {
            let own = shape.half(block, half);
            for group in 0..BLOCK / run {
                let mut dot = [dots.zero(); R];
                for g in group * run / 4..(group + 1) * run / 4 {
                    let numbers = numbers(own, g);
                    for row in 0..R {
                        dot[row] = dots.dot(dot[row], numbers, words[row][at * 8 + g]);
                    }
                }
                let [scale, offset] = shape.scales(simd, head, block, group, half);
                for row in 0..R {
                    let all = match run == BLOCK {
                        true => sums[row][2 * at] + sums[row][2 * at + 1],
                        false => sums[row][2 * at + group],
                    };
                    let scale = simd.mul(scale, simd.splat(scales[row][at]));
                    found[row][half] = simd.fma(dots.less(dot[row], zero * all), scale, found[row][half]);
                    if shape.encoding.offset() == Offset::Minimum {
                        let all = simd.splat(all as f32 * scales[row][at]);
                        found[row][half] = simd.fma(offset, all, found[row][half]);
                    }
                }
            }
        }
    }
    // Constant places alone, or the compiler keeps the sums in memory.
    for row in 0..R {
        for half in 0..2 {
            simd.store(found[row][half], &mut to[row][half * LANES..]);
        }
    }
}

impl Dots for Portable {
    type Simd = Self;
    type Numbers = [u8; 64];
    type Sums = [i32; LANES];

    #[inline(always)]
    fn simd(self) -> Self {
        self
    }
    #[inline(always)]
    fn numbers(self, from: &[u8], shift: u32, mask: u8) -> [u8; 64] {
        from.first_chunk::<64>().expect("numbers: fewer than 64 bytes").map(|byte| byte >> shift & mask)
    }
    #[inline(always)]
    fn join(self, low: [u8; 64], high: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| low[i] | high[i] << 4)
    }
    #[inline(always)]
    fn zero(self) -> [i32; LANES] {
        [0; LANES]
    }
    #[inline(always)]
    fn dot(self, sums: [i32; LANES], numbers: [u8; 64], x: i32) -> [i32; LANES] {
        let x = x.to_le_bytes().map(|byte| i32::from(byte.cast_signed()));
        std::array::from_fn(|i| (0..4).fold(sums[i], |sum, at| sum + i32::from(numbers[4 * i + at]) * x[at]))
    }
    #[inline(always)]
    fn less(self, sums: [i32; LANES], x: i32) -> [f32; LANES] {
        sums.map(|sum| (sum - x) as f32)
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::Vnni;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::sync::OnceLock;

    use super::Dots;
    use crate::cpu::simd::{Avx512, Simd};

    /// AVX-512 with integer dot products.
    #[derive(Clone, Copy, Debug)]
    pub struct Vnni(Avx512);

    impl Vnni {
        pub fn detect() -> Option<Self> {
            static FOUND: OnceLock<Option<Vnni>> = OnceLock::new();
            *FOUND.get_or_init(|| {
                let found = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni");
                Avx512::detect().filter(|_| found).map(Self)
            })
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
            // SAFETY: 64 bytes are there, the load needs no alignment; `self` proves the instruction sets.
            unsafe {
                let bytes = _mm512_loadu_si512(from.as_ptr().cast());
                let shifted = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(shift.cast_signed()));
                _mm512_and_si512(shifted, _mm512_set1_epi8(mask.cast_signed()))
            }
        }
        #[inline(always)]
        fn join(self, low: __m512i, high: __m512i) -> __m512i {
            // SAFETY: `self` proves the instruction sets.
            unsafe { _mm512_or_si512(low, _mm512_slli_epi32::<4>(high)) }
        }
        #[inline(always)]
        fn zero(self) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_setzero_si512() }
        }
        #[inline(always)]
        fn dot(self, sums: __m512i, numbers: __m512i, x: i32) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_dpbusd_epi32(sums, numbers, _mm512_set1_epi32(x)) }
        }
        #[inline(always)]
        fn less(self, sums: __m512i, x: i32) -> <Avx512 as Simd>::V {
            // SAFETY: as above.
            unsafe { _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_set1_epi32(x))) }
        }
    }
}
