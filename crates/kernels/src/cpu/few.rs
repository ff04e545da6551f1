//! Projections of few rows: a step of decoding reads every weight once, and does little else.

use super::buffer::Buffer;
use super::integer::{self, Rounded};
use super::linear::{Adapter, Linear};
use super::matrix::{BLOCK, Blocks, Left, Matrix, pack_panel};
use super::number::{F16, Number, halve};
use super::pool::{MOST_LANES, Parts, parallel, parallel_streams};
use super::product::{EMPTY, Term, Tile, sum_tile};
use super::rows::{dots, dots_half};
use super::simd::{LANES, Level, Simd, dispatch, prefetch};

/// Inputs of a weight that are opened at once: what comes of them stays in the first-level cache.
const OPEN: usize = 128;

/// Ranges of panels that a thread's part is taken in: few, so that memory is read in long runs.
const CHUNKS: usize = 8;

/// The most rows that go this way.
pub const FEW: usize = 32;

/// With so few rows every thread computes what the adapters make of the input by itself: that takes less than to share it.
const ALONE: usize = 2;

/// An adapter in half precision, as few rows meet it.
#[derive(Debug)]
pub struct Halves {
    /// `[r, in]`
    a: Vec<F16>,
    /// `[out/32][r][32]`
    b: Vec<F16>,
}

impl Halves {
    /// Of A (`[r, in]`) and B (`[out, r]`).
    pub fn new(level: Level, a: &[f32], b: &[f32], r: usize) -> Self {
        let out = b.len() / r;
        let mut panels = vec![0.0; out.next_multiple_of(BLOCK) * r];
        for (panel, to) in panels.chunks_exact_mut(BLOCK * r).enumerate() {
            pack_panel(level, &b[panel * BLOCK * r..], BLOCK.min(out - panel * BLOCK), r, r, to);
        }
        let [a, b] = [a, &panels].map(|values| {
            let mut halved = vec![F16::default(); values.len()];
            halve(level, values, &mut halved, 1);
            halved
        });
        Self { a, b }
    }
}

/// What projections of few rows write on, kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rounded: Rounded,
    /// What the adapters make of the input: of each thread, or of all.
    lows: Vec<f32>,
}

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
    linears: [Linear<'_>; N],
    outs: [&mut [f32]; N],
    add: bool,
    integers: bool,
    scratch: &mut Scratch,
) {
    let width = linears[0].weight.input();
    let rows = x.len().checked_div(width).unwrap_or(0);
    assert_eq!(x.len(), rows * width, "projection: input is not [rows, in]");
    let Scratch { rounded, lows } = scratch;
    let any_rounded = linears.iter().any(|linear| as_integers(linear, integers).is_some());
    if any_rounded {
        rounded.set(level, x, rows);
    }
    // Whole runs of what is multiplied as integers.
    let most = if any_rounded { integer::ROWS } else { level.tile_rows() };
    let tile_rows = most.min(rows.max(1));
    let exact = linears
        .iter()
        .any(|linear| as_integers(linear, integers).is_none())
        .then(|| Left::with_tile_rows(tile_rows, rows, width, |row| &x[row * width..][..width]));
    let low = Low::new(x, rows, &linears);
    let alone = rows <= ALONE;
    // No two threads write to one line of the cache.
    let stride = low.len() + BLOCK;
    let len = if alone { MOST_LANES * stride } else { low.len() };
    if lows.len() < len {
        lows.resize(len, 0.0);
    }
    let (shared, own) = match alone {
        true => (None, Some(Parts::new(lows))),
        false => {
            low.compute_together(level, &mut lows[..len]);
            (Some(&lows[..]), None)
        }
    };
    let (mut panels, mut of_low) = (0, 0);
    let mut outs = outs.into_iter();
    let jobs = linears.each_ref().map(|linear| {
        let out = outs.next().expect("as many outputs as projections");
        assert_eq!(out.len(), rows * linear.weight.out(), "projection: output is not [rows, out]");
        let first_low = of_low;
        if let Some(adapter) = &linear.adapter {
            assert!(adapter.mask.is_none(), "projection: dropout where nothing is trained");
            of_low += rows * adapter.r;
        }
        let input = match (as_integers(linear, integers), &exact) {
            (Some(blocks), _) => Input::Rounded(rounded, blocks),
            (None, Some(exact)) => Input::Exact(exact),
            (None, None) => unreachable!("rows are packed where a weight is not multiplied as integers"),
        };
        let first = panels;
        panels += linear.weight.out().div_ceil(BLOCK);
        Job { linear, first, input, first_low, rows, tile_rows, out: Parts::new(out), add }
    });
    let of_full = low.adapters().filter(|adapter| adapter.halves.is_none());
    let most_r = of_full.map(|adapter| adapter.r).max().unwrap_or(0);
    let opens = jobs.iter().any(|job| matches!(job.input, Input::Exact(_)) && job.linear.weight.full().is_none());
    let begin = |lane| {
        // SAFETY: each lane begins once, and the parts of two do not overlap.
        let own = own.as_ref().map(|lows| unsafe { lows.part(lane * stride, low.len()) });
        if own.is_some() {
            low.fetch();
        }
        Lane {
            tile: EMPTY,
            opened: Buffer::new(if opens { OPEN * BLOCK } else { 0 }),
            b: Buffer::new(most_r * BLOCK),
            low: own,
            low_is_set: false,
        }
    };
    parallel_streams(panels, CHUNKS, begin, |lane, panels| {
        for panel in panels {
            let job = jobs.iter().rfind(|job| job.first <= panel).expect("the first begins at 0");
            job.panel(level, panel - job.first, shared, &low, lane);
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
struct Low<'a, const N: usize> {
    x: &'a [f32],
    rows: usize,
    adapters: [Option<&'a Adapter<'a>>; N],
}

impl<'a, const N: usize> Low<'a, N> {
    fn new(x: &'a [f32], rows: usize, linears: &'a [Linear<'a>; N]) -> Self {
        Self { x, rows, adapters: linears.each_ref().map(|linear| linear.adapter.as_ref()) }
    }

    fn adapters(&self) -> impl Iterator<Item = &'a Adapter<'a>> {
        self.adapters.into_iter().flatten()
    }

    fn len(&self) -> usize {
        self.rows * self.adapters().map(|adapter| adapter.r).sum::<usize>()
    }

    /// What all adapters make of a row, each in its place.
    fn row(&self, level: Level, row: usize, low: &Parts<'_>) {
        let width = self.x.len() / self.rows;
        let x = &self.x[row * width..][..width];
        let mut first = 0;
        for adapter in self.adapters() {
            // SAFETY: each row of an adapter has a place of its own, and each is computed once.
            let low = unsafe { low.part(first + row * adapter.r, adapter.r) };
            match adapter.halves {
                Some(halves) => dots_half(level, x, &halves.a, low),
                None => dots(level, x, adapter.a, low),
            }
            low.iter_mut().for_each(|low| *low *= adapter.scale);
            first += self.rows * adapter.r;
        }
    }

    fn compute(&self, level: Level, low: &mut [f32]) {
        let parts = Parts::new(low);
        (0..self.rows).for_each(|row| self.row(level, row, &parts));
    }

    /// As [`compute`](Self::compute), on all threads.
    fn compute_together(&self, level: Level, low: &mut [f32]) {
        let parts = Parts::new(low);
        parallel(self.rows, |row| self.row(level, row, &parts));
    }

    /// Asks for what the input meets of the adapters.
    fn fetch(&self) {
        self.adapters().filter_map(|adapter| adapter.halves).for_each(|halves| prefetch(&halves.a));
    }
}

/// One projection's share.
struct Job<'a> {
    linear: &'a Linear<'a>,
    /// Its first panel among all.
    first: usize,
    input: Input<'a>,
    /// Where that which the adapter makes of the input begins, among that of all.
    first_low: usize,
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
struct Lane<'a> {
    tile: Tile,
    opened: Buffer,
    /// A panel of an adapter's B, where it is in single precision.
    b: Buffer,
    /// What the adapters make of the input, where each thread computes it: once a first panel has given the adapters time to
    /// come from memory.
    low: Option<&'a mut [f32]>,
    low_is_set: bool,
}

impl Job<'_> {
    fn panel<const N: usize>(
        &self,
        level: Level,
        panel: usize,
        shared: Option<&[f32]>,
        lows: &Low<'_, N>,
        lane: &mut Lane<'_>,
    ) {
        let Lane { tile, opened, b, low, low_is_set } = lane;
        let (weight, column) = (self.linear.weight, panel * BLOCK);
        let columns = BLOCK.min(weight.out() - column);
        if let Some(adapter) = &self.linear.adapter {
            match adapter.halves {
                Some(halves) => prefetch(&halves.b[column * adapter.r..][..BLOCK * adapter.r]),
                None => pack_panel(level, &adapter.b[column * adapter.r..], columns, adapter.r, adapter.r, b),
            }
        }
        for (at, first) in (0..self.rows).step_by(self.tile_rows).enumerate() {
            let count = self.tile_rows.min(self.rows - first);
            match self.input {
                Input::Rounded(x, blocks) => integer::sum(level, blocks, panel, x, at, &mut tile[..count]),
                // One row that meets each weight once: nothing is gained by opening it first.
                Input::Exact(x)
                    if self.rows == 1
                        && let Matrix::Blocks(blocks) = weight =>
                {
                    tile[0] = [0.0; BLOCK];
                    blocks.add_row(level, panel, &x.tiles_from(at)[..x.depth()], OPEN, &mut tile[0]);
                }
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
            if let Some(&Adapter { r, halves, .. }) = self.linear.adapter.as_ref() {
                if let (Some(low), false) = (low.as_deref_mut(), *low_is_set) {
                    lows.compute(level, low);
                    *low_is_set = true;
                }
                let low = shared.or(low.as_deref()).expect("computed together or alone");
                for (low, sums) in low[self.first_low + first * r..].chunks_exact(r).zip(&mut tile[..count]) {
                    match halves {
                        Some(halves) => add_low_half(level, low, &halves.b[column * r..], sums),
                        None => add_low(level, low, b, sums),
                    }
                }
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

dispatch! {
    /// Adds `low` (`[r]`) times a panel of B (`[r][32]`).
    fn add_low(low: &[f32], b: &[f32], sums: &mut [f32; BLOCK]) = add_low_with
}

dispatch! {
    /// As [`add_low`], in half precision.
    fn add_low_half(low: &[f32], b: &[F16], sums: &mut [f32; BLOCK]) = add_low_with
}

#[inline(always)]
fn add_low_with<S: Simd, T: Number>(simd: S, low: &[f32], b: &[T], sums: &mut [f32; BLOCK]) {
    let (mut left, mut right) = (simd.splat(0.0), simd.splat(0.0));
    for (low, b) in low.iter().zip(b.as_chunks::<BLOCK>().0) {
        let low = simd.splat(*low);
        left = simd.fma(low, T::load(simd, b), left);
        right = simd.fma(low, T::load(simd, &b[LANES..]), right);
    }
    simd.store(simd.add(simd.load(sums), left), sums);
    simd.store(simd.add(simd.load(&sums[LANES..]), right), &mut sums[LANES..]);
}
