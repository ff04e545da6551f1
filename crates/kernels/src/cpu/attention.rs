//! Attention over segments: no score is kept, keys and values of a group of heads are not copied a head.
//!
//! Queries are taken in tiles; a tile sees the keys of its own paths alone, which are gathered once for all heads that
//! share them. The backward pass computes the weights again from the saved logarithms of their sums
//! (Dao et al. 2022, "FlashAttention").

use super::buffer::Buffer;
use super::matrix::{BLOCK, Left, Packed};
use super::pool::{Parts, parallel};
use super::product::{EMPTY, Term, sum_tile};
use super::simd::{LANES, Level, Simd, dispatch};

/// Queries of a tile.
pub const TILE: usize = 64;

/// Which keys each query sees, tile by tile.
#[derive(Clone, Debug)]
pub struct Seen {
    rows: usize,
    tiles: Vec<SeenTile>,
}

#[derive(Clone, Debug)]
struct SeenTile {
    start: usize,
    rows: usize,
    /// The keys that any query of the tile sees.
    keys: Vec<u32>,
    /// For each query, a bit a key: `[rows][keys/32]`.
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

    /// Rows of queries and of keys.
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

    /// Blocks up to the last that any of the queries sees.
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

    /// Elements of a row of queries.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of a row of keys.
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

    /// The given rows one after the other, each filled up to whole blocks; as many as fill whole blocks.
    fn gather(&self, rows: impl ExactSizeIterator<Item = usize>) -> Vec<f32> {
        let stride = self.dim.next_multiple_of(BLOCK);
        let mut gathered = vec![0.0; rows.len().next_multiple_of(BLOCK) * stride];
        for (to, row) in gathered.chunks_exact_mut(stride).zip(rows) {
            to[..self.dim].copy_from_slice(self.row(row));
        }
        gathered
    }
}

/// The keys or values that a tile sees, both ways round.
struct Gathered {
    rows: Vec<f32>,
    packed: Packed,
    stride: usize,
}

impl Gathered {
    fn new(level: Level, head: Head<'_>, keys: &[u32]) -> Self {
        let rows = head.gather(keys.iter().map(|&key| key as usize));
        let stride = head.dim.next_multiple_of(BLOCK);
        // With the rows of zeros: a hidden key must not be able to turn anything into NaN.
        let packed = Packed::new(level, &rows, rows.len() / stride, head.dim, stride);
        Self { rows, packed, stride }
    }

    fn panel(&self, block: usize) -> &[f32] {
        &self.packed.data()[block * self.packed.panel_len()..]
    }
}

/// `softmax(q·kᵀ / sqrt(head_dim))·v` of each head: writes `[rows, heads · head_dim]` to `out`, and to `log_sums`
/// (`[heads, rows]`) the logarithm of each softmax's denominator, which the backward pass needs.
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
    let (out, log_sums) = (Parts::new(out), Parts::new(log_sums));
    parallel(heads.kv_heads * seen.tiles.len(), |item| {
        // The tiles with the most keys first, so that no thread is left with one at the end.
        let tile = &seen.tiles[seen.tiles.len() - 1 - item / heads.kv_heads];
        let kv_head = item % heads.kv_heads;
        let [keys, values] = [key, value]
            .map(|data| Head { data, width: heads.key_width(), at: kv_head, dim: heads.head_dim })
            .map(|head| Gathered::new(level, head, &tile.keys));
        let step = level.even_tile_rows();
        let mut weights = vec![0.0; tile.blocks() * step * BLOCK];
        for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
            let queries = Head { data: query, width: heads.query_width(), at: head, dim: heads.head_dim };
            let left = Left::with_tile_rows(step, tile.rows, heads.head_dim, |row| queries.row(tile.start + row));
            for first in (0..tile.rows).step_by(step) {
                let run = first..tile.rows.min(first + step);
                let blocks = tile.blocks_of(run.clone());
                let weights = &mut weights[..blocks * step * BLOCK];
                scores(level, &left, first / step, &keys, heads.scale(), weights);
                let mut sums = [0.0; BLOCK];
                for (i, query) in run.clone().enumerate() {
                    hide(tile, query, i, step, weights);
                    let log_sum = softmax_row(level, weights, i, step, &mut sums[i]);
                    // SAFETY: one place a head and row, each computed once.
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
                        // SAFETY: as above.
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

/// Makes the scores of what a query does not see minus infinity.
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
    /// Turns the scores of row `i` into `e^(score − max)`, writes their sum, and returns `max + log sum`.
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

/// What the forward pass leaves for [`attention_backward`].
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// `[rows, heads · head_dim]`
    pub query: &'a [f32],
    /// `[rows, kv_heads · head_dim]`
    pub key: &'a [f32],
    /// `[rows, kv_heads · head_dim]`
    pub value: &'a [f32],
    /// `[rows, heads · head_dim]`
    pub out: &'a [f32],
    /// `[heads, rows]`
    pub log_sums: &'a [f32],
}

/// The gradients of [`attention`] for query, key and value, given that of its output. They are overwritten.
///
/// # Panics
/// When the lengths do not fit together.
pub fn attention_backward(
    level: Level,
    heads: Heads,
    saved: Saved<'_>,
    seen: &Seen,
    d_out: &[f32],
    [d_query, d_key, d_value]: [&mut [f32]; 3],
) {
    let (rows, dim) = (seen.rows, heads.head_dim);
    let stride = dim.next_multiple_of(BLOCK);
    // Each head sums for itself, and the heads of a group are added in order: no result depends on who came first.
    let mut partial = Buffer::new(2 * heads.heads * rows * stride);
    partial.fill(0.0);
    {
        let (partial, d_query) = (Parts::new(&mut partial), Parts::new(d_query));
        parallel(heads.heads, |head| {
            // SAFETY: one part a head.
            let of_head = |which| unsafe { partial.part((which * heads.heads + head) * rows * stride, rows * stride) };
            let (d_key, d_value) = (of_head(0), of_head(1));
            for tile in &seen.tiles {
                backward_tile(level, heads, head, saved, tile, rows, d_out, &d_query, d_key, d_value);
            }
        });
    }
    for (which, to) in [d_key, d_value].into_iter().enumerate() {
        super::pool::parallel_chunks(to, heads.key_width(), |row, to| {
            for (kv_head, to) in to.chunks_exact_mut(dim).enumerate() {
                to.fill(0.0);
                for head in kv_head * heads.group()..(kv_head + 1) * heads.group() {
                    let from = &partial[((which * heads.heads + head) * rows + row) * stride..][..dim];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
        });
    }
}

/// One head's gradients from one tile of queries.
#[allow(clippy::too_many_arguments)]
fn backward_tile(
    level: Level,
    heads: Heads,
    head: usize,
    saved: Saved<'_>,
    tile: &SeenTile,
    rows: usize,
    d_out: &[f32],
    d_query: &Parts<'_>,
    d_key: &mut [f32],
    d_value: &mut [f32],
) {
    let (dim, step) = (heads.head_dim, level.even_tile_rows());
    let wide = |data| Head { data, width: heads.query_width(), at: head, dim };
    let narrow = |data| Head { data, width: heads.key_width(), at: head / heads.group(), dim };
    let keys = Gathered::new(level, narrow(saved.key), &tile.keys);
    let values = Gathered::new(level, narrow(saved.value), &tile.keys);
    let own = tile.start..tile.start + tile.rows;
    let [queries, d_outs] = [saved.query, d_out].map(|data| wide(data).gather(own.clone()));
    let [left, d_left] = [saved.query, d_out]
        .map(|data| Left::with_tile_rows(step, tile.rows, dim, |row| wide(data).row(tile.start + row)));

    // Weights and their gradients, transposed: for every run of keys, `[queries/32][step][32]`.
    let across = tile.rows.div_ceil(BLOCK);
    let mut transposed = [0, 1].map(|_| vec![0.0; tile.blocks() * BLOCK * across * BLOCK]);
    let [mut weights, mut slopes] = [0, 1].map(|_| vec![0.0; tile.blocks() * LANES * BLOCK]);
    for first in (0..tile.rows).step_by(LANES) {
        let run = first..tile.rows.min(first + LANES);
        let blocks = tile.blocks_of(run.clone());
        for part in (first..run.end).step_by(step) {
            let place = (part - first) / step * blocks * step * BLOCK;
            let [weights, slopes] = [&mut weights, &mut slopes].map(|all| &mut all[place..][..blocks * step * BLOCK]);
            scores(level, &left, part / step, &keys, heads.scale(), weights);
            scores(level, &d_left, part / step, &values, 1.0, slopes);
            for (i, query) in (part..tile.rows.min(part + step)).enumerate() {
                let row = tile.start + query;
                hide(tile, query, i, step, weights);
                let along: f32 = wide(saved.out).row(row).iter().zip(wide(d_out).row(row)).map(|(o, d)| o * d).sum();
                let log_sum = saved.log_sums[head * rows + row];
                weights_and_slopes(level, weights, slopes, i, step, log_sum, along, heads.scale());
            }
            let mut mixed = EMPTY;
            for at in (0..dim).step_by(BLOCK) {
                let term = Term {
                    left: slopes,
                    left_stride: step * BLOCK,
                    right: &keys.rows[at..],
                    right_stride: keys.stride,
                    depth: blocks * BLOCK,
                };
                sum_tile(level, &[term], step, &mut mixed);
                for (i, query) in (part..tile.rows.min(part + step)).enumerate() {
                    let place = (tile.start + query) * heads.query_width() + head * dim + at;
                    // SAFETY: one place a head and row, each computed once.
                    let to = unsafe { d_query.part(place, BLOCK.min(dim - at)) };
                    to.copy_from_slice(&mixed[i][..to.len()]);
                }
            }
        }
        for (from, to) in [&weights, &slopes].into_iter().zip(&mut transposed) {
            turn(level, from, blocks, step, run.clone(), across, to);
        }
    }
    let grads = [(&transposed[0], &d_outs, d_value), (&transposed[1], &queries, d_key)];
    let stride = dim.next_multiple_of(BLOCK);
    for (weights, right, to) in grads {
        for (run, keys) in tile.keys.chunks(step).enumerate() {
            for at in (0..dim).step_by(BLOCK) {
                let term = Term {
                    left: &weights[run * across * step * BLOCK..],
                    left_stride: step * BLOCK,
                    right: &right[at..],
                    right_stride: stride,
                    depth: tile.rows,
                };
                let mut sums = EMPTY;
                sum_tile(level, &[term], step, &mut sums);
                for (sums, &key) in sums.iter().zip(keys) {
                    let to = &mut to[key as usize * stride + at..][..BLOCK];
                    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

dispatch! {
    /// Row `i`: scores become weights, and the gradients of the weights those of the unscaled scores.
    fn weights_and_slopes(weights: &mut [f32], slopes: &mut [f32], i: usize, step: usize, log_sum: f32, along: f32, scale: f32)
        = weights_and_slopes_with
}

#[allow(clippy::too_many_arguments)]
#[inline(always)]
fn weights_and_slopes_with<S: Simd>(
    simd: S,
    weights: &mut [f32],
    slopes: &mut [f32],
    i: usize,
    step: usize,
    log_sum: f32,
    along: f32,
    scale: f32,
) {
    for (weights, slopes) in weights.chunks_exact_mut(step * BLOCK).zip(slopes.chunks_exact_mut(step * BLOCK)) {
        for at in [i * BLOCK, i * BLOCK + LANES] {
            let weight = simd.exp(simd.sub(simd.load(&weights[at..]), simd.splat(log_sum)));
            let slope = simd.mul(weight, simd.sub(simd.load(&slopes[at..]), simd.splat(along)));
            simd.store(weight, &mut weights[at..]);
            simd.store(simd.mul(slope, simd.splat(scale)), &mut slopes[at..]);
        }
    }
}

dispatch! {
    /// Sixteen queries' rows (`[16/step][blocks][step][32]`) to rows of keys (`[keys/step][across][step][32]`).
    fn turn(from: &[f32], blocks: usize, step: usize, queries: std::ops::Range<usize>, across: usize, to: &mut [f32]) = turn_with
}

#[inline(always)]
fn turn_with<S: Simd>(
    simd: S,
    from: &[f32],
    blocks: usize,
    step: usize,
    queries: std::ops::Range<usize>,
    across: usize,
    to: &mut [f32],
) {
    let column = queries.start / BLOCK * step * BLOCK + queries.start % BLOCK;
    for block in 0..blocks {
        for half in [0, LANES] {
            let square = std::array::from_fn(|i| {
                // Rows beyond the last query hold what an earlier run left there.
                if i < queries.len() {
                    simd.load(&from[((i / step * blocks + block) * step + i % step) * BLOCK + half..])
                } else {
                    simd.splat(0.0)
                }
            });
            for (i, row) in simd.transpose(square).into_iter().enumerate() {
                let key = block * BLOCK + half + i;
                simd.store(row, &mut to[key / step * across * step * BLOCK + key % step * BLOCK + column..]);
            }
        }
    }
}
