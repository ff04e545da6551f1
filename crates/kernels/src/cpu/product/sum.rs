//! Sums of products over all tiles: how they are split between threads, and which weights are expanded and prefetched.

use std::ops::Range;

use super::operand::Operand;
use super::tile::{NOTHING, Place, Term};
use crate::cpu::buffer::Buffer;
use crate::cpu::matrix::{BLOCK, Left, Matrix, PackedMatrix};
use crate::cpu::pool::{DisjointParts, parallel_streams, threads};
use crate::cpu::simd::{Level, prefetch};

/// The largest number of terms in one sum: q, k and v, each with its adapter.
const MAX_TERMS: usize = 6;

/// One product of a sum, for all its tiles.
#[derive(Clone, Copy)]
pub struct Strip<'a> {
    left: Side<'a>,
    right: Side<'a>,
    pub depth: usize,
}

/// One side of a product.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// Its words, and distances between them.
    Stored {
        data: &'a [f32],
        /// The distance between tiles of a left side, or panels of a right side.
        step: usize,
        /// The distance between blocks within a tile of a left side, or rows of a right side.
        stride: usize,
    },
    /// A weight that is not stored as it is multiplied. It is expanded for each item, one part at a time.
    Closed(&'a Matrix),
}

impl<'a> Strip<'a> {
    pub fn forward<O: Operand>(operand: O, x: &'a Left<O>, weight: &'a Matrix) -> Self {
        let left = Side::Stored { data: x.tiles_from(0), step: x.tile_len(), stride: x.block_len() };
        let right = match operand.stored(weight) {
            Some(packed) => Side::packed(packed),
            None => Side::Closed(weight),
        };
        Self { left, right, depth: x.depth() }
    }

    pub fn backward<O: Operand>(operand: O, weight: &'a Matrix, dy: &'a PackedMatrix<O>, tile_rows: usize) -> Self {
        let left = match operand.stored(weight) {
            Some(packed) => {
                let step = tile_rows * (BLOCK / O::NUMBERS);
                Side::Stored { data: packed.data(), step, stride: packed.panel_len() }
            }
            None => Side::Closed(weight),
        };
        Self { left, right: Side::packed(dy), depth: dy.input() }
    }
}

impl<'a> Side<'a> {
    fn packed<O: Operand>(packed: &'a PackedMatrix<O>) -> Self {
        Self::Stored { data: packed.data(), step: packed.panel_len(), stride: BLOCK }
    }
}

/// The side of a sum that is not in the caches: the weights.
pub enum Cold {
    Left,
    Right,
}

/// A sum of products, tile by tile.
pub struct Sum<'a, O> {
    pub operand: O,
    pub strips: &'a [Strip<'a>],
    /// Rows of the left sides.
    pub rows: usize,
    /// Columns of the right sides.
    pub columns: usize,
    pub tile_rows: usize,
    /// The depth that is summed for one tile before the next tile is computed.
    pub depth: usize,
    pub cold: Cold,
}

impl<O: Operand> Sum<'_, O> {
    /// The words of a block's row.
    const WORDS: usize = BLOCK / O::NUMBERS;

    /// Computes every tile. `place` returns the destination of a tile. Its argument gives the tile's row and column and
    /// whether an earlier part of the depth has already been written there.
    pub fn compute(&self, level: Level, out: &DisjointParts<'_>, place: impl Fn(Place) -> Place + Sync) {
        let deepest = self.strips.iter().map(|strip| strip.depth).max().unwrap_or(0);
        let (tiles, panels) = (self.rows.div_ceil(self.tile_rows), self.columns.div_ceil(BLOCK));
        let opens_left = self.strips.iter().any(|strip| matches!(strip.left, Side::Closed(_)));
        let grid = match opens_left && deepest > self.depth {
            true => Grid::of_tiles(tiles, panels),
            false => Grid::new::<O>(tiles, panels, self.tile_rows, deepest, self.depth),
        };
        // Neighbouring items share their tiles, and so the weights that are expanded on the left.
        let begin = |_| (self.operand.begin(), Opened::default());
        parallel_streams(grid.items(), grid.items(), begin, |(session, opened), items| {
            for (tiles, panels) in items.map(|item| grid.item(item)) {
                for depth in depths(deepest, self.depth) {
                    self.open_left(level, &tiles, &depth, opened);
                    for panel in panels.clone() {
                        self.open_right(level, panel, &depth, &mut opened.buffers);
                        for tile in tiles.clone() {
                            let turn = Turn { tiles: &tiles, panels: &panels, tile, panel, depth: &depth };
                            self.fetch(&turn);
                            let mut terms = [NOTHING; MAX_TERMS];
                            for ((term, strip), opened) in terms.iter_mut().zip(self.strips).zip(&opened.buffers) {
                                *term = self.term(strip, opened.as_deref(), &turn);
                            }
                            let place = place(self.place(&turn));
                            self.operand.multiply(level, session, &terms[..self.strips.len()], &place, out);
                        }
                    }
                }
            }
        });
    }

    fn place(&self, turn: &Turn<'_>) -> Place {
        let (row, column) = (turn.tile * self.tile_rows, turn.panel * BLOCK);
        Place {
            row,
            rows: self.tile_rows.min(self.rows - row),
            column,
            columns: BLOCK.min(self.columns - column),
            stride: 0,
            transposed: false,
            add: turn.depth.start > 0,
        }
    }

    /// Expands the weights on the left, unless they are already expanded: for each panel in `depth`, the rows of the
    /// item's tiles.
    fn open_left(&self, level: Level, tiles: &Range<usize>, depth: &Range<usize>, opened: &mut Opened) {
        let wanted = Some((tiles.clone(), depth.clone()));
        if opened.left == wanted {
            return;
        }
        opened.left = wanted;
        let opened = &mut opened.buffers;
        let inputs = tiles.start * self.tile_rows..self.rows.min(tiles.end * self.tile_rows);
        let stride = tiles.len() * self.tile_rows * Self::WORDS;
        for (strip, opened) in self.strips.iter().zip(opened) {
            if let Side::Closed(weight) = strip.left {
                let panels = depth.start / BLOCK..depth.end.min(strip.depth).div_ceil(BLOCK);
                let len = self.depth.div_ceil(BLOCK) * stride;
                // Items differ in length by one tile.
                let buffer = match opened {
                    Some(buffer) if buffer.len() >= len => buffer,
                    _ => opened.insert(Buffer::new(len)),
                };
                for (panel, to) in panels.zip(buffer.chunks_exact_mut(stride)) {
                    self.operand.open_left(level, weight, panel, inputs.clone(), to);
                }
            }
        }
    }

    /// Expands the weights on the right: one panel, over `depth`.
    fn open_right(&self, level: Level, panel: usize, depth: &Range<usize>, opened: &mut [Option<Buffer>]) {
        for (strip, opened) in self.strips.iter().zip(opened) {
            if let Side::Closed(weight) = strip.right
                && depth.start < strip.depth
            {
                let words = self.depth.min(strip.depth).next_multiple_of(BLOCK) * Self::WORDS;
                let buffer = opened.get_or_insert_with(|| Buffer::new(words));
                self.operand.open_right(level, weight, panel, depth.start..depth.end.min(strip.depth), buffer);
            }
        }
    }

    /// The part of a strip that one tile needs.
    fn term<'b>(&self, strip: &Strip<'b>, opened: Option<&'b [f32]>, turn: &Turn<'_>) -> Term<'b> {
        let &Turn { tiles, tile, panel, depth, .. } = turn;
        if depth.start >= strip.depth {
            return NOTHING;
        }
        let opened = || opened.expect("opened for this item");
        let (left, left_stride) = match strip.left {
            Side::Stored { data, step, stride } => (&data[tile * step + depth.start / BLOCK * stride..], stride),
            Side::Closed(_) => {
                let len = self.tile_rows * Self::WORDS;
                (&opened()[(tile - tiles.start) * len..], tiles.len() * len)
            }
        };
        let (right, right_stride) = match strip.right {
            Side::Stored { data, step, stride } => (&data[panel * step + depth.start / O::NUMBERS * stride..], stride),
            Side::Closed(_) => (opened(), BLOCK),
        };
        Term { left, left_stride, right, right_stride, depth: depth.end.min(strip.depth) - depth.start }
    }

    /// Prefetches the weights that are needed next.
    fn fetch(&self, turn: &Turn<'_>) {
        let &Turn { tiles, panels, tile, panel, depth } = turn;
        match self.cold {
            // Each tile prefetches its share of the next panel.
            Cold::Right if panel + 1 < panels.end => match self.strips[0].right {
                Side::Stored { data, step, .. } => {
                    let share = step / tiles.len();
                    prefetch(&data[(panel + 1) * step + (tile - tiles.start) * share..][..share]);
                }
                Side::Closed(weight) if depth.start == 0 => {
                    let next = weight.closed(panel + 1);
                    let share = next.len() / tiles.len();
                    prefetch(&next[(tile - tiles.start) * share..][..share]);
                }
                Side::Closed(_) => {}
            },
            // The tiles' rows are first read with the first panel, when they are not in the caches: each tile
            // prefetches the next one's.
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

/// The weights that a thread has expanded.
#[derive(Default)]
struct Opened {
    buffers: [Option<Buffer>; MAX_TERMS],
    /// The tiles and the depth of the weights that are expanded on the left.
    left: Option<(Range<usize>, Range<usize>)>,
}

/// The current position within an item.
struct Turn<'a> {
    tiles: &'a Range<usize>,
    panels: &'a Range<usize>,
    tile: usize,
    panel: usize,
    depth: &'a Range<usize>,
}

/// Splits the depth into ranges that are summed at once.
fn depths(total: usize, run: usize) -> impl Iterator<Item = Range<usize>> {
    (0..total.max(1)).step_by(run).map(move |start| start..total.min(start + run))
}

/// How a result is split into items.
struct Grid {
    tiles: usize,
    panels: usize,
    tile_runs: usize,
    panel_runs: usize,
}

impl Grid {
    /// For `tiles` tiles of `tile_rows` rows and `panels` panels; each sum goes over `depth` in runs of `run`.
    fn new<O: Operand>(tiles: usize, panels: usize, tile_rows: usize, depth: usize, run: usize) -> Self {
        let bytes = tiles * tile_rows * depth.min(run) * size_of::<f32>() / O::NUMBERS;
        let tile_runs = bytes.div_ceil(O::LEFT_BYTES).clamp(1, tiles.max(1));
        let items = (tiles * tile_rows * panels * BLOCK * depth).div_ceil(O::ITEM);
        let panel_runs = items.div_ceil(tile_runs).clamp(1, panels.max(1));
        Self { tiles, panels, tile_runs, panel_runs }
    }

    /// Items of all panels. Weights that are expanded on the left for one part of the depth after the other would be
    /// expanded again for each run of panels.
    fn of_tiles(tiles: usize, panels: usize) -> Self {
        Self { tiles, panels, tile_runs: (4 * threads()).clamp(1, tiles.max(1)), panel_runs: 1 }
    }

    fn items(&self) -> usize {
        self.tile_runs * self.panel_runs
    }

    /// The tiles and panels of an item. Neighbouring items share their tiles.
    fn item(&self, item: usize) -> (Range<usize>, Range<usize>) {
        let part = |total: usize, parts: usize, at: usize| total * at / parts..total * (at + 1) / parts;
        (
            part(self.tiles, self.tile_runs, item / self.panel_runs),
            part(self.panels, self.panel_runs, item % self.panel_runs),
        )
    }
}
