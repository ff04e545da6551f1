//! Projections of few rows. A decoding step reads every weight once, and this reading takes most of its time.

mod low;

use super::buffer::Buffer;
use super::integer::{self, Rounded};
use super::linear::{BaseView, Projections};
use super::matrix::{BLOCK, Blocks, Left, Matrix, pack_panel};
use super::pool::{DisjointParts, parallel_streams};
use super::product::{EMPTY, Single, Term, Tile, sum_tile};
use super::simd::Level;
pub use low::Halves;
use low::{LaneLow, Low};

/// How many inputs of a weight are expanded at once. The result must fit in the first-level cache.
pub const OPEN: usize = 128;

/// Into how many ranges of panels a thread's part is split: few, so that memory is read in long runs.
const CHUNKS: usize = 8;

/// The largest number of rows for this path.
pub const FEW: usize = 32;

/// Scratch buffers for projections of few rows, reused between calls.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    rounded: Rounded,
    /// The low-rank values of the adapters.
    low: Vec<f32>,
}

/// Computes all projections of `x` (`[rows, in]`) in one parallel region. Each is written to its output `[rows, out]`,
/// or added to it where `add` is set. With `integers`, `x` is rounded to eight bits and quantised weights are
/// multiplied as integers.
///
/// The result of a row does not depend on the other rows.
///
/// # Panics
/// When the lengths do not fit together, or an adapter has a dropout mask.
pub fn project_few<const N: usize>(
    level: Level,
    x: &[f32],
    projections: Projections<'_, N>,
    outs: [&mut [f32]; N],
    add: bool,
    integers: bool,
    scratch: &mut Scratch,
) {
    let Projections { bases, spans } = projections;
    let Scratch { rounded, low: room } = scratch;
    let rows = Rows::new(level, x, &bases, integers, rounded);
    let low = Low::new(x, rows.count, spans);
    let places = low.places(level, room);
    let mut outs = outs;
    let (mut panels, mut index, mut places_of) = (0, 0, outs.iter_mut());
    let jobs = bases.each_ref().map(|base| {
        let out = &mut **places_of.next().expect("as many outputs as projections");
        assert_eq!(out.len(), rows.count * base.weight.out(), "projection: output is not [rows, out]");
        let job = Share {
            base,
            index,
            first: panels,
            input: rows.meet(base),
            rows: &rows,
            out: DisjointParts::new(out),
            add,
        };
        panels += base.weight.out().div_ceil(BLOCK);
        index += 1;
        job
    });
    let opens = jobs.iter().any(Share::opens);
    let begin = |lane| Lane {
        tile: EMPTY,
        opened: Buffer::new(if opens { OPEN * BLOCK } else { 0 }),
        b: low.panel(),
        low: low.of_lane(&places, lane),
    };
    parallel_streams(panels, CHUNKS, begin, |lane, panels| {
        for panel in panels {
            let job = jobs.iter().rfind(|job| job.first <= panel).expect("the first begins at 0");
            job.panel(level, panel - job.first, &low, lane);
        }
    });
    bases.iter().zip(outs).for_each(|(base, out)| base.add_bias(level, out));
}

/// The input rows in the forms that the weights need, in tiles.
struct Rows<'a> {
    count: usize,
    tile_rows: usize,
    rounded: &'a Rounded,
    exact: Option<Left>,
    integers: bool,
}

/// The input rows in the form that one weight needs.
enum Input<'a> {
    Exact(&'a Left),
    /// A single row. It meets each weight once, so expanding the weight into a buffer first gains nothing.
    Row(&'a [f32], &'a Blocks),
    Rounded(&'a Rounded, &'a Blocks),
}

impl<'a> Rows<'a> {
    fn new(level: Level, x: &[f32], bases: &[BaseView<'_>], integers: bool, rounded: &'a mut Rounded) -> Self {
        let width = bases[0].weight.input();
        let count = x.len().checked_div(width).unwrap_or(0);
        assert_eq!(x.len(), count * width, "projection: input is not [rows, in]");
        let is_rounded = |base: &BaseView<'_>| as_integers(base, integers).is_some();
        let any_rounded = bases.iter().any(is_rounded);
        if any_rounded {
            rounded.set(level, x, count);
        }
        // A tile covers whole runs of the rows that are multiplied as integers.
        let most = if any_rounded { integer::ROWS } else { level.tile_rows() };
        let tile_rows = most.min(count.max(1));
        let exact = (!bases.iter().all(is_rounded))
            .then(|| Left::with_tile_rows(level, Single, tile_rows, count, width, |row| &x[row * width..][..width]));
        Self { count, tile_rows, rounded, exact, integers }
    }

    fn meet<'b>(&'b self, base: &BaseView<'b>) -> Input<'b> {
        if let Some(blocks) = as_integers(base, self.integers) {
            return Input::Rounded(self.rounded, blocks);
        }
        let exact = self.exact.as_ref().expect("rows are packed where a weight is not multiplied as integers");
        match base.weight {
            Matrix::Blocks(blocks) if self.count == 1 => Input::Row(&exact.tiles_from(0)[..exact.depth()], blocks),
            _ => Input::Exact(exact),
        }
    }
}

/// The weight's blocks, if it is multiplied as integers.
fn as_integers<'a>(base: &BaseView<'a>, integers: bool) -> Option<&'a Blocks> {
    match base.weight {
        Matrix::Blocks(blocks) if integers && integer::is_integer(blocks) => Some(blocks),
        _ => None,
    }
}

/// The work for one projection.
struct Share<'a> {
    base: &'a BaseView<'a>,
    /// Its index among the projections.
    index: usize,
    /// The index of its first panel among the panels of all projections.
    first: usize,
    input: Input<'a>,
    rows: &'a Rows<'a>,
    out: DisjointParts<'a>,
    add: bool,
}

/// The scratch memory of one thread.
struct Lane<'a> {
    tile: Tile,
    opened: Buffer,
    /// A panel of an adapter's B, if B is in single precision.
    b: Buffer,
    low: LaneLow<'a>,
}

impl Share<'_> {
    /// Whether the weight is expanded before it is multiplied.
    fn opens(&self) -> bool {
        matches!(self.input, Input::Exact(_)) && self.base.weight.full().is_none()
    }

    fn panel<const N: usize>(&self, level: Level, panel: usize, low: &Low<'_, N>, lane: &mut Lane<'_>) {
        let Lane { tile, opened, b, low: of_lane } = lane;
        let (weight, column) = (self.base.weight, panel * BLOCK);
        let columns = BLOCK.min(weight.out() - column);
        low.prefetch(self.index, column);
        // The span whose panel of B is in `b`.
        let mut packed = None;
        for (at, first) in (0..self.rows.count).step_by(self.rows.tile_rows).enumerate() {
            let count = self.rows.tile_rows.min(self.rows.count - first);
            self.sum(level, panel, at, &mut tile[..count], opened);
            for (span, adapter, rows) in low.spans(self.index, first..first + count) {
                if adapter.halves.is_none() && packed.replace(span) != Some(span) {
                    pack_panel(level, &adapter.b[column * adapter.r..], columns, adapter.r, adapter.r, b);
                }
                let values = of_lane.values(|to| low.compute(level, to));
                for row in rows {
                    low::add(level, adapter, column, b, low.of_row(values, self.index, row), &mut tile[row - first]);
                }
            }
            for (row, sums) in tile[..count].iter().enumerate() {
                // SAFETY: this is row `first + row` of the output, columns `column..column + columns`. `column` and
                // `columns` belong to this panel alone, the rows of one call are distinct, and `parallel_streams` gives
                // each panel to one thread once. So no other thread writes these elements.
                let to = unsafe { self.out.part((first + row) * weight.out() + column, columns) };
                match self.add {
                    true => to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum),
                    false => to.copy_from_slice(&sums[..columns]),
                }
            }
        }
    }

    /// The product of one tile of the rows with one panel of the weight.
    fn sum(&self, level: Level, panel: usize, at: usize, tile: &mut [[f32; BLOCK]], opened: &mut [f32]) {
        match self.input {
            Input::Rounded(x, blocks) => integer::sum(level, blocks, panel, x, at, tile),
            Input::Row(x, blocks) => {
                tile[0] = [0.0; BLOCK];
                blocks.add_row(level, panel, x, OPEN, &mut tile[0]);
            }
            Input::Exact(x) => {
                let weight = self.base.weight;
                tile.fill([0.0; BLOCK]);
                // The sums are split into the same runs for every storage of the weight, so the results are the same.
                for start in (0..x.depth()).step_by(OPEN) {
                    let inputs = start..x.depth().min(start + OPEN);
                    let weights = match weight.full() {
                        Some(packed) => &packed.data()[panel * packed.panel_len() + start * BLOCK..],
                        None => {
                            weight.open(level, panel, inputs.clone(), opened);
                            &opened[..]
                        }
                    };
                    plus(level, term(x, at, weights, inputs), tile);
                }
            }
        }
    }
}

/// The product of a tile's rows with a panel's weights, over a range of inputs.
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
fn plus(level: Level, term: Term<'_>, tile: &mut [[f32; BLOCK]]) {
    let mut more = EMPTY;
    sum_tile(level, &[term], tile.len(), &mut more);
    for (row, more) in tile.iter_mut().zip(&more) {
        row.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
}
