//! The tile kernel that all products use.

use crate::cpu::matrix::BLOCK;
use crate::cpu::pool::DisjointParts;
use crate::cpu::simd::{LANES, Simd, dispatch};

/// One of the products of a sum. Both sides are words, each with one number or several ([`Multiply::NUMBERS`]), which lie
/// side by side along the depth.
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// The rows of the tile, in blocks of `[rows][32 numbers]`.
    pub left: &'a [f32],
    /// The distance between blocks, in words.
    pub left_stride: usize,
    /// Rows of 32 words, one for each column.
    pub right: &'a [f32],
    /// The distance between rows, in words.
    pub right_stride: usize,
    /// How many numbers are summed: the columns of the left side, and the rows of the right side.
    pub depth: usize,
}

/// How a word of the left side is multiplied with one of the right side.
pub trait Multiply<S: Simd>: Copy {
    /// The numbers in a word.
    const NUMBERS: usize;

    /// The sum of the products of the two words' numbers, and `sum`.
    fn add(self, simd: S, left: S::V, right: S::V, sum: S::V) -> S::V;
}

/// A word is a number in single precision.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

impl<S: Simd> Multiply<S> for Whole {
    const NUMBERS: usize = 1;

    #[inline(always)]
    fn add(self, simd: S, left: S::V, right: S::V, sum: S::V) -> S::V {
        simd.fma(left, right, sum)
    }
}

/// A word is a pair of bfloat16, which are multiplied in single precision: the upper one first, as `vdpbf16ps` does.
#[derive(Clone, Copy, Debug)]
pub struct Halves;

impl<S: Simd> Multiply<S> for Halves {
    const NUMBERS: usize = 2;

    #[inline(always)]
    fn add(self, simd: S, left: S::V, right: S::V, sum: S::V) -> S::V {
        let ([left_low, left_high], [right_low, right_high]) = (simd.bf16_pair(left), simd.bf16_pair(right));
        simd.fma(left_low, right_low, simd.fma(left_high, right_high, sum))
    }
}

/// An empty product.
pub const NOTHING: Term<'static> = Term { left: &[], left_stride: 0, right: &[], right_stride: 0, depth: 0 };

/// The destination of a tile.
#[derive(Clone, Copy)]
pub struct Place {
    pub row: usize,
    pub rows: usize,
    pub column: usize,
    pub columns: usize,
    /// The distance between rows of the result in memory.
    pub stride: usize,
    /// Whether the tile's columns are the result's rows.
    pub transposed: bool,
    /// Whether the tile is added to the values in memory.
    pub add: bool,
}

/// A tile of results, with the largest number of rows that any instruction set uses.
pub type Tile = [[f32; BLOCK]; 14];

/// A tile of zeros.
pub const EMPTY: Tile = [[0.0; BLOCK]; 14];

dispatch! {
    /// Sums the terms, and writes the tile to its place.
    pub fn tile_product(terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) = tile_product_with
}

#[inline(always)]
fn tile_product_with<S: Simd>(simd: S, terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) {
    product_with(simd, Whole, terms, place, out);
}

dispatch! {
    /// As [`tile_product`], with pairs of bfloat16.
    pub fn tile_product_of_halves(terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) = of_halves
}

#[inline(always)]
fn of_halves<S: Simd>(simd: S, terms: &[Term<'_>], place: &Place, out: &DisjointParts<'_>) {
    product_with(simd, Halves, terms, place, out);
}

/// Sums the terms, and writes the tile to its place.
#[inline(always)]
pub fn product_with<S: Simd, M: Multiply<S>>(
    simd: S,
    multiply: M,
    terms: &[Term<'_>],
    place: &Place,
    out: &DisjointParts<'_>,
) {
    let mut tile = EMPTY;
    sum_rows(simd, multiply, terms, place.rows, &mut tile);
    put(simd, &tile, place, out);
}

dispatch! {
    /// Sums the terms for the first `rows` rows of the left sides, and writes the sums to these rows of the tile.
    pub fn sum_tile(terms: &[Term<'_>], rows: usize, tile: &mut Tile) = sum_whole
}

#[inline(always)]
fn sum_whole<S: Simd>(simd: S, terms: &[Term<'_>], rows: usize, tile: &mut Tile) {
    sum_rows(simd, Whole, terms, rows, tile);
}

#[inline(always)]
fn sum_rows<S: Simd, M: Multiply<S>>(simd: S, multiply: M, terms: &[Term<'_>], rows: usize, tile: &mut Tile) {
    macro_rules! by_rows {
        ($vectors:literal, $at:expr, $($rows:literal)*) => {
            match rows {
                $($rows => sum::<S, M, $rows, $vectors>(simd, multiply, terms, $at, tile),)*
                rows => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    match (S::TILE_VECTORS, S::TILE_ROWS) {
        (2, _) => by_rows!(2, 0, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (_, 6) => {
            by_rows!(1, 0, 1 2 3 4 5 6);
            by_rows!(1, LANES, 1 2 3 4 5 6)
        }
        _ => {
            by_rows!(1, 0, 1 2 3 4);
            by_rows!(1, LANES, 1 2 3 4)
        }
    }
}

/// `ROWS` rows times `VECTORS` vectors. The vectors begin at column `at` of the 32 columns of the right side.
#[inline(always)]
fn sum<S: Simd, M: Multiply<S>, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    multiply: M,
    terms: &[Term<'_>],
    at: usize,
    tile: &mut Tile,
) {
    let words = BLOCK / M::NUMBERS;
    let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
    for term in terms {
        for block in 0..term.depth.div_ceil(BLOCK) {
            let left = &term.left[block * term.left_stride..][..ROWS * words];
            let right = &term.right[block * words * term.right_stride + at..];
            let depth = (term.depth - block * BLOCK).min(BLOCK).div_ceil(M::NUMBERS);
            for p in 0..depth {
                let right = &right[p * term.right_stride..][..VECTORS * LANES];
                // A loop, not a closure: the compiler may leave a closure out of the code that it compiles for the
                // instruction set.
                let mut loaded = [simd.splat(0.0); VECTORS];
                for v in 0..VECTORS {
                    loaded[v] = simd.load(&right[v * LANES..]);
                }
                for i in 0..ROWS {
                    let left = simd.splat(left[i * words + p]);
                    for v in 0..VECTORS {
                        sums[i][v] = multiply.add(simd, left, loaded[v], sums[i][v]);
                    }
                }
            }
        }
    }
    // All indices are constants; otherwise the compiler keeps the sums in memory.
    for i in 0..ROWS {
        for v in 0..VECTORS {
            simd.store(sums[i][v], &mut tile[i][at + v * LANES..]);
        }
    }
}

dispatch! {
    /// Writes up to sixteen rows of results to their destination.
    pub fn put_tile(tile: &[[f32; BLOCK]], place: &Place, out: &DisjointParts<'_>) = put
}

#[inline(always)]
fn put<S: Simd>(simd: S, tile: &[[f32; BLOCK]], place: &Place, out: &DisjointParts<'_>) {
    if place.transposed {
        for half in (0..place.columns).step_by(LANES) {
            let mut rows = [simd.splat(0.0); LANES];
            for (loaded, row) in rows.iter_mut().zip(tile) {
                *loaded = simd.load(&row[half..]);
            }
            let columns = simd.transpose(rows);
            for (j, column) in (half..place.columns).zip(columns) {
                // SAFETY: these are the elements `place.row..place.row + place.rows` of stored row `place.column + j`.
                // They belong to this tile alone; tiles do not overlap, and each tile is computed by one thread at a
                // time.
                let to = unsafe { out.part((place.column + j) * place.stride + place.row, place.rows) };
                simd.store_some(if place.add { simd.add(simd.load_some(to), column) } else { column }, to);
            }
        }
        return;
    }
    for (i, row) in tile.iter().take(place.rows).enumerate() {
        // SAFETY: these are the elements `place.column..place.column + place.columns` of stored row `place.row + i`.
        // They belong to this tile alone; tiles do not overlap, and each tile is computed by one thread at a time.
        let to = unsafe { out.part((place.row + i) * place.stride + place.column, place.columns) };
        let whole = to.len() / LANES * LANES;
        for at in (0..whole).step_by(LANES) {
            let sum = simd.load(&row[at..]);
            simd.store(if place.add { simd.add(simd.load(&to[at..]), sum) } else { sum }, &mut to[at..]);
        }
        if whole < to.len() {
            let (to, sum) = (&mut to[whole..], simd.load(&row[whole..]));
            simd.store_some(if place.add { simd.add(simd.load_some(to), sum) } else { sum }, to);
        }
    }
}
