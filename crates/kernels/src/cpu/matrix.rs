//! Matrices in the layouts that the products read.

mod blocks;
mod bytes;
mod half;

use std::marker::PhantomData;
use std::ops::Range;

use super::buffer::Buffer;
use super::pool::parallel_chunks;
use super::product::{Operand, Single};
use super::simd::{LANES, Level, Simd, dispatch};
use crate::encoding::Storage;

pub use blocks::{Blocks, Shape};
pub use half::Half;

/// Side of a square block.
pub const BLOCK: usize = 32;

/// A weight matrix `[out, in]` in panels of 32 outputs: the right-hand side of a product.
#[derive(Debug)]
pub enum Matrix {
    /// In single precision.
    Full(PackedMatrix),
    /// In half precision; expanded to single precision in each product.
    Half(Half),
    /// Quantised; expanded to single precision in each product.
    Blocks(Blocks),
}

/// Bytes of a matrix `[out, in]`.
pub fn stored_bytes(storage: Storage, out: usize, input: usize) -> usize {
    match storage {
        Storage::Full => size_of::<f32>() * PackedMatrix::<Single>::len(out, input),
        Storage::Half => out.div_ceil(BLOCK) * Half::panel_len(input),
        Storage::Blocks(encoding) => out.div_ceil(BLOCK) * Shape::new(encoding, input).panel_len(),
    }
}

impl From<PackedMatrix> for Matrix {
    fn from(packed: PackedMatrix) -> Self {
        Self::Full(packed)
    }
}

impl Matrix {
    /// Rows of the matrix.
    pub fn out(&self) -> usize {
        match self {
            Self::Full(packed) => packed.out(),
            Self::Half(half) => half.out(),
            Self::Blocks(blocks) => blocks.out(),
        }
    }

    /// Columns of the matrix.
    pub fn input(&self) -> usize {
        match self {
            Self::Full(packed) => packed.input(),
            Self::Half(half) => half.input(),
            Self::Blocks(blocks) => blocks.input(),
        }
    }

    /// The packed matrix, if it is in single precision.
    pub fn full(&self) -> Option<&PackedMatrix> {
        if let Self::Full(packed) = self { Some(packed) } else { None }
    }

    /// Writes the weights of a panel for a range of inputs, in single precision: `[inputs][32]`.
    pub fn open(&self, level: Level, panel: usize, inputs: Range<usize>, to: &mut [f32]) {
        match self {
            Self::Full(packed) => {
                let panel = &packed.data()[panel * packed.panel_len()..];
                to[..inputs.len() * BLOCK].copy_from_slice(&panel[inputs.start * BLOCK..inputs.end * BLOCK]);
            }
            Self::Half(half) => half.open(level, panel, inputs, to),
            Self::Blocks(blocks) => blocks.open(level, panel, inputs, to),
        }
    }

    /// The stored bytes of a panel; empty in single precision, where nothing has to be expanded.
    pub fn closed(&self, panel: usize) -> &[u8] {
        match self {
            Self::Full(_) => &[],
            Self::Half(half) => half.panel(panel),
            Self::Blocks(blocks) => blocks.panel(panel),
        }
    }

    /// Copies a row of the matrix.
    ///
    /// # Panics
    /// When there is no such row, or `to` is not `input` long.
    pub fn copy_row(&self, level: Level, row: usize, to: &mut [f32]) {
        assert!(row < self.out() && to.len() == self.input(), "copy_row: outside the matrix");
        let mut opened = [0.0; BLOCK * BLOCK];
        for (block, to) in to.chunks_mut(BLOCK).enumerate() {
            let inputs = block * BLOCK..block * BLOCK + to.len();
            self.open(level, row / BLOCK, inputs, &mut opened);
            for (value, lanes) in to.iter_mut().zip(opened.chunks_exact(BLOCK)) {
                *value = lanes[row % BLOCK];
            }
        }
    }

    /// The matrix in row-major order.
    pub fn to_rows(&self, level: Level) -> Vec<f32> {
        let (out, input) = (self.out(), self.input());
        let mut rows = vec![0.0; out * input];
        parallel_chunks(&mut rows, (BLOCK * input).max(1), |panel, to| {
            let mut opened = [0.0; BLOCK * BLOCK];
            for start in (0..input).step_by(BLOCK) {
                let inputs = start..input.min(start + BLOCK);
                self.open(level, panel, inputs.clone(), &mut opened);
                for (lane, row) in to.chunks_exact_mut(input).enumerate() {
                    for (k, value) in row[inputs.clone()].iter_mut().enumerate() {
                        *value = opened[k * BLOCK + lane];
                    }
                }
            }
        });
        rows
    }
}

/// A matrix `[out, in]` in panels of 32 outputs: `[out/32][in][32]`, both sides padded to whole blocks. With an operand
/// of several numbers to a word, `in` counts words.
///
/// The padding never enters a result: a product sums over exactly the given depth and writes exactly the given columns.
///
/// One copy in single precision serves both products: `x·Wᵀ` reads a panel as rows of 32 outputs, `dy·W` reads the same
/// numbers as rows of one input each.
#[derive(Debug)]
pub struct PackedMatrix<O = Single> {
    data: Buffer,
    out: usize,
    input: usize,
    operand: PhantomData<O>,
}

impl<O: Operand> PackedMatrix<O> {
    /// Packs a row-major matrix. Each row begins `stride` elements after the one before it.
    ///
    /// # Panics
    /// When `from` is too short.
    pub fn new(level: Level, operand: O, from: &[f32], out: usize, input: usize, stride: usize) -> Self {
        assert!(out == 0 || from.len() >= (out - 1) * stride + input, "pack: not [out, in]");
        Self::from_panels(out, input, |panel, to| {
            let first = panel * BLOCK;
            operand.pack_panel(level, &from[first * stride..], (out - first).min(BLOCK), input, stride, to);
        })
    }

    /// A matrix whose panels are written by a function, on all threads.
    pub fn from_panels(out: usize, input: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Self {
        let mut packed = Self::unset(out, input);
        let panel_len = packed.panel_len().max(1);
        parallel_chunks(&mut packed.data, panel_len, write);
        packed
    }

    /// Rows of the matrix.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Columns of the matrix.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Words per panel.
    pub fn panel_len(&self) -> usize {
        self.input.next_multiple_of(BLOCK) / O::NUMBERS * BLOCK
    }

    /// All panels, one after the other.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All panels, for overwriting.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// A matrix with arbitrary values, to be overwritten.
    pub fn unset(out: usize, input: usize) -> Self {
        Self { data: Buffer::new(Self::len(out, input)), out, input, operand: PhantomData }
    }

    /// Words of a matrix, with the padding of both sides.
    fn len(out: usize, input: usize) -> usize {
        out.next_multiple_of(BLOCK) * input.next_multiple_of(BLOCK) / O::NUMBERS
    }
}

/// The left-hand side of a product: rows packed in tiles of `tile_rows` rows, each `[depth/32][tile_rows][32]`. With an
/// operand of several numbers to a word, 32 numbers are fewer words.
///
/// The padding of the last tile, and of the last block in single precision, has arbitrary values. It never enters a result.
#[derive(Debug)]
pub struct Left<O = Single> {
    data: Buffer,
    rows: usize,
    depth: usize,
    tile_rows: usize,
    operand: PhantomData<O>,
}

impl<O: Operand> Left<O> {
    /// Packs `rows` rows, each of which is a slice.
    pub fn new<'a>(
        level: Level,
        operand: O,
        rows: usize,
        depth: usize,
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        Self::with_tile_rows(level, operand, operand.tile_rows(level), rows, depth, row)
    }

    /// As [`new`](Self::new), with a given number of rows per tile.
    pub fn with_tile_rows<'a>(
        level: Level,
        operand: O,
        tile_rows: usize,
        rows: usize,
        depth: usize,
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        let (blocks, words) = (depth.div_ceil(BLOCK), BLOCK / O::NUMBERS);
        let mut data = Buffer::new(rows.div_ceil(tile_rows) * blocks * tile_rows * words);
        parallel_chunks(&mut data, blocks * tile_rows * words, |tile, to| {
            for (i, row) in (tile * tile_rows..rows.min((tile + 1) * tile_rows)).map(&row).enumerate() {
                for (block, from) in row[..depth].chunks(BLOCK).enumerate() {
                    operand.pack_row(level, from, &mut to[(block * tile_rows + i) * words..][..words]);
                }
            }
        });
        Self { data, rows, depth, tile_rows, operand: PhantomData }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn depth(&self) -> usize {
        self.depth
    }

    pub fn tile_rows(&self) -> usize {
        self.tile_rows
    }

    /// Words per block of a tile.
    pub fn block_len(&self) -> usize {
        self.tile_rows * (BLOCK / O::NUMBERS)
    }

    /// Words per tile.
    pub fn tile_len(&self) -> usize {
        self.depth.div_ceil(BLOCK) * self.block_len()
    }

    /// The data from the given tile on.
    pub fn tiles_from(&self, tile: usize) -> &[f32] {
        &self.data[tile * self.tile_len()..]
    }
}

dispatch! {
    /// Transposes up to 32 rows into the columns of a panel.
    pub fn pack_panel(from: &[f32], rows: usize, depth: usize, stride: usize, to: &mut [f32]) = pack_panel_with
}

#[inline(always)]
fn pack_panel_with<S: Simd>(simd: S, from: &[f32], rows: usize, depth: usize, stride: usize, to: &mut [f32]) {
    for first in (0..rows).step_by(LANES) {
        let lanes = (rows - first).min(LANES);
        for k in (0..depth).step_by(LANES) {
            let columns = (depth - k).min(LANES);
            // Sixteen elements of each row are loaded. Where a row ends earlier, the elements after its end are loaded
            // too and not used.
            if lanes == LANES && from.len() >= (first + LANES - 1) * stride + k + LANES {
                let mut square = [simd.splat(0.0); LANES];
                for (lane, row) in square.iter_mut().enumerate() {
                    *row = simd.load(&from[(first + lane) * stride + k..]);
                }
                for (i, column) in simd.transpose(square).into_iter().take(columns).enumerate() {
                    simd.store(column, &mut to[(k + i) * BLOCK + first..]);
                }
            } else {
                for lane in 0..lanes {
                    for (i, &value) in from[(first + lane) * stride + k..][..columns].iter().enumerate() {
                        to[(k + i) * BLOCK + first + lane] = value;
                    }
                }
            }
        }
    }
}
