//! Projections of few rows: a step of decoding reads every weight once, and does little else.

use super::buffer::Buffer;
use super::integer::{self, Rounded};
use super::linear::{Adapter, Linear};
use super::matrix::{BLOCK, Left, Matrix, pack_panel};
use super::pool::{Parts, parallel, parallel_chunks, threads};
use super::product::{EMPTY, NOTHING, Term, Tile, sum_tile};
use super::rows::dot;
use super::simd::Level;

/// Inputs of a weight that are opened at once: what comes of them stays in the first-level cache.
const OPEN: usize = 128;

/// The most rows that go this way.
pub const FEW: usize = 32;

/// Runs all projections on `x` (`[rows, in]`), each into its `[rows, out]`, or adds to it where `add` is set, in one parallel
/// region. With `integers`, quantised weights are multiplied as integers, with `x` rounded to eight bits.
///
/// Each row's result is the same whatever rows there are beside it.
///
/// # Panics
/// When the lengths do not fit together. Dropout masks are not for this path.
pub fn project_few<const N: usize>(
    level: Level,
    x: &[f32],
    rows: usize,
    linears: [Linear<'_>; N],
    outs: [&mut [f32]; N],
    add: bool,
    integers: bool,
) {
    let width = linears[0].weight.input();
    assert_eq!(x.len(), rows * width, "projection: input is not [rows, in]");
    let is_integer = |linear: &Linear<'_>| {
        integers && matches!(linear.weight, Matrix::Blocks(blocks) if integer::is_integer(blocks))
    };
    let rounded = linears.iter().any(is_integer).then(|| Rounded::new(level, x, rows));
    // Whole runs of what is multiplied as integers.
    let most = if rounded.is_some() { integer::ROWS } else { level.tile_rows() };
    let tile_rows = most.min(rows.max(1));
    let left = |values: &[f32], width: usize| {
        Left::with_tile_rows(tile_rows, rows, width, |row| &values[row * width..][..width])
    };
    let exact = (!linears.iter().all(is_integer)).then(|| left(x, width));
    let low = low(level, x, rows, width, &linears);
    let mut at = 0;
    let lows = linears.map(|linear| {
        let adapter = linear.adapter?;
        assert!(adapter.mask.is_none(), "projection: dropout where nothing is trained");
        at += rows * adapter.r;
        Some(left(&low[at - rows * adapter.r..at], adapter.r))
    });
    let mut panels = 0;
    let jobs: [Job<'_>; N] = {
        let mut at = 0;
        outs.map(|out| {
            let linear = linears[at];
            assert_eq!(out.len(), rows * linear.weight.out(), "projection: output is not [rows, out]");
            let job = Job {
                linear,
                first: panels,
                low: lows[at].as_ref(),
                out: Parts::new(out),
                rounded: rounded.as_ref().filter(|_| is_integer(&linear)),
            };
            at += 1;
            panels += panels_of(&linear);
            job
        })
    };
    // A run a thread: each reads its part of the weights in one stream.
    let run = panels.div_ceil(threads()).max(1);
    parallel(panels.div_ceil(run), |item| {
        let mut tile = EMPTY;
        let needs_opening = jobs.iter().any(|job| job.rounded.is_none() && job.linear.weight.full().is_none());
        let mut scratch = Buffer::new(if needs_opening { OPEN * BLOCK } else { 0 });
        let mut b = Buffer::new(
            linears.iter().filter_map(|linear| linear.adapter).map(|adapter| adapter.r * BLOCK).max().unwrap_or(0),
        );
        for panel in item * run..panels.min((item + 1) * run) {
            let job = jobs.iter().rfind(|job| job.first <= panel).expect("the first begins at 0");
            job.panel(level, panel - job.first, rows, tile_rows, exact.as_ref(), add, &mut scratch, &mut b, &mut tile);
        }
    });
}

fn panels_of(linear: &Linear<'_>) -> usize {
    linear.weight.out().div_ceil(BLOCK)
}

/// `scale·x·Aᵀ` of each adapter, `[rows, r]`, one after the other.
fn low(level: Level, x: &[f32], rows: usize, width: usize, linears: &[Linear<'_>]) -> Vec<f32> {
    let places: Vec<(f32, &[f32], usize)> = linears
        .iter()
        .filter_map(|linear| linear.adapter)
        .flat_map(|adapter| {
            (0..rows * adapter.r)
                .map(move |at| (adapter.scale, &adapter.a[at % adapter.r * width..][..width], at / adapter.r))
        })
        .collect();
    let mut low = vec![0.0; places.len()];
    let run = places.len().div_ceil(threads()).max(1);
    parallel_chunks(&mut low, run, |item, low| {
        for (low, &(scale, a, row)) in low.iter_mut().zip(&places[item * run..]) {
            *low = scale * dot(level, &x[row * width..][..width], a);
        }
    });
    low
}

/// One projection's share.
struct Job<'a> {
    linear: Linear<'a>,
    /// Its first panel among all.
    first: usize,
    low: Option<&'a Left>,
    out: Parts<'a>,
    /// The rows, where the weight is multiplied as integers.
    rounded: Option<&'a Rounded>,
}

impl Job<'_> {
    #[allow(clippy::too_many_arguments)]
    fn panel(
        &self,
        level: Level,
        panel: usize,
        rows: usize,
        tile_rows: usize,
        exact: Option<&Left>,
        add: bool,
        scratch: &mut [f32],
        b: &mut [f32],
        tile: &mut Tile,
    ) {
        let (weight, column) = (self.linear.weight, panel * BLOCK);
        let columns = BLOCK.min(weight.out() - column);
        if let Some(Adapter { b: from, r, .. }) = self.linear.adapter {
            pack_panel(level, &from[column * r..], columns, r, r, b);
        }
        for first in (0..rows).step_by(tile_rows) {
            let count = tile_rows.min(rows - first);
            let low = self.low.map_or(NOTHING, |low| term(low, first / tile_rows, b, 0..low.depth()));
            match (self.rounded, weight, exact) {
                (Some(x), Matrix::Blocks(blocks), _) => {
                    integer::sum(level, blocks, panel, x, first / tile_rows, &mut tile[..count]);
                    plus(level, &[low], count, tile);
                }
                (_, _, Some(x)) => {
                    tile[..count].fill([0.0; BLOCK]);
                    // In the same runs however the weight is stored, so that the sums are the same.
                    for start in (0..x.depth()).step_by(OPEN) {
                        let inputs = start..x.depth().min(start + OPEN);
                        let opened = match weight.full() {
                            Some(packed) => &packed.data()[panel * packed.panel_len() + start * BLOCK..],
                            None => {
                                weight.open(level, panel, inputs.clone(), scratch);
                                &scratch[..]
                            }
                        };
                        plus(level, &[term(x, first / tile_rows, opened, inputs)], count, tile);
                    }
                    plus(level, &[low], count, tile);
                }
                _ => unreachable!("rows are packed where a weight is not multiplied as integers"),
            }
            for (row, sums) in tile[..count].iter().enumerate() {
                // SAFETY: panels of one output do not overlap, and each is computed once.
                let to = unsafe { self.out.part((first + row) * weight.out() + column, columns) };
                match add {
                    true => to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum),
                    false => to.copy_from_slice(&sums[..columns]),
                }
            }
        }
    }
}

/// A tile's rows, for some of the inputs, against a panel's weights for them.
fn term<'a>(x: &'a Left, tile: usize, panel: &'a [f32], inputs: std::ops::Range<usize>) -> Term<'a> {
    let left_stride = x.tile_rows() * BLOCK;
    Term {
        left: &x.tiles_from(tile)[inputs.start / BLOCK * left_stride..],
        left_stride,
        right: panel,
        right_stride: BLOCK,
        depth: inputs.len(),
    }
}

/// Adds the sum of the terms to a tile.
fn plus(level: Level, terms: &[Term<'_>], rows: usize, tile: &mut Tile) {
    if terms.iter().all(|term| term.depth == 0) {
        return;
    }
    let mut more = EMPTY;
    sum_tile(level, terms, rows, &mut more);
    for (row, more) in tile.iter_mut().zip(&more).take(rows) {
        row.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
}
