//! The tile kernel that all products use.

use crate::cpu::matrix::BLOCK;
use crate::cpu::pool::DisjointParts;
use crate::cpu::simd::{LANES, Simd, dispatch};

/// One of the products of a sum.
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// The rows of the tile, in blocks of `[rows][32]`.
    pub left: &'a [f32],
    /// The distance between blocks.
    pub left_stride: usize,
    /// Rows of 32 columns.
    pub right: &'a [f32],
    /// The distance between rows.
    pub right_stride: usize,
    /// The number of columns of the left side, and of rows of the right side.
    pub depth: usize,
}

/// An empty product.
pub const NOTHING: Term<'static> = Term { left: &[], left_stride: 0, right: &[], right_stride: 0, depth: 0 };

/// The destination of a tile.
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
    let mut tile = EMPTY;
    sum_rows(simd, terms, place.rows, &mut tile);
    put(simd, &tile, place, out);
}

dispatch! {
    /// Sums the terms for the first `rows` rows of the left sides, and writes the sums to these rows of the tile.
    pub fn sum_tile(terms: &[Term<'_>], rows: usize, tile: &mut Tile) = sum_rows
}

#[inline(always)]
fn sum_rows<S: Simd>(simd: S, terms: &[Term<'_>], rows: usize, tile: &mut Tile) {
    macro_rules! by_rows {
        ($vectors:literal, $at:expr, $($rows:literal)*) => {
            match rows {
                $($rows => sum::<S, $rows, $vectors>(simd, terms, $at, tile),)*
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
fn sum<S: Simd, const ROWS: usize, const VECTORS: usize>(simd: S, terms: &[Term<'_>], at: usize, tile: &mut Tile) {
    let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
    for term in terms {
        for block in 0..term.depth.div_ceil(BLOCK) {
            let left = &term.left[block * term.left_stride..][..ROWS * BLOCK];
            let right = &term.right[block * BLOCK * term.right_stride + at..];
            let depth = (term.depth - block * BLOCK).min(BLOCK);
            for p in 0..depth {
                let right = &right[p * term.right_stride..][..VECTORS * LANES];
                // A loop, not a closure: the compiler may leave a closure out of the code that it compiles for the
                // instruction set.
                let mut loaded = [simd.splat(0.0); VECTORS];
                for v in 0..VECTORS {
                    loaded[v] = simd.load(&right[v * LANES..]);
                }
                for i in 0..ROWS {
                    let left = simd.splat(left[i * BLOCK + p]);
                    for v in 0..VECTORS {
                        sums[i][v] = simd.fma(left, loaded[v], sums[i][v]);
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

/// Writes a tile to its destination.
#[inline(always)]
fn put<S: Simd>(simd: S, tile: &Tile, place: &Place, out: &DisjointParts<'_>) {
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
                let column = simd.lanes(column);
                if place.add {
                    to.iter_mut().zip(column).for_each(|(to, sum)| *to += sum);
                } else {
                    to.copy_from_slice(&column[..place.rows]);
                }
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
        for (to, sum) in to[whole..].iter_mut().zip(&row[whole..]) {
            *to = if place.add { *to + sum } else { *sum };
        }
    }
}
