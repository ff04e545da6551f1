//! Matrix products over packed operands.
//!
//! One tile does all of them: some rows of a left operand, broadcast element by element, against 32 columns of a right one,
//! with the whole tile of the result in registers. A result is the sum of several products, so that a projection and its
//! low-rank path, or the gradients of three projections of one input, are added before anything is stored.
//!
//! Each element of a result is summed in an order that its place alone decides, so results depend neither on the number
//! of threads nor on who computed what.

use super::matrix::{BLOCK, Left, Packed};
use super::pool::{Parts, parallel};
use super::simd::{LANES, Level, Simd, dispatch, prefetch};

/// Depth that is summed at once, so that a panel of it stays in the second-level cache.
const DEPTH: usize = 1536;
/// Above this depth a weight comes from memory, where longer runs of a panel matter more than deeper sums.
const DEEP: usize = 16 << 10;
/// Bytes of the left operand that one item goes over again and again.
const LEFT_BYTES: usize = 384 << 10;
/// The work of an item, in multiplications: some fifty microseconds.
const ITEM: usize = 5 << 20;

/// One of the products whose sum is wanted.
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// The rows of the tile, in blocks of `[rows][32]`.
    pub left: &'a [f32],
    /// From block to block.
    pub left_stride: usize,
    /// Rows of 32 columns.
    pub right: &'a [f32],
    /// From row to row.
    pub right_stride: usize,
    /// How many columns of the left and rows of the right are multiplied.
    pub depth: usize,
}

/// `x·Wᵀ`, one of several to be added.
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    /// `[rows, in]`
    pub x: &'a Left,
    /// `[out, in]`
    pub weight: &'a Packed,
}

/// `dy·W`, one of several to be added.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    /// `[rows, out]`
    pub dy: &'a Packed,
    /// `[out, in]`
    pub weight: &'a Packed,
}

/// `out = Σ x·Wᵀ`, or `out +=` where `add` is set: `[rows, out]` row-major.
///
/// # Panics
/// When the shapes do not fit together.
pub fn forward(level: Level, terms: &[Forward<'_>], out: &mut [f32], add: bool) {
    let Some(first) = terms.first() else { return };
    let (rows, columns) = (first.x.rows(), first.weight.out());
    assert_eq!(out.len(), rows * columns, "product: out is not [rows, out]");
    for term in terms {
        assert_eq!((term.x.rows(), term.weight.out()), (rows, columns), "product: terms differ in shape");
        assert_eq!(term.x.depth(), term.weight.input(), "product: depths differ");
    }
    let tile_rows = first.x.tile_rows();
    let main = terms.iter().map(|term| term.x.depth()).max().unwrap_or(0);
    let grid = Grid::new(rows.div_ceil(tile_rows), columns.div_ceil(BLOCK), tile_rows, main, DEPTH);
    let out = Parts::new(out);
    parallel(grid.items(), |item| {
        let (tiles, panels) = grid.item(item);
        for depth in depths(main, DEPTH) {
            let add = add || depth.start > 0;
            for panel in panels.clone() {
                for tile in tiles.clone() {
                    let mut cut = [NOTHING; MAX_TERMS];
                    // Each tile fetches its share of the panel that comes next.
                    let next = &first.weight.data()[(panel + 1).min(panels.end - 1) * first.weight.panel_len()..];
                    let share = first.weight.panel_len() / tiles.len();
                    prefetch(&next[(tile - tiles.start) * share..][..share]);
                    for (cut, term) in cut.iter_mut().zip(terms) {
                        let weight = &term.weight.data()[panel * term.weight.panel_len()..];
                        *cut = Term {
                            left: term.x.tiles_from(tile),
                            left_stride: tile_rows * BLOCK,
                            right: weight,
                            right_stride: BLOCK,
                            depth: term.x.depth(),
                        }
                        .narrow(&depth);
                    }
                    let place = Place {
                        row: tile * tile_rows,
                        rows: tile_rows.min(rows - tile * tile_rows),
                        column: panel * BLOCK,
                        columns: BLOCK.min(columns - panel * BLOCK),
                        stride: columns,
                        transposed: false,
                        add,
                    };
                    tile_product(level, &cut[..terms.len()], &place, &out);
                }
            }
        }
    });
}

/// `x·Wᵀ` packed as [`Packed`] packs rows: the right side of [`backward`], ready for the gradient of the same product.
///
/// # Panics
/// When the depths differ, or a tile of `x` does not divide a block.
pub fn forward_packed(level: Level, x: &Left, weight: &Packed, out: &mut Packed) {
    assert_eq!(x.depth(), weight.input(), "product: depths differ");
    assert_eq!((out.out(), out.input()), (x.rows(), weight.out()), "product: out has another shape");
    let tile_rows = x.tile_rows();
    assert!(BLOCK.is_multiple_of(tile_rows), "product: tiles do not divide a block");
    let panel_len = out.panel_len();
    let grid = Grid::new(x.rows().div_ceil(tile_rows), weight.out().div_ceil(BLOCK), tile_rows, x.depth(), DEPTH);
    let out = Parts::new(out.data_mut());
    parallel(grid.items(), |item| {
        let (tiles, panels) = grid.item(item);
        for panel in panels {
            for tile in tiles.clone() {
                let term = Term {
                    left: x.tiles_from(tile),
                    left_stride: tile_rows * BLOCK,
                    right: &weight.data()[panel * weight.panel_len()..],
                    right_stride: BLOCK,
                    depth: x.depth(),
                };
                let row = tile * tile_rows;
                let place = Place {
                    row: row / BLOCK * panel_len + row % BLOCK,
                    rows: tile_rows.min(x.rows() - row),
                    column: panel * BLOCK,
                    columns: BLOCK.min(weight.out() - panel * BLOCK),
                    stride: BLOCK,
                    transposed: true,
                    add: false,
                };
                tile_product(level, &[term], &place, &out);
            }
        }
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
    let main = terms.iter().map(|term| term.dy.input()).max().unwrap_or(0);
    let depth = if main > DEEP { DEPTH / 3 } else { DEPTH };
    let grid = Grid::new(columns.div_ceil(tile_rows), rows.div_ceil(BLOCK), tile_rows, main, depth);
    let out = Parts::new(out);
    parallel(grid.items(), |item| {
        let (tiles, panels) = grid.item(item);
        for depth in depths(main, depth) {
            let add = add || depth.start > 0;
            for panel in panels.clone() {
                for tile in tiles.clone() {
                    let valid = tile_rows.min(columns - tile * tile_rows);
                    if panel == panels.start && tile + 1 < tiles.end {
                        // The first panel meets the weights cold: each tile fetches the next one's rows.
                        for term in terms {
                            let rows = term.weight.data().chunks_exact(term.weight.panel_len());
                            for rows in rows.skip(depth.start / BLOCK).take(depth.len().div_ceil(BLOCK)) {
                                let at = (tile + 1) * tile_rows * BLOCK;
                                prefetch(&rows[at..rows.len().min(at + tile_rows * BLOCK)]);
                            }
                        }
                    }
                    let mut cut = [NOTHING; MAX_TERMS];
                    for (cut, term) in cut.iter_mut().zip(terms) {
                        *cut = Term {
                            left: &term.weight.data()[tile * tile_rows * BLOCK..],
                            left_stride: term.weight.panel_len(),
                            right: &term.dy.data()[panel * term.dy.panel_len()..],
                            right_stride: BLOCK,
                            depth: term.dy.input(),
                        }
                        .narrow(&depth);
                    }
                    let place = Place {
                        row: tile * tile_rows,
                        rows: valid,
                        column: panel * BLOCK,
                        columns: BLOCK.min(rows - panel * BLOCK),
                        stride: columns,
                        transposed: true,
                        add,
                    };
                    tile_product(level, &cut[..terms.len()], &place, &out);
                }
            }
        }
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

const NOTHING: Term<'static> = Term { left: &[], left_stride: 0, right: &[], right_stride: 0, depth: 0 };

impl Term<'_> {
    /// The part of the term in a run of depths, which begins at a multiple of [`BLOCK`].
    fn narrow(self, depth: &std::ops::Range<usize>) -> Self {
        if depth.start >= self.depth {
            return Self { depth: 0, ..self };
        }
        Self {
            left: &self.left[depth.start / BLOCK * self.left_stride..],
            right: &self.right[depth.start * self.right_stride..],
            depth: depth.end.min(self.depth) - depth.start,
            ..self
        }
    }
}

/// Runs of depth that are summed at once.
fn depths(total: usize, run: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
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
    fn item(&self, item: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let part = |total: usize, parts: usize, at: usize| total * at / parts..total * (at + 1) / parts;
        (
            part(self.tiles, self.tile_runs, item / self.panel_runs),
            part(self.panels, self.panel_runs, item % self.panel_runs),
        )
    }
}

/// Where a tile goes.
struct Place {
    row: usize,
    rows: usize,
    column: usize,
    columns: usize,
    /// From row to row of the result as it is stored.
    stride: usize,
    /// Whether the tile's columns are the result's rows.
    transposed: bool,
    /// Whether the tile is added to what is there.
    add: bool,
}

/// A tile of results: as many rows as any instruction set has.
pub type Tile = [[f32; BLOCK]; 14];

/// A tile of zeros.
pub const EMPTY: Tile = [[0.0; BLOCK]; 14];

dispatch! {
    fn tile_product(terms: &[Term<'_>], place: &Place, out: &Parts<'_>) = tile_product_with
}

#[inline(always)]
fn tile_product_with<S: Simd>(simd: S, terms: &[Term<'_>], place: &Place, out: &Parts<'_>) {
    let mut tile = EMPTY;
    sum_rows(simd, terms, place.rows, &mut tile);
    put(simd, &tile, place, out);
}

dispatch! {
    /// Sums the terms for the first `rows` rows of the left sides, and writes them into as many rows of the tile.
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

/// `ROWS` rows against `VECTORS` vectors, which begin at column `at` of the right side's 32.
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
                let right: [S::V; VECTORS] = std::array::from_fn(|v| simd.load(&right[v * LANES..]));
                for i in 0..ROWS {
                    let left = simd.splat(left[i * BLOCK + p]);
                    for v in 0..VECTORS {
                        sums[i][v] = simd.fma(left, right[v], sums[i][v]);
                    }
                }
            }
        }
    }
    // Constant places alone, or the compiler keeps the sums in memory.
    for i in 0..ROWS {
        for v in 0..VECTORS {
            simd.store(sums[i][v], &mut tile[i][at + v * LANES..]);
        }
    }
}

/// Writes a tile where it belongs.
#[inline(always)]
fn put<S: Simd>(simd: S, tile: &Tile, place: &Place, out: &Parts<'_>) {
    if place.transposed {
        for half in (0..place.columns).step_by(LANES) {
            let row = |i: usize| if i < tile.len() { simd.load(&tile[i][half..]) } else { simd.splat(0.0) };
            let columns = simd.transpose(std::array::from_fn(row));
            for (j, column) in (half..place.columns).zip(columns) {
                // SAFETY: tiles do not overlap, and this one is computed by this thread alone.
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
        // SAFETY: as above.
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
