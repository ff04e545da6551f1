//! What the sides of a product are stored as: numbers in single precision, or pairs of bfloat16.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::OnceLock;

use super::DEPTH;
use super::tile::{Place, Term, put_tile, tile_product, tile_product_of_halves};
#[cfg(target_arch = "x86_64")]
use super::x86::{Amx, Configured, Dot};
use crate::cpu::buffer::Buffer;
use crate::cpu::few::OPEN;
use crate::cpu::matrix::{BLOCK, Matrix, PackedMatrix, pack_panel};
use crate::cpu::pool::DisjointParts;
use crate::cpu::simd::{Level, Simd, dispatch};

/// How the sides of a product are stored, and what multiplies them. Both sides are words of four bytes.
pub trait Operand: Copy + Debug + Send + Sync + 'static {
    /// The numbers in a word. They lie side by side along the depth.
    const NUMBERS: usize;
    /// Bytes of the left side that one item of work reads repeatedly.
    const LEFT_BYTES: usize;
    /// The multiplications of an item: about fifty microseconds of work.
    const ITEM: usize;
    /// The depth that is summed at once over a cache: for single precision as few rows are, so that the bits are the same.
    const RUN: usize;
    /// What a thread holds while it multiplies.
    type Session;

    /// Begins to multiply on this thread.
    fn begin(self) -> Self::Session;
    /// The rows of a tile.
    fn tile_rows(self, level: Level) -> usize;
    /// The rows of a tile that divides a block.
    fn even_tile_rows(self, level: Level) -> usize;
    /// The weight's words, if they are stored as they are multiplied. Otherwise they are made for each item of work.
    fn stored(self, weight: &Matrix) -> Option<&PackedMatrix<Self>>;
    /// The words of a block of a left side's row: up to 32 numbers.
    fn pack_row(self, level: Level, row: &[f32], to: &mut [f32]);
    /// The words of up to 32 rows that are the columns of a right side, each `stride` after the one before it.
    fn pack_panel(self, level: Level, from: &[f32], rows: usize, depth: usize, stride: usize, to: &mut [f32]);
    /// Calls a function with a matrix in these words.
    fn with_words<R>(self, level: Level, matrix: &PackedMatrix, run: impl FnOnce(&PackedMatrix<Self>) -> R) -> R;
    /// The weights of some inputs in a panel of 32 outputs, as rows of a left side: `[inputs][32 numbers]`.
    fn open_left(self, level: Level, weight: &Matrix, panel: usize, inputs: Range<usize>, to: &mut [f32]);
    /// The same as the columns of a right side: `[inputs, in words][32]`.
    fn open_right(self, level: Level, weight: &Matrix, panel: usize, inputs: Range<usize>, to: &mut [f32]);
    /// Sums the terms of a tile, and writes it to its place.
    fn multiply(
        self,
        level: Level,
        session: &mut Self::Session,
        terms: &[Term<'_>],
        place: &Place,
        out: &DisjointParts<'_>,
    );
}

/// Numbers in single precision: exact.
#[derive(Clone, Copy, Debug)]
pub struct Single;

impl Operand for Single {
    const NUMBERS: usize = 1;
    const LEFT_BYTES: usize = 384 << 10;
    const ITEM: usize = 5 << 20;
    const RUN: usize = OPEN;
    type Session = ();

    fn begin(self) {}

    fn tile_rows(self, level: Level) -> usize {
        level.tile_rows()
    }

    fn even_tile_rows(self, level: Level) -> usize {
        level.even_tile_rows()
    }

    fn stored(self, weight: &Matrix) -> Option<&PackedMatrix> {
        weight.full()
    }

    fn pack_row(self, _: Level, row: &[f32], to: &mut [f32]) {
        to[..row.len()].copy_from_slice(row);
    }

    fn pack_panel(self, level: Level, from: &[f32], rows: usize, depth: usize, stride: usize, to: &mut [f32]) {
        pack_panel(level, from, rows, depth, stride, to);
    }

    fn with_words<R>(self, _: Level, matrix: &PackedMatrix, run: impl FnOnce(&PackedMatrix) -> R) -> R {
        run(matrix)
    }

    fn open_left(self, level: Level, weight: &Matrix, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        weight.open(level, panel, inputs, to);
    }

    fn open_right(self, level: Level, weight: &Matrix, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        weight.open(level, panel, inputs, to);
    }

    fn multiply(self, level: Level, (): &mut (), terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) {
        tile_product(level, terms, place, out);
    }
}

/// Numbers rounded to bfloat16, to the nearest and ties to even, two to a word: the lower half is the first. Products are
/// exact; their sums are in single precision, in an order that depends on the unit. Both sides are zero after their last
/// number, up to a whole block.
///
/// The word's bits are kept in an `f32`, which is only moved: no arithmetic sees it as a number.
#[derive(Clone, Copy, Debug)]
pub struct Pairs(Unit);

/// What multiplies pairs.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Two matrices of sixteen rows at once. For a block of 32 numbers it sums the lower and the upper halves apart, and
    /// then adds both to what was there.
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// Pairs of sixteen lanes at once, the upper halves first.
    #[cfg(target_arch = "x86_64")]
    Dot(Dot),
    /// Multiplications in single precision, in the order of `Dot`. Nothing is gained but the same rounding.
    Parts,
}

impl Pairs {
    /// All units that this processor has beside the level, the best first.
    pub fn all(level: Level) -> Vec<Self> {
        let mut all = Vec::new();
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(simd) => {
                all.extend(Amx::detect().map(|amx| Self(Unit::Amx(amx))));
                all.extend(Dot::detect(simd).map(|dot| Self(Unit::Dot(dot))));
            }
            _ => {}
        }
        all.push(Self(Unit::Parts));
        all
    }

    /// The best unit that this processor has. It is detected once.
    pub fn best() -> Self {
        static BEST: OnceLock<Pairs> = OnceLock::new();
        *BEST.get_or_init(|| Self::all(Level::best())[0])
    }
}

/// Words of a right side for a panel of `[numbers][32]`.
fn interleave(level: Level, numbers: &[f32], to: &mut [f32]) {
    let words = numbers.len() / 2 / BLOCK * BLOCK;
    pair_rows(level, &numbers[..2 * words], to);
    let mut end = words;
    if numbers.len() > 2 * words {
        let mut last = [0.0; 2 * BLOCK];
        last[..BLOCK].copy_from_slice(&numbers[2 * words..]);
        pair_rows(level, &last, &mut to[words..]);
        end += BLOCK;
    }
    let whole = (numbers.len() / BLOCK).next_multiple_of(BLOCK) / 2 * BLOCK;
    to[end..whole].fill(0.0);
}

/// The bits of a number rounded to bfloat16, in the upper half.
#[inline(always)]
fn rounded(number: f32) -> u32 {
    let bits = number.to_bits();
    // A number that is none stays one: rounding could make it infinite.
    let quiet = bits | 0x0040_0000;
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if number.is_nan() { quiet } else { nearest }) & 0xffff_0000
}

dispatch! {
    /// Pairs of neighbouring numbers.
    fn pair_neighbours(from: &[f32], to: &mut [f32]) = pair_neighbours_with
}

#[inline(always)]
fn pair_neighbours_with<S: Simd>(_: S, from: &[f32], to: &mut [f32]) {
    for (to, [low, high]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
        *to = f32::from_bits(rounded(*low) >> 16 | rounded(*high));
    }
}

dispatch! {
    /// Pairs of the numbers of two rows of 32, for each two rows.
    fn pair_rows(from: &[f32], to: &mut [f32]) = pair_rows_with
}

#[inline(always)]
fn pair_rows_with<S: Simd>(_: S, from: &[f32], to: &mut [f32]) {
    for (to, two) in to.as_chunks_mut::<BLOCK>().0.iter_mut().zip(from.as_chunks::<{ 2 * BLOCK }>().0) {
        for lane in 0..BLOCK {
            to[lane] = f32::from_bits(rounded(two[lane]) >> 16 | rounded(two[BLOCK + lane]));
        }
    }
}

impl Operand for Pairs {
    const NUMBERS: usize = 2;
    const LEFT_BYTES: usize = 768 << 10;
    const ITEM: usize = 20 << 20;
    const RUN: usize = DEPTH;
    #[cfg(target_arch = "x86_64")]
    type Session = Option<Configured>;
    #[cfg(not(target_arch = "x86_64"))]
    type Session = ();

    fn begin(self) -> Self::Session {
        #[cfg(target_arch = "x86_64")]
        match self.0 {
            Unit::Amx(amx) => Some(Configured::new(amx)),
            _ => None,
        }
    }

    fn tile_rows(self, level: Level) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Unit::Amx(_) => Amx::TILE_ROWS,
            _ => level.tile_rows(),
        }
    }

    fn even_tile_rows(self, level: Level) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Unit::Amx(_) => Amx::TILE_ROWS,
            _ => level.even_tile_rows(),
        }
    }

    fn stored(self, _: &Matrix) -> Option<&PackedMatrix<Self>> {
        None
    }

    fn pack_row(self, level: Level, row: &[f32], to: &mut [f32]) {
        if row.len() == BLOCK {
            return pair_neighbours(level, row, to);
        }
        let mut block = [0.0; BLOCK];
        block[..row.len()].copy_from_slice(row);
        pair_neighbours(level, &block, to);
    }

    fn pack_panel(self, level: Level, from: &[f32], rows: usize, depth: usize, stride: usize, to: &mut [f32]) {
        let words = depth.next_multiple_of(BLOCK) / 2;
        let mut pairs = Buffer::new(rows * words);
        for (row, to) in pairs.chunks_exact_mut(words.max(1)).enumerate() {
            for (block, to) in from[row * stride..][..depth].chunks(BLOCK).zip(to.chunks_exact_mut(BLOCK / 2)) {
                self.pack_row(level, block, to);
            }
        }
        pack_panel(level, &pairs, rows, words, words, to);
    }

    fn with_words<R>(self, level: Level, matrix: &PackedMatrix, run: impl FnOnce(&PackedMatrix<Self>) -> R) -> R {
        let words = PackedMatrix::from_panels(matrix.out(), matrix.input(), |panel, to| {
            let numbers = &matrix.data()[panel * matrix.panel_len()..][..matrix.input() * BLOCK];
            interleave(level, numbers, to);
        });
        run(&words)
    }

    fn open_left(self, level: Level, weight: &Matrix, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        let mut opened = Buffer::new(inputs.len() * BLOCK);
        weight.open(level, panel, inputs, &mut opened);
        // The outputs after the last one are not set.
        let outputs = weight.out() - panel * BLOCK;
        if outputs < BLOCK {
            opened.chunks_exact_mut(BLOCK).for_each(|outs| outs[outputs..].fill(0.0));
        }
        pair_neighbours(level, &opened, to);
    }

    fn open_right(self, level: Level, weight: &Matrix, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        let mut opened = Buffer::new(inputs.len() * BLOCK);
        weight.open(level, panel, inputs, &mut opened);
        interleave(level, &opened, to);
    }

    fn multiply(
        self,
        level: Level,
        session: &mut Self::Session,
        terms: &[Term<'_>],
        place: &Place,
        out: &DisjointParts<'_>,
    ) {
        #[cfg(not(target_arch = "x86_64"))]
        let () = session;
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Unit::Amx(_) => {
                let session = session.as_mut().expect("`begin` made it");
                let tile = session.sum(terms);
                for (half, tile) in tile.chunks(Amx::ROWS).enumerate() {
                    let done = half * Amx::ROWS;
                    if done < place.rows {
                        let rows = (place.rows - done).min(Amx::ROWS);
                        put_tile(level, tile, &Place { row: place.row + done, rows, ..*place }, out);
                    }
                }
            }
            #[cfg(target_arch = "x86_64")]
            Unit::Dot(dot) => dot.tile_product(terms, place, out),
            Unit::Parts => tile_product_of_halves(level, terms, place, out),
        }
    }
}
