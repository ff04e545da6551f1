//! Matrix products over packed operands.
//!
//! One tile does all of them: some rows of a left operand, broadcast element by element, against 32 columns of a right one,
//! with the whole tile of the result in registers. A result is the sum of several products, so that a projection and its
//! low-rank path, or the gradients of three projections of one input, are added before anything is stored.
//!
//! Each element of a result is summed in an order that its place alone decides, so results depend neither on the number
//! of threads nor on who computed what.

mod tile;

use std::ops::Range;

use super::buffer::Buffer;
use super::matrix::{BLOCK, Left, Matrix, Packed};
use super::pool::{Parts, parallel};
use super::simd::{Level, prefetch};
pub use tile::{EMPTY, NOTHING, Term, Tile, sum_tile};
use tile::{Place, tile_product};

/// Depth that is summed at once, so that a panel of it stays in the second-level cache.
const DEPTH: usize = 1536;
/// Above this depth a weight comes from memory, where longer runs of a panel matter more than deeper sums.
const DEEP: usize = 16 << 10;
/// Bytes of the left operand that one item goes over again and again.
const LEFT_BYTES: usize = 384 << 10;
/// The work of an item, in multiplications: some fifty microseconds.
const ITEM: usize = 5 << 20;

/// `x·Wᵀ`, one of several to be added.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// `[rows, in]`
    pub x: &'a Left,
    /// `[out, in]`
    pub weight: &'a Matrix,
}

/// `dy·W`, one of several to be added.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    /// `[rows, out]`
    pub dy: &'a Packed,
    /// `[out, in]`
    pub weight: &'a Matrix,
}

/// `out = Σ x·Wᵀ`, or `out +=` where `add` is set: `[rows, out]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn forward(level: Level, terms: &[Forward<'_>], out: &mut [f32], add: bool) {
    let Some(first) = terms.first() else { return };
    let (rows, columns, tile_rows) = (first.x.rows(), first.weight.out(), first.x.tile_rows());
    assert_eq!(out.len(), rows * columns, "product: out is not [rows, out]");
    for term in terms {
        assert_eq!((term.x.rows(), term.weight.out()), (rows, columns), "product: terms differ in shape");
        assert_eq!(term.x.depth(), term.weight.input(), "product: depths differ");
    }
    let strips: Vec<Strip<'_>> = terms.iter().map(|term| Strip::forward(term.x, term.weight)).collect();
    let sum = Sum { strips: &strips, rows, columns, tile_rows, depth: DEPTH, cold: Cold::Right };
    sum.compute(level, &Parts::new(out), |place| Place { stride: columns, add: add || place.add, ..place });
}

/// `x·Wᵀ` packed as [`Packed`] packs rows: the right side of [`backward`], ready for the gradient of the same product.
///
/// # Panics
/// When the depths differ, or a tile of `x` does not divide a block.
pub fn forward_packed(level: Level, x: &Left, weight: &Matrix, out: &mut Packed) {
    assert_eq!(x.depth(), weight.input(), "product: depths differ");
    assert_eq!((out.out(), out.input()), (x.rows(), weight.out()), "product: out has another shape");
    assert!(BLOCK.is_multiple_of(x.tile_rows()), "product: tiles do not divide a block");
    let (panel_len, tile_rows) = (out.panel_len(), x.tile_rows());
    let strips = [Strip::forward(x, weight)];
    let sum =
        Sum { strips: &strips, rows: x.rows(), columns: weight.out(), tile_rows, depth: DEPTH, cold: Cold::Right };
    sum.compute(level, &Parts::new(out.data_mut()), |place| {
        let row = place.row / BLOCK * panel_len + place.row % BLOCK;
        Place { row, stride: BLOCK, transposed: true, ..place }
    });
}

/// `out = Σ dy·W`, or `out +=` where `add` is set: `[rows, in]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn backward(level: Level, terms: &[Backward<'_>], out: &mut [f32], add: bool) {
    let Some(first) = terms.first() else { return };
    let (rows, columns) = (first.dy.out(), first.weight.input());
    assert_eq!(out.len(), rows * columns, "product: out is not [rows, in]");
    for term in terms {
        assert_eq!((term.dy.out(), term.weight.input()), (rows, columns), "product: terms differ in shape");
        assert_eq!(term.dy.input(), term.weight.out(), "product: depths differ");
    }
    // The weight's inputs are the rows of a tile, and its transpose is what is stored.
    let tile_rows = level.tile_rows();
    let strips: Vec<Strip<'_>> = terms.iter().map(|term| Strip::backward(term.weight, term.dy, tile_rows)).collect();
    let deepest = strips.iter().map(|strip| strip.depth).max().unwrap_or(0);
    let depth = if deepest > DEEP { DEPTH / 3 } else { DEPTH };
    let sum = Sum { strips: &strips, rows: columns, columns: rows, tile_rows, depth, cold: Cold::Left };
    sum.compute(level, &Parts::new(out), |place| Place {
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
    let out = Parts::new(out);
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

/// Terms of one sum: q, k and v, each with its adapter.
const MAX_TERMS: usize = 6;

/// One product of a sum, for all its tiles.
#[derive(Clone, Copy)]
struct Strip<'a> {
    left: Side<'a>,
    right: Side<'a>,
    depth: usize,
}

/// One side of a product.
#[derive(Clone, Copy)]
enum Side<'a> {
    Stored {
        data: &'a [f32],
        /// From tile to tile of a left side, from panel to panel of a right one.
        step: usize,
        /// From block to block within a tile; of a right side, from row to row.
        stride: usize,
    },
    /// A weight that is opened for each item, a part at a time.
    Closed(&'a Matrix),
}

impl<'a> Strip<'a> {
    fn forward(x: &'a Left, weight: &'a Matrix) -> Self {
        let left = Side::Stored { data: x.tiles_from(0), step: x.tile_len(), stride: x.tile_rows() * BLOCK };
        let right = match weight.full() {
            Some(packed) => Side::packed(packed),
            None => Side::Closed(weight),
        };
        Self { left, right, depth: x.depth() }
    }

    fn backward(weight: &'a Matrix, dy: &'a Packed, tile_rows: usize) -> Self {
        let left = match weight.full() {
            Some(packed) => Side::Stored { data: packed.data(), step: tile_rows * BLOCK, stride: packed.panel_len() },
            None => Side::Closed(weight),
        };
        Self { left, right: Side::packed(dy), depth: dy.input() }
    }
}

impl<'a> Side<'a> {
    fn packed(packed: &'a Packed) -> Self {
        Self::Stored { data: packed.data(), step: packed.panel_len(), stride: BLOCK }
    }
}

/// The side of a sum that comes from memory, the weights.
enum Cold {
    Left,
    Right,
}

/// A sum of products, tile by tile.
struct Sum<'a> {
    strips: &'a [Strip<'a>],
    /// Of the left sides.
    rows: usize,
    /// Of the right sides.
    columns: usize,
    tile_rows: usize,
    /// How deep a tile is summed before the next one has its turn.
    depth: usize,
    cold: Cold,
}

impl Sum<'_> {
    /// Computes every tile. `place` says where one goes, given its row and column and whether an earlier depth is there.
    fn compute(&self, level: Level, out: &Parts<'_>, place: impl Fn(Place) -> Place + Sync) {
        let deepest = self.strips.iter().map(|strip| strip.depth).max().unwrap_or(0);
        let (tiles, panels) = (self.rows.div_ceil(self.tile_rows), self.columns.div_ceil(BLOCK));
        let grid = Grid::new(tiles, panels, self.tile_rows, deepest, self.depth);
        parallel(grid.items(), |item| {
            let (tiles, panels) = grid.item(item);
            let mut opened: [Option<Buffer>; MAX_TERMS] = std::array::from_fn(|_| None);
            for depth in depths(deepest, self.depth) {
                self.open_left(level, &tiles, &depth, &mut opened);
                for panel in panels.clone() {
                    self.open_right(level, panel, &depth, &mut opened);
                    for tile in tiles.clone() {
                        let turn = Turn { tiles: &tiles, panels: &panels, tile, panel, depth: &depth };
                        self.fetch(&turn);
                        let mut terms = [NOTHING; MAX_TERMS];
                        for ((term, strip), opened) in terms.iter_mut().zip(self.strips).zip(&opened) {
                            *term = self.term(strip, opened.as_deref(), &turn);
                        }
                        let (row, column) = (tile * self.tile_rows, panel * BLOCK);
                        let place = place(Place {
                            row,
                            rows: self.tile_rows.min(self.rows - row),
                            column,
                            columns: BLOCK.min(self.columns - column),
                            stride: 0,
                            transposed: false,
                            add: depth.start > 0,
                        });
                        tile_product(level, &terms[..self.strips.len()], &place, out);
                    }
                }
            }
        });
    }

    /// Opens the weights on the left: of each panel of a depth, the rows of an item's tiles.
    fn open_left(&self, level: Level, tiles: &Range<usize>, depth: &Range<usize>, opened: &mut [Option<Buffer>]) {
        let inputs = tiles.start * self.tile_rows..self.rows.min(tiles.end * self.tile_rows);
        let stride = tiles.len() * self.tile_rows * BLOCK;
        for (strip, opened) in self.strips.iter().zip(opened) {
            if let Side::Closed(weight) = strip.left {
                let panels = depth.start / BLOCK..depth.end.min(strip.depth).div_ceil(BLOCK);
                let buffer = opened.get_or_insert_with(|| Buffer::new(self.depth.div_ceil(BLOCK) * stride));
                for (panel, to) in panels.zip(buffer.chunks_exact_mut(stride)) {
                    weight.open(level, panel, inputs.clone(), to);
                }
            }
        }
    }

    /// Opens the weights on the right: a depth of one panel.
    fn open_right(&self, level: Level, panel: usize, depth: &Range<usize>, opened: &mut [Option<Buffer>]) {
        for (strip, opened) in self.strips.iter().zip(opened) {
            if let Side::Closed(weight) = strip.right
                && depth.start < strip.depth
            {
                let buffer = opened.get_or_insert_with(|| Buffer::new(self.depth.min(strip.depth) * BLOCK));
                weight.open(level, panel, depth.start..depth.end.min(strip.depth), buffer);
            }
        }
    }

    /// A strip's share of a tile.
    fn term<'b>(&self, strip: &Strip<'b>, opened: Option<&'b [f32]>, turn: &Turn<'_>) -> Term<'b> {
        let &Turn { tiles, tile, panel, depth, .. } = turn;
        if depth.start >= strip.depth {
            return NOTHING;
        }
        let opened = || opened.expect("opened for this item");
        let (left, left_stride) = match strip.left {
            Side::Stored { data, step, stride } => (&data[tile * step + depth.start / BLOCK * stride..], stride),
            Side::Closed(_) => {
                let len = self.tile_rows * BLOCK;
                (&opened()[(tile - tiles.start) * len..], tiles.len() * len)
            }
        };
        let (right, right_stride) = match strip.right {
            Side::Stored { data, step, stride } => (&data[panel * step + depth.start * stride..], stride),
            Side::Closed(_) => (opened(), BLOCK),
        };
        Term { left, left_stride, right, right_stride, depth: depth.end.min(strip.depth) - depth.start }
    }

    /// Asks for the weights that come next, so that they are there when their turn comes.
    fn fetch(&self, turn: &Turn<'_>) {
        let &Turn { tiles, panels, tile, panel, depth } = turn;
        match self.cold {
            // Each tile asks for its share of the next panel.
            Cold::Right if panel + 1 < panels.end => {
                if let Side::Stored { data, step, .. } = self.strips[0].right {
                    let share = step / tiles.len();
                    prefetch(&data[(panel + 1) * step + (tile - tiles.start) * share..][..share]);
                }
            }
            // The first panel meets every tile's rows cold: each asks for those of the next.
            Cold::Left if panel == panels.start && tile + 1 < tiles.end => {
                for strip in self.strips {
                    if let Side::Stored { data, step, stride } = strip.left {
                        let blocks = data.chunks_exact(stride);
                        for block in blocks.skip(depth.start / BLOCK).take(depth.len().div_ceil(BLOCK)) {
                            let at = (tile + 1) * step;
                            prefetch(&block[at..block.len().min(at + step)]);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// Where an item is.
struct Turn<'a> {
    tiles: &'a Range<usize>,
    panels: &'a Range<usize>,
    tile: usize,
    panel: usize,
    depth: &'a Range<usize>,
}

/// Runs of depth that are summed at once.
fn depths(total: usize, run: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total.max(1)).step_by(run).map(move |start| start..total.min(start + run))
}

/// How a result is cut into items.
struct Grid {
    tiles: usize,
    panels: usize,
    tile_runs: usize,
    panel_runs: usize,
}

impl Grid {
    /// For `tiles` of `tile_rows` rows against `panels`, each over `depth` in runs of `run`.
    fn new(tiles: usize, panels: usize, tile_rows: usize, depth: usize, run: usize) -> Self {
        let bytes = tiles * tile_rows * depth.min(run) * size_of::<f32>();
        let tile_runs = bytes.div_ceil(LEFT_BYTES).clamp(1, tiles.max(1));
        let items = (tiles * tile_rows * panels * BLOCK * depth).div_ceil(ITEM);
        let panel_runs = items.div_ceil(tile_runs).clamp(1, panels.max(1));
        Self { tiles, panels, tile_runs, panel_runs }
    }

    fn items(&self) -> usize {
        self.tile_runs * self.panel_runs
    }

    /// The tiles and panels of an item: items that follow one another share their tiles.
    fn item(&self, item: usize) -> (Range<usize>, Range<usize>) {
        let part = |total: usize, parts: usize, at: usize| total * at / parts..total * (at + 1) / parts;
        (
            part(self.tiles, self.tile_runs, item / self.panel_runs),
            part(self.panels, self.panel_runs, item % self.panel_runs),
        )
    }
}
