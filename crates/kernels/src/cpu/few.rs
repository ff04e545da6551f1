//! Projections of few rows: a step of decoding reads every weight once, and does little else.

use super::buffer::Buffer;
use super::integer::{self, Rounded};
use super::linear::{Adapter, Linear};
use super::matrix::{BLOCK, Blocks, Left, Matrix, pack_panel};
use super::pool::{Parts, parallel_chunks, parallel_streams, threads};
use super::product::{EMPTY, Term, Tile, sum_tile};
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
    let rounded =
        linears.iter().any(|linear| as_integers(linear, integers).is_some()).then(|| Rounded::new(level, x, rows));
    // Whole runs of what is multiplied as integers.
    let most = if rounded.is_some() { integer::ROWS } else { level.tile_rows() };
    let tile_rows = most.min(rows.max(1));
    let left = |values: &[f32], width: usize| {
        Left::with_tile_rows(tile_rows, rows, width, |row| &values[row * width..][..width])
    };
    let exact = linears.iter().any(|linear| as_integers(linear, integers).is_none()).then(|| left(x, width));
    let low = low(level, x, rows, width, &linears);
    let (mut panels, mut of_low) = (0, &low[..]);
    let mut outs = outs.into_iter();
    let jobs = linears.map(|linear| {
        let out = outs.next().expect("as many outputs as projections");
        assert_eq!(out.len(), rows * linear.weight.out(), "projection: output is not [rows, out]");
        let low = linear.adapter.map(|adapter| {
            assert!(adapter.mask.is_none(), "projection: dropout where nothing is trained");
            let (own, rest) = of_low.split_at(rows * adapter.r);
            of_low = rest;
            left(own, adapter.r)
        });
        let input = match (as_integers(&linear, integers), &rounded, &exact) {
            (Some(blocks), Some(rounded), _) => Input::Rounded(rounded, blocks),
            (_, _, Some(exact)) => Input::Exact(exact),
            _ => unreachable!("rows are packed where a weight is not multiplied as integers"),
        };
        let first = panels;
        panels += linear.weight.out().div_ceil(BLOCK);
        Job { linear, first, input, low, rows, tile_rows, out: Parts::new(out), add }
    });
    let most_r = linears.iter().filter_map(|linear| linear.adapter).map(|adapter| adapter.r).max().unwrap_or(0);
    let opens = jobs.iter().any(|job| matches!(job.input, Input::Exact(_)) && job.linear.weight.full().is_none());
    let begin = || Scratch {
        tile: EMPTY,
        opened: Buffer::new(if opens { OPEN * BLOCK } else { 0 }),
        b: Buffer::new(most_r * BLOCK),
    };
    parallel_streams(panels, begin, |scratch, panels| {
        for panel in panels {
            let job = jobs.iter().rfind(|job| job.first <= panel).expect("the first begins at 0");
            job.panel(level, panel - job.first, scratch);
        }
    });
}

/// The blocks of a weight that is multiplied as integers.
fn as_integers<'a>(linear: &Linear<'a>, integers: bool) -> Option<&'a Blocks> {
    match linear.weight {
        Matrix::Blocks(blocks) if integers && integer::is_integer(blocks) => Some(blocks),
        _ => None,
    }
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
    input: Input<'a>,
    /// What the adapter made of the input.
    low: Option<Left>,
    rows: usize,
    tile_rows: usize,
    out: Parts<'a>,
    add: bool,
}

/// The rows as a weight meets them.
enum Input<'a> {
    Exact(&'a Left),
    Rounded(&'a Rounded, &'a Blocks),
}

/// What a thread writes on.
struct Scratch {
    tile: Tile,
    opened: Buffer,
    /// A panel of the adapter's B.
    b: Buffer,
}

impl Job<'_> {
    fn panel(&self, level: Level, panel: usize, scratch: &mut Scratch) {
        let Scratch { tile, opened, b } = scratch;
        let (weight, column) = (self.linear.weight, panel * BLOCK);
        let columns = BLOCK.min(weight.out() - column);
        if let Some(Adapter { b: from, r, .. }) = self.linear.adapter {
            pack_panel(level, &from[column * r..], columns, r, r, b);
        }
        for (at, first) in (0..self.rows).step_by(self.tile_rows).enumerate() {
            let count = self.tile_rows.min(self.rows - first);
            match self.input {
                Input::Rounded(x, blocks) => integer::sum(level, blocks, panel, x, at, &mut tile[..count]),
                Input::Exact(x) => {
                    tile[..count].fill([0.0; BLOCK]);
                    // In the same runs however the weight is stored, so that the sums are the same.
                    for start in (0..x.depth()).step_by(OPEN) {
                        let inputs = start..x.depth().min(start + OPEN);
                        let weights = match weight.full() {
                            Some(packed) => &packed.data()[panel * packed.panel_len() + start * BLOCK..],
                            None => {
                                weight.open(level, panel, inputs.clone(), opened);
                                &opened[..]
                            }
                        };
                        plus(level, term(x, at, weights, inputs), count, tile);
                    }
                }
            }
            if let Some(low) = &self.low {
                plus(level, term(low, at, b, 0..low.depth()), count, tile);
            }
            for (row, sums) in tile[..count].iter().enumerate() {
                // SAFETY: panels of one output do not overlap, and each is computed once.
                let to = unsafe { self.out.part((first + row) * weight.out() + column, columns) };
                match self.add {
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

/// Adds a product to a tile.
fn plus(level: Level, term: Term<'_>, rows: usize, tile: &mut Tile) {
    let mut more = EMPTY;
    sum_tile(level, &[term], rows, &mut more);
    for (row, more) in tile.iter_mut().zip(&more).take(rows) {
        row.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
}
