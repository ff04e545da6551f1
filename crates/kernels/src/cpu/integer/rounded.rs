//! Rows rounded to eight bits.

use super::ROWS;
use crate::cpu::matrix::BLOCK;
use crate::cpu::simd::{LANES, Level, Simd, dispatch};

/// Rows in eight bits, in runs of [`ROWS`] rows. Within a run, block by block.
#[derive(Clone, Debug, Default)]
pub struct Rounded {
    /// `[runs][in/32][rows of the run]`
    cells: Vec<Cell>,
    blocks: usize,
}

/// 32 elements of a row: `x ≈ unit · number`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Four numbers per word.
    pub words: [i32; 8],
    pub unit: f32,
    /// The sum of the first sixteen numbers and that of the last sixteen, each multiplied by the unit.
    pub sums: [f32; 2],
    /// The sum of all numbers, multiplied by the unit.
    pub sum: f32,
}

impl Rounded {
    /// Rounds rows of a multiple of 32 elements, and replaces the previous rows. If a row has an element that is not
    /// finite, all its products are NaN.
    pub fn set(&mut self, level: Level, x: &[f32], rows: usize) {
        let blocks = x.len() / rows.max(1) / BLOCK;
        self.blocks = blocks;
        self.cells.resize(rows * blocks, Cell::default());
        for (run, cells) in self.cells.chunks_mut((ROWS * blocks).max(1)).enumerate() {
            let rows = cells.len() / blocks;
            for row in 0..rows {
                let x = &x[(run * ROWS + row) * blocks * BLOCK..][..blocks * BLOCK];
                round(level, x, cells, row, rows);
            }
        }
    }

    /// The cells of the first `rows` rows of a run.
    pub fn run(&self, run: usize, rows: usize) -> &[Cell] {
        &self.cells[run * ROWS * self.blocks..][..rows * self.blocks]
    }
}

dispatch! {
    fn round(x: &[f32], cells: &mut [Cell], row: usize, rows: usize) = round_with
}

#[inline(always)]
fn round_with<S: Simd>(simd: S, x: &[f32], cells: &mut [Cell], row: usize, rows: usize) {
    // Zero, unless an element is infinite or NaN: eight bits cannot represent these.
    let mut poison = simd.splat(0.0);
    for (x, cell) in x.chunks_exact(BLOCK).zip(cells.iter_mut().skip(row).step_by(rows)) {
        let (low, high) = (simd.load(x), simd.load(&x[LANES..]));
        poison = simd.fma(high, simd.splat(0.0), simd.fma(low, simd.splat(0.0), poison));
        let (largest, least) = (simd.max(low, high), simd.min(low, high));
        cell.unit = simd.max_lane(simd.max(largest, simd.sub(simd.splat(0.0), least))) / 127.0;
        let inverse = simd.splat(if cell.unit > 0.0 { 1.0 / cell.unit } else { 0.0 });
        let (to_low, to_high) = cell.words.split_at_mut(4);
        let sums = [simd.to_i8(simd.mul(low, inverse), to_low), simd.to_i8(simd.mul(high, inverse), to_high)];
        cell.sums = [sums[0] as f32 * cell.unit, sums[1] as f32 * cell.unit];
        cell.sum = (sums[0] as f32 + sums[1] as f32) * cell.unit;
    }
    if simd.sum(poison) != 0.0 {
        cells.iter_mut().skip(row).step_by(rows).for_each(|cell| cell.unit = f32::NAN);
    }
}
