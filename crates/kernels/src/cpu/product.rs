//! Matrix products over packed operands.
//!
//! One kernel computes all of them, a tile at a time: some rows of the left operand, broadcast element by element,
//! times 32 columns of the right operand, with the whole tile of the result in registers. A result is the sum of
//! several products. So a projection and its low-rank path, or the gradients of three projections of one input, are
//! added before anything is stored.
//!
//! The sides are numbers in single precision, or pairs of bfloat16 ([`Operand`]). The order of the additions for an element
//! depends on its position alone, so results do not depend on the number of threads.

mod operand;
mod sum;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::matrix::{BLOCK, Left, Matrix, PackedMatrix};
use super::pool::{DisjointParts, parallel};
use super::simd::Level;
pub use operand::{Operand, Pairs, Single};
use sum::{Cold, Strip, Sum};
pub use tile::{EMPTY, Term, Tile, sum_tile};
use tile::{Place, tile_product};

/// Depth that is summed at once, so that this part of a panel stays in the second-level cache.
const DEPTH: usize = 1536;
/// A weight of more than this depth is read from memory. There, longer runs of a panel matter more than deeper sums.
const DEEP: usize = 16 << 10;

/// `x·Wᵀ`, one of several to be added.
#[derive(Clone, Copy)]
pub struct Forward<'a, O: Operand = Single> {
    /// `[rows, in]`
    pub x: &'a Left<O>,
    /// `[out, in]`
    pub weight: &'a Matrix,
}

/// `dy·W`, one of several to be added.
#[derive(Clone, Copy)]
pub struct Backward<'a, O: Operand = Single> {
    /// `[rows, out]`
    pub dy: &'a PackedMatrix<O>,
    /// `[out, in]`
    pub weight: &'a Matrix,
}

/// `out = Σ x·Wᵀ`, or `out +=` where `add` is set: `[rows, out]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn forward<O: Operand>(level: Level, operand: O, terms: &[Forward<'_, O>], out: &mut [f32], add: bool) {
    forward_in_runs(level, operand, terms, out, add, DEPTH);
}

/// As [`forward`], where each run of `depth` inputs is summed by itself and added to the sum of those before it.
///
/// # Panics
/// As [`forward`].
pub fn forward_in_runs<O: Operand>(
    level: Level,
    operand: O,
    terms: &[Forward<'_, O>],
    out: &mut [f32],
    add: bool,
    depth: usize,
) {
    let Some(first) = terms.first() else { return };
    let (rows, columns, tile_rows) = (first.x.rows(), first.weight.out(), first.x.tile_rows());
    assert_eq!(out.len(), rows * columns, "product: out is not [rows, out]");
    for term in terms {
        assert_eq!((term.x.rows(), term.weight.out()), (rows, columns), "product: terms differ in shape");
        assert_eq!(term.x.depth(), term.weight.input(), "product: depths differ");
    }
    let strips: Vec<Strip<'_>> = terms.iter().map(|term| Strip::forward(operand, term.x, term.weight)).collect();
    let sum = Sum { operand, strips: &strips, rows, columns, tile_rows, depth, cold: Cold::Right };
    sum.compute(level, &DisjointParts::new(out), |place| Place { stride: columns, add: add || place.add, ..place });
}

/// `x·Wᵀ` packed as [`PackedMatrix`] packs rows: the right side of [`backward`], ready for the gradient of the same product.
///
/// # Panics
/// When the depths differ, or a tile of `x` does not divide a block.
pub fn forward_packed<O: Operand>(level: Level, operand: O, x: &Left<O>, weight: &Matrix, out: &mut PackedMatrix) {
    assert_eq!(x.depth(), weight.input(), "product: depths differ");
    assert_eq!((out.out(), out.input()), (x.rows(), weight.out()), "product: out has another shape");
    assert!(BLOCK.is_multiple_of(x.tile_rows()), "product: tiles do not divide a block");
    let (panel_len, tile_rows) = (out.panel_len(), x.tile_rows());
    let strips = [Strip::forward(operand, x, weight)];
    let (rows, columns) = (x.rows(), weight.out());
    let sum = Sum { operand, strips: &strips, rows, columns, tile_rows, depth: DEPTH, cold: Cold::Right };
    sum.compute(level, &DisjointParts::new(out.data_mut()), |place| {
        let row = place.row / BLOCK * panel_len + place.row % BLOCK;
        Place { row, stride: BLOCK, transposed: true, ..place }
    });
}

/// `out = Σ dy·W`, or `out +=` where `add` is set: `[rows, in]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn backward<O: Operand>(level: Level, operand: O, terms: &[Backward<'_, O>], out: &mut [f32], add: bool) {
    let Some(first) = terms.first() else { return };
    let (rows, columns) = (first.dy.out(), first.weight.input());
    assert_eq!(out.len(), rows * columns, "product: out is not [rows, in]");
    for term in terms {
        assert_eq!((term.dy.out(), term.weight.input()), (rows, columns), "product: terms differ in shape");
        assert_eq!(term.dy.input(), term.weight.out(), "product: depths differ");
    }
    // The weight's inputs are the rows of a tile, and its transpose is what is stored.
    let tile_rows = operand.tile_rows(level);
    let strips: Vec<Strip<'_>> =
        terms.iter().map(|term| Strip::backward(operand, term.weight, term.dy, tile_rows)).collect();
    let deepest = strips.iter().map(|strip| strip.depth).max().unwrap_or(0);
    let depth = if deepest > DEEP { DEPTH / 3 } else { DEPTH };
    let sum = Sum { operand, strips: &strips, rows: columns, columns: rows, tile_rows, depth, cold: Cold::Left };
    sum.compute(level, &DisjointParts::new(out), |place| Place {
        stride: columns,
        transposed: true,
        add: add || place.add,
        ..place
    });
}

/// `out = leftᵀ·right`, summed over the rows of both: `[left columns, right columns]`, or its transpose.
///
/// `left` is given transposed and packed. For the gradients of a low-rank pair: few columns on the left, many on the right.
///
/// # Panics
/// When the shapes do not fit together.
pub fn over_rows(level: Level, left: &Left, right: &[f32], columns: usize, transposed: bool, out: &mut [f32]) {
    assert_eq!(right.len(), left.depth() * columns, "over_rows: the sides differ in rows");
    assert_eq!(out.len(), left.rows() * columns, "over_rows: out has another size");
    let tile_rows = left.tile_rows();
    let out = DisjointParts::new(out);
    parallel(columns.div_ceil(BLOCK), |panel| {
        let column = panel * BLOCK;
        let valid = BLOCK.min(columns - column);
        // The last panel of an odd width would be read beyond its rows: it is copied out.
        let mut padded = Vec::new();
        let (right, right_stride) = match valid == BLOCK {
            true => (&right[column..], columns),
            false => {
                padded.resize(left.depth() * BLOCK, 0.0);
                for (to, from) in padded.chunks_exact_mut(BLOCK).zip(right.chunks_exact(columns)) {
                    to[..valid].copy_from_slice(&from[column..]);
                }
                (&padded[..], BLOCK)
            }
        };
        for tile in 0..left.rows().div_ceil(tile_rows) {
            let term = Term {
                left: left.tiles_from(tile),
                left_stride: tile_rows * BLOCK,
                right,
                right_stride,
                depth: left.depth(),
            };
            let place = Place {
                row: tile * tile_rows,
                rows: tile_rows.min(left.rows() - tile * tile_rows),
                column,
                columns: valid,
                stride: if transposed { left.rows() } else { columns },
                transposed,
                add: false,
            };
            tile_product(level, &[term], &place, &out);
        }
    });
}
