//! Attention over segments. The scores of a whole sequence are never stored, and keys and values are not copied for
//! each head.
//!
//! Queries are computed in tiles. A tile sees only the keys of its own paths. These keys are gathered once for all
//! heads that share them. The backward pass computes the weights again from the saved logarithms of their sums (Dao et
//! al. 2022, "FlashAttention").

mod backward;

use super::matrix::{BLOCK, Left, PackedMatrix};
use super::pool::{DisjointParts, parallel};
use super::product::{EMPTY, Single, Term, sum_tile};
use super::simd::{LANES, Level, Simd, dispatch};
pub use backward::{Saved, attention_backward};

/// Queries per tile.
pub const TILE: usize = 64;

/// Which keys each query sees, by tile.
#[derive(Clone, Debug)]
pub struct Seen {
    rows: usize,
    tiles: Vec<SeenTile>,
}

#[derive(Clone, Debug)]
struct SeenTile {
    start: usize,
    rows: usize,
    /// The keys that at least one query of the tile sees.
    keys: Vec<u32>,
    /// For each query, one bit per key: `[rows][keys/32]`.
    masks: Vec<u32>,
}

impl Seen {
    /// Row `q` sees row `k <= q` where `is_seen(q, k)`.
    pub fn new(rows: usize, is_seen: impl Fn(usize, usize) -> bool + Sync) -> Self {
        let tile = |start: usize| {
            let end = rows.min(start + TILE);
            let keys: Vec<u32> = (0..end)
                .filter(|&key| (start.max(key)..end).any(|query| is_seen(query, key)))
                .map(|key| key as u32)
                .collect();
            let mut masks = Vec::with_capacity((end - start) * keys.len().div_ceil(BLOCK));
            for query in start..end {
                masks.extend(keys.chunks(BLOCK).map(|keys| {
                    let bit = |(at, &key): (usize, &u32)| {
                        u32::from(key as usize <= query && is_seen(query, key as usize)) << at
                    };
                    keys.iter().enumerate().map(bit).fold(0, |mask, bit| mask | bit)
                }));
            }
            SeenTile { start, rows: end - start, keys, masks }
        };
        Self { rows, tiles: (0..rows).step_by(TILE).map(tile).collect() }
    }

    /// The number of rows; each is a query and a key.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl SeenTile {
    fn blocks(&self) -> usize {
        self.keys.len().div_ceil(BLOCK)
    }

    fn mask(&self, query: usize, block: usize) -> u32 {
        self.masks[query * self.blocks() + block]
    }

    /// The number of blocks up to the last one that any of these queries sees.
    fn blocks_of(&self, queries: std::ops::Range<usize>) -> usize {
        let sees = |block: &usize| queries.clone().any(|query| self.mask(query, *block) != 0);
        (0..self.blocks()).rev().find(sees).map_or(0, |block| block + 1)
    }
}

/// The shape of the heads.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Heads {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements per row of queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements per row of keys.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// One head's rows of a `[rows, heads · head_dim]` matrix.
#[derive(Clone, Copy)]
struct Head<'a> {
    data: &'a [f32],
    width: usize,
    at: usize,
    dim: usize,
}

impl<'a> Head<'a> {
    fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.width + self.at * self.dim..][..self.dim]
    }

    /// The given rows one after the other, each padded to whole blocks. Rows of zeros fill the last block of rows.
    fn gather(&self, rows: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let stride = self.dim.next_multiple_of(BLOCK);
        let mut gathered = vec![0.0; rows.len().next_multiple_of(BLOCK) * stride];
        for (to, row) in gathered.chunks_exact_mut(stride).zip(rows) {
            to[..self.dim].copy_from_slice(self.row(row));
        }
        gathered
    }
}

/// The keys or values that a tile sees, row-major and packed.
struct Gathered {
    rows: Vec<f32>,
    packed: PackedMatrix,
    stride: usize,
}

impl Gathered {
    fn new(level: Level, head: Head<'_>, keys: &[u32]) -> Self {
        let rows = head.gather(keys.iter().map(|&key| key as usize));
        let stride = head.dim.next_multiple_of(BLOCK);
        // The rows of zeros are packed too: the value of a hidden key must be finite, or it would turn a sum into NaN.
        let packed = PackedMatrix::new(level, Single, &rows, rows.len() / stride, head.dim, stride);
        Self { rows, packed, stride }
    }

    fn panel(&self, block: usize) -> &[f32] {
        &self.packed.data()[block * self.packed.panel_len()..]
    }
}

/// `softmax(q·kᵀ / sqrt(head_dim))·v` of each head. Writes `[rows, heads · head_dim]` to `out`, and the logarithm of
/// each softmax's denominator to `log_sums` (`[heads, rows]`); the backward pass needs it.
///
/// # Panics
/// When the lengths do not fit together.
pub fn attention(
    level: Level,
    heads: Heads,
    [query, key, value]: [&[f32]; 3],
    seen: &Seen,
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    let rows = seen.rows;
    assert_eq!((query.len(), out.len()), (rows * heads.query_width(), query.len()), "attention: query or output");
    assert_eq!((key.len(), value.len()), (rows * heads.key_width(), key.len()), "attention: key or value");
    assert_eq!(log_sums.len(), rows * heads.heads, "attention: log_sums");
    let (out, log_sums) = (DisjointParts::new(out), DisjointParts::new(log_sums));
    parallel(heads.kv_heads * seen.tiles.len(), |item| {
        // The tiles with the most keys come first: if they came last, one thread would compute while the others have
        // finished.
        let tile = &seen.tiles[seen.tiles.len() - 1 - item / heads.kv_heads];
        let kv_head = item % heads.kv_heads;
        let [keys, values] = [key, value]
            .map(|data| Head { data, width: heads.key_width(), at: kv_head, dim: heads.head_dim })
            .map(|head| Gathered::new(level, head, &tile.keys));
        let step = level.even_tile_rows();
        let mut weights = vec![0.0; tile.blocks() * step * BLOCK];
        for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
            let queries = Head { data: query, width: heads.query_width(), at: head, dim: heads.head_dim };
            let left = Left::with_tile_rows(level, Single, step, tile.rows, heads.head_dim, |row| {
                queries.row(tile.start + row)
            });
            for first in (0..tile.rows).step_by(step) {
                let run = first..tile.rows.min(first + step);
                let blocks = tile.blocks_of(run.clone());
                let weights = &mut weights[..blocks * step * BLOCK];
                scores(level, &left, first / step, &keys, heads.scale(), weights);
                let mut sums = [0.0; BLOCK];
                for (i, query) in run.clone().enumerate() {
                    hide(tile, query, i, step, weights);
                    let log_sum = softmax_row(level, weights, i, step, &mut sums[i]);
                    // SAFETY: this is element (`head`, row `tile.start + query`) of `[heads, rows]`. Each pair of head
                    // and row belongs to one item, so no other thread writes this element.
                    unsafe { log_sums.part(head * rows + tile.start + query, 1) }.fill(log_sum);
                }
                let mut mixed = EMPTY;
                for at in (0..heads.head_dim).step_by(BLOCK) {
                    let term = Term {
                        left: weights,
                        left_stride: step * BLOCK,
                        right: &values.rows[at..],
                        right_stride: values.stride,
                        depth: blocks * BLOCK,
                    };
                    sum_tile(level, &[term], step, &mut mixed);
                    for (i, query) in run.clone().enumerate() {
                        let place = (tile.start + query) * heads.query_width() + head * heads.head_dim + at;
                        // SAFETY: this is a part of head `head` in row `tile.start + query` of `[rows, heads ·
                        // head_dim]`. Each pair of head and row belongs to one item, and the parts of different `at` do
                        // not overlap, so no other thread writes these elements.
                        let to = unsafe { out.part(place, BLOCK.min(heads.head_dim - at)) };
                        to.iter_mut().zip(mixed[i]).for_each(|(to, mixed)| *to = mixed / sums[i]);
                    }
                }
            }
        }
    });
}

/// Scores of one run of queries against every block: `[blocks][step][32]`.
fn scores(level: Level, left: &Left, run: usize, keys: &Gathered, scale: f32, to: &mut [f32]) {
    let mut tile = EMPTY;
    for (block, to) in to.chunks_exact_mut(left.tile_rows() * BLOCK).enumerate() {
        let term = Term {
            left: left.tiles_from(run),
            left_stride: left.tile_rows() * BLOCK,
            right: keys.panel(block),
            right_stride: BLOCK,
            depth: left.depth(),
        };
        sum_tile(level, &[term], left.tile_rows(), &mut tile);
        for (to, row) in to.chunks_exact_mut(BLOCK).zip(&tile) {
            to.iter_mut().zip(row).for_each(|(to, score)| *to = score * scale);
        }
    }
}

/// Sets the scores of the keys that a query does not see to minus infinity.
fn hide(tile: &SeenTile, query: usize, i: usize, step: usize, scores: &mut [f32]) {
    for (block, scores) in scores.chunks_exact_mut(step * BLOCK).enumerate() {
        let mask = tile.mask(query, block);
        if mask != u32::MAX {
            for (at, score) in scores[i * BLOCK..][..BLOCK].iter_mut().enumerate() {
                if mask >> at & 1 == 0 {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
    }
}

dispatch! {
    /// Turns the scores of row `i` into `e^(score − max)`, writes their sum to `sum`, and returns `max + log sum`.
    fn softmax_row(scores: &mut [f32], i: usize, step: usize, sum: &mut f32) -> f32 = softmax_row_with
}

#[inline(always)]
fn softmax_row_with<S: Simd>(simd: S, scores: &mut [f32], i: usize, step: usize, sum: &mut f32) -> f32 {
    let mut max = simd.splat(f32::NEG_INFINITY);
    for block in scores.chunks_exact(step * BLOCK) {
        let row = &block[i * BLOCK..][..BLOCK];
        max = simd.max(max, simd.max(simd.load(row), simd.load(&row[LANES..])));
    }
    let max = simd.max_lane(max);
    let mut sums = simd.splat(0.0);
    for block in scores.chunks_exact_mut(step * BLOCK) {
        let row = &mut block[i * BLOCK..][..BLOCK];
        for at in [0, LANES] {
            let weight = simd.exp(simd.sub(simd.load(&row[at..]), simd.splat(max)));
            simd.store(weight, &mut row[at..]);
            sums = simd.add(sums, weight);
        }
    }
    *sum = simd.sum(sums);
    max + sum.ln()
}
