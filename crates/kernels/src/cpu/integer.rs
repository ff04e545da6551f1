//! Products of few rows by integer dot products: the rows are rounded to eight bits, the weights keep their stored
//! values.
//!
//! For decoding only: the rounding adds an error of about a 250th of a group's largest element.

mod rounded;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::matrix::{BLOCK, Blocks, Shape};
use super::simd::{LANES, Level, Portable, Simd, prefetch_ahead};
use crate::encoding::Numbers;
use rounded::Cell;
pub use rounded::Rounded;

/// Rows per pass over a weight. With more, the compiler runs out of registers.
pub const ROWS: usize = 4;

/// The instructions that multiply integers.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// AVX-512 with integer dot products.
    #[cfg(target_arch = "x86_64")]
    Vnni(x86::Vnni),
    /// AVX2 with integer dot products.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(x86::AvxVnni),
    /// AVX2 without integer dot products.
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Bytes),
    Portable,
}

impl Kind {
    /// All kinds that this processor has at a level, the best first.
    pub fn all(level: Level) -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let found = match level {
            Level::Avx512(simd) => [x86::Vnni::detect(simd).map(Self::Vnni), None],
            Level::Avx2(simd) => {
                [x86::AvxVnni::detect(simd).map(Self::AvxVnni), Some(Self::Avx2(x86::Bytes::new(simd)))]
            }
            Level::Portable(_) => [None, None],
        };
        #[cfg(not(target_arch = "x86_64"))]
        let found: [Option<Self>; 0] = {
            let _ = level;
            []
        };
        found.into_iter().flatten().chain([Self::Portable])
    }

    /// This is cheap: the standard library detects the processor's features once and stores them.
    fn best(level: Level) -> Self {
        Self::all(level).next().unwrap_or(Self::Portable)
    }
}

/// Whether integers are multiplied faster than floating-point numbers. They are not in the portable code.
pub fn is_fast(level: Level) -> bool {
    !matches!(Kind::best(level), Kind::Portable)
}

/// Whether weights in this encoding can be multiplied as integers.
pub fn is_integer(blocks: &Blocks) -> bool {
    blocks.encoding().numbers() != Numbers::Levels
}

/// `x·Wᵀ` for run `run` of [`ROWS`] rows of `x` (the last run may be shorter) and the 32 outputs of a panel. Each row's
/// result is written to one row of `to`.
pub fn sum(level: Level, blocks: &Blocks, panel: usize, x: &Rounded, run: usize, to: &mut [[f32; BLOCK]]) {
    sum_as(Kind::best(level), blocks, panel, x, run, to);
}

/// As [`sum`], with the given kind of instructions.
pub fn sum_as(kind: Kind, blocks: &Blocks, panel: usize, x: &Rounded, run: usize, to: &mut [[f32; BLOCK]]) {
    let (shape, panel) = (blocks.shape(), blocks.panels_from(panel));
    let x = x.run(run, to.len());
    match kind {
        // SAFETY: the value in `kind` exists only if the processor has these instruction sets.
        #[cfg(target_arch = "x86_64")]
        Kind::Vnni(dots) => unsafe { sum_vnni(dots, shape, panel, x, to) },
        // SAFETY: the value in `kind` exists only if the processor has these instruction sets.
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni(dots) => unsafe { sum_avx_vnni(dots, shape, panel, x, to) },
        // SAFETY: the value in `kind` exists only if the processor has these instruction sets.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2(dots) => unsafe { sum_avx2(dots, shape, panel, x, to) },
        Kind::Portable => by_rows(Portable, shape, panel, x, to),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum_vnni(dots: x86::Vnni, shape: Shape, panel: &[u8], x: &[Cell], to: &mut [[f32; BLOCK]]) {
    by_rows(dots, shape, panel, x, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn sum_avx_vnni(dots: x86::AvxVnni, shape: Shape, panel: &[u8], x: &[Cell], to: &mut [[f32; BLOCK]]) {
    by_rows(dots, shape, panel, x, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_avx2(dots: x86::Bytes, shape: Shape, panel: &[u8], x: &[Cell], to: &mut [[f32; BLOCK]]) {
    by_rows(dots, shape, panel, x, to);
}

/// Integer dot products of an instruction set. As with [`Simd`], a value exists only if the processor has it.
trait Dots: Copy {
    type Simd: Simd;
    /// 64 unsigned bytes.
    type Numbers: Copy;
    /// Sixteen sums.
    type Sums: Copy;

    fn simd(self) -> Self::Simd;
    /// For each of 64 bytes: the bits from `shift` on, masked with `mask`.
    fn numbers(self, from: &[u8], shift: u32, mask: u8) -> Self::Numbers;
    /// `low + 2^shift · high`; the result must be at most 255.
    fn join(self, low: Self::Numbers, high: Self::Numbers, shift: u32) -> Self::Numbers;
    fn zero(self) -> Self::Sums;
    /// Adds to each sum the products of its four numbers with the four signed bytes of `x`. The numbers must be below
    /// 128, and no byte of `x` may be -128.
    fn dot(self, sums: Self::Sums, numbers: Self::Numbers, x: i32) -> Self::Sums;
    /// As [`dot`](Self::dot), with numbers up to 255.
    #[inline(always)]
    fn dot_wide(self, sums: Self::Sums, numbers: Self::Numbers, x: i32) -> Self::Sums {
        self.dot(sums, numbers, x)
    }
    /// Converts the sums to floating-point numbers.
    fn float(self, sums: Self::Sums) -> <Self::Simd as Simd>::V;
}

#[inline(always)]
fn by_rows<D: Dots>(dots: D, shape: Shape, panel: &[u8], x: &[Cell], to: &mut [[f32; BLOCK]]) {
    macro_rules! rows {
        ($($rows:literal)*) => {
            match to.len() {
                $($rows => by_numbers::<D, $rows>(dots, shape, panel, x, to),)*
                rows => unreachable!("{rows} rows at once"),
            }
        };
    }
    rows!(1 2 3 4);
}

#[inline(always)]
fn by_numbers<D: Dots, const R: usize>(dots: D, shape: Shape, panel: &[u8], x: &[Cell], to: &mut [[f32; BLOCK]]) {
    match shape.encoding.numbers() {
        Numbers::Two => sum_with::<D, Two, R>(dots, shape, panel, x, to),
        Numbers::Three => sum_with::<D, Three, R>(dots, shape, panel, x, to),
        Numbers::Four => sum_with::<D, Four, R>(dots, shape, panel, x, to),
        Numbers::Six if shape.encoding.group() < BLOCK => sum_with::<D, Six<2>, R>(dots, shape, panel, x, to),
        Numbers::Six => sum_with::<D, Six<1>, R>(dots, shape, panel, x, to),
        Numbers::Eight => sum_with::<D, Eight, R>(dots, shape, panel, x, to),
        Numbers::Levels => unreachable!("levels have no integer product"),
    }
}

/// How the numbers of half a block are stored. These are trait functions, not closures: the compiler may leave a
/// closure out of the code that it compiles for an instruction set.
trait Stored {
    /// The number of groups of a block; each has its own scale.
    const GROUPS: usize;

    /// Adds the products of a group's numbers with the numbers of each row.
    fn dots<D: Dots, const R: usize>(dots: D, half: &[u8], group: usize, cells: &[Cell; R], to: &mut [D::Sums; R]);
}

/// Two bits, with two scales per block.
struct Two;
/// Three bits, with two scales per block.
struct Three;
struct Four;
/// Six bits, with one scale per block, or with two.
struct Six<const GROUPS: usize>;
struct Eight;

#[inline(always)]
fn add<D: Dots, const R: usize>(dots: D, numbers: D::Numbers, word: usize, cells: &[Cell; R], to: &mut [D::Sums; R]) {
    for row in 0..R {
        to[row] = dots.dot(to[row], numbers, cells[row].words[word]);
    }
}

/// The two-bit numbers of a word.
#[inline(always)]
fn pairs<D: Dots>(dots: D, half: &[u8], word: usize) -> D::Numbers {
    dots.numbers(&half[word % 2 * 64..], (word / 2 * 2) as u32, 3)
}

impl Stored for Two {
    const GROUPS: usize = 2;

    #[inline(always)]
    fn dots<D: Dots, const R: usize>(dots: D, half: &[u8], group: usize, cells: &[Cell; R], to: &mut [D::Sums; R]) {
        for word in group * 4..(group + 1) * 4 {
            add(dots, pairs(dots, half, word), word, cells, to);
        }
    }
}

impl Stored for Three {
    const GROUPS: usize = 2;

    #[inline(always)]
    fn dots<D: Dots, const R: usize>(dots: D, half: &[u8], group: usize, cells: &[Cell; R], to: &mut [D::Sums; R]) {
        for word in group * 4..(group + 1) * 4 {
            let high = dots.numbers(&half[128..], word as u32, 1);
            add(dots, dots.join(pairs(dots, half, word), high, 2), word, cells, to);
        }
    }
}

impl Stored for Four {
    const GROUPS: usize = 1;

    #[inline(always)]
    fn dots<D: Dots, const R: usize>(dots: D, half: &[u8], _group: usize, cells: &[Cell; R], to: &mut [D::Sums; R]) {
        for word in 0..4 {
            let own = &half[word * 64..];
            add(dots, dots.numbers(own, 0, 15), word, cells, to);
            add(dots, dots.numbers(own, 4, 15), word + 4, cells, to);
        }
    }
}

impl<const GROUPS: usize> Stored for Six<GROUPS> {
    const GROUPS: usize = GROUPS;

    #[inline(always)]
    fn dots<D: Dots, const R: usize>(dots: D, half: &[u8], group: usize, cells: &[Cell; R], to: &mut [D::Sums; R]) {
        for word in group * 8 / GROUPS..(group + 1) * 8 / GROUPS {
            let low = dots.numbers(&half[word % 4 * 64..], (word / 4 * 4) as u32, 15);
            add(dots, dots.join(low, pairs(dots, &half[256..], word), 4), word, cells, to);
        }
    }
}

impl Stored for Eight {
    const GROUPS: usize = 1;

    #[inline(always)]
    fn dots<D: Dots, const R: usize>(dots: D, half: &[u8], _group: usize, cells: &[Cell; R], to: &mut [D::Sums; R]) {
        for word in 0..8 {
            let numbers = dots.numbers(&half[word * 64..], 0, 255);
            for row in 0..R {
                to[row] = dots.dot_wide(to[row], numbers, cells[row].words[word]);
            }
        }
    }
}

#[inline(always)]
fn sum_with<D: Dots, K: Stored, const R: usize>(
    dots: D,
    shape: Shape,
    panel: &[u8],
    x: &[Cell],
    to: &mut [[f32; BLOCK]],
) {
    let simd = dots.simd();
    let (mut low, mut high) = ([simd.splat(0.0); R], [simd.splat(0.0); R]);
    let cells = x.as_chunks::<R>().0;
    let stride = shape.panel_len() / cells.len().max(1);
    for (at, cells) in cells.iter().enumerate() {
        let (head, block) = shape.block(panel, at);
        prefetch_ahead(panel, at * stride..(at + 1) * stride);
        sum_half::<D, K, R>(dots, shape, head, block, 0, cells, &mut low);
        sum_half::<D, K, R>(dots, shape, head, block, 1, cells, &mut high);
    }
    for row in 0..R {
        simd.store(low[row], &mut to[row]);
        simd.store(high[row], &mut to[row][LANES..]);
    }
}

/// One half of a block: the results of sixteen outputs.
#[inline(always)]
fn sum_half<D: Dots, K: Stored, const R: usize>(
    dots: D,
    shape: Shape,
    head: &[u8],
    block: &[u8],
    half: usize,
    cells: &[Cell; R],
    found: &mut [<D::Simd as Simd>::V; R],
) {
    let simd = dots.simd();
    let own = shape.half(block, half);
    for group in 0..K::GROUPS {
        let mut dot = [dots.zero(); R];
        K::dots(dots, own, group, cells, &mut dot);
        let [scale, offset] = shape.scales(simd, head, block, group, half);
        for row in 0..R {
            let cell = &cells[row];
            let sum = if K::GROUPS == 1 { cell.sum } else { cell.sums[group] };
            let products = simd.fma(dots.float(dot[row]), simd.mul(scale, simd.splat(cell.unit)), found[row]);
            found[row] = simd.fma(offset, simd.splat(sum), products);
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
    fn join(self, low: [u8; 64], high: [u8; 64], shift: u32) -> [u8; 64] {
        std::array::from_fn(|i| low[i] | high[i] << shift)
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
    fn float(self, sums: [i32; LANES]) -> [f32; LANES] {
        sums.map(|sum| sum as f32)
    }
}
