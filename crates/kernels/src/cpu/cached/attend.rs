//! Attention of new rows over the KV cache.

use std::ops::Range;

use super::store::{CachedRows, Head, Store};
use super::{NewRows, Pass};
use crate::cpu::attention::Heads;
use crate::cpu::buffer::Buffer;
use crate::cpu::matrix::BLOCK;
use crate::cpu::number::Number;
use crate::cpu::pool::{DisjointParts, parallel};
use crate::cpu::product::{EMPTY, Tile};
use crate::cpu::rows::add_scaled;
use crate::cpu::simd::{LANES, Level, Simd, dispatch};

/// Keys are split into runs of this length. The softmax over all keys is combined from one softmax per run. Where a
/// sequence has few rows, each run is an item of its own: one item per head of keys would not spread the work evenly
/// over the threads. Where it has many rows, the same runs are computed one after the other, so that a row's result
/// does not depend on how many rows come with it.
const KEYS: usize = 4 * BLOCK;

/// How attention is split into items. All layers of a pass use the same plan.
#[derive(Clone, Debug, Default)]
pub struct AttentionPlan {
    items: Vec<Item>,
    /// Ranges of items that share a tile. Each item covers some of the tile's keys.
    tiles: Vec<Range<usize>>,
    /// The partial results of these items, to be combined.
    partials: Vec<f32>,
}

impl AttentionPlan {
    /// Plans a pass for the layers with this window, and replaces the previous plan.
    pub fn plan(&mut self, level: Level, pass: &Pass<'_>, window: Option<usize>) {
        let heads = pass.heads;
        let group = heads.heads / heads.kv_heads;
        let tile_rows = level.tile_rows();
        let Self { items, tiles, .. } = self;
        items.clear();
        tiles.clear();
        let (mut first_row, mut partials) = (0, 0);
        for run in pass.runs {
            let pairs = run.new * group;
            for first in (0..pairs).step_by(tile_rows) {
                let rows = tile_rows.min(pairs - first);
                for kv_head in 0..heads.kv_heads {
                    let tile =
                        Item { heads, run: *run, first_row, kv_head, first, rows, window, keys: 0..0, partial: None };
                    let seen = tile.seen(0).start..tile.seen(rows - 1).end;
                    if pairs > tile_rows || seen.end <= KEYS {
                        items.push(Item { keys: seen, ..tile });
                        continue;
                    }
                    let start = items.len();
                    for keys in runs_of_keys(seen) {
                        items.push(Item { keys, partial: Some(partials), ..tile.clone() });
                        partials += rows * tile.partial_width();
                    }
                    tiles.push(start..items.len());
                }
            }
            first_row += run.new;
        }
        self.partials.resize(partials, 0.0);
    }

    /// Computes `softmax(q·kᵀ / sqrt(head_dim))·v` of every row, over the keys of its sequence up to its own position:
    /// `[rows, heads · head_dim]`.
    pub fn compute(&mut self, level: Level, query: &[f32], store: &Store, layer: usize, out: &mut [f32]) {
        let (partials, outs) = (DisjointParts::new(&mut self.partials), DisjointParts::new(out));
        parallel(self.items.len(), |item| self.items[item].compute(level, query, store, layer, &partials, &outs));
        for tile in &self.tiles {
            join(level, &self.items[tile.clone()], &self.partials, out);
        }
    }
}

/// Some query heads of some rows of one sequence, which share a key head, and some of the keys that they see.
#[derive(Clone, Debug)]
struct Item {
    heads: Heads,
    run: NewRows,
    /// The index of the run's first row among all rows.
    first_row: usize,
    kv_head: usize,
    /// A pair is a row and a query head of the group. This item's pairs are the `rows` pairs from `first` on.
    first: usize,
    rows: usize,
    window: Option<usize>,
    /// The range begins at a whole block or at the start of the window.
    keys: Range<usize>,
    /// Where the item writes its partial result. `None` for an item that has all keys of its rows.
    partial: Option<usize>,
}

impl Item {
    /// The position of pair `i`, and the index of its head in `[rows, heads · head_dim]`.
    fn place(&self, i: usize) -> (usize, usize) {
        let group = self.heads.heads / self.heads.kv_heads;
        let (row, head) = ((self.first + i) / group, self.kv_head * group + (self.first + i) % group);
        let at = (self.first_row + row) * self.heads.query_width() + head * self.heads.head_dim;
        (self.run.past + row, at)
    }

    /// The positions that pair `i` sees.
    fn seen(&self, i: usize) -> Range<usize> {
        let position = self.place(i).0;
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
    }

    /// Length of the partial result of a pair: the mixed values, the largest score and the sum of the weights.
    fn partial_width(&self) -> usize {
        self.heads.head_dim + 2
    }

    fn compute(
        &self,
        level: Level,
        query: &[f32],
        store: &Store,
        layer: usize,
        partials: &DisjointParts<'_>,
        outs: &DisjointParts<'_>,
    ) {
        let (dim, rows) = (self.heads.head_dim, self.rows);
        let width = dim.next_multiple_of(BLOCK);
        let scale = 1.0 / (dim as f32).sqrt();
        let mut queries = Buffer::new(dim * rows);
        let mut mixed = Buffer::new(rows * width);
        mixed.fill(0.0);
        let mut softmax = Softmax { scores: EMPTY, seen: [const { 0..0 }; 14], largest: [LOWEST; 14], sums: [0.0; 14] };
        for i in 0..rows {
            let from = &query[self.place(i).1..][..dim];
            queries[i..].iter_mut().step_by(rows).zip(from).for_each(|(to, from)| *to = from * scale);
            softmax.seen[i] = self.seen(i);
        }
        let head = store.head(layer, self.run.sequence, self.kv_head);
        if let Some(partial) = self.partial {
            attend(level, &head, self.keys.clone(), rows, &queries, &mut softmax, &mut mixed);
            for (i, mixed) in mixed.chunks_exact(width).enumerate() {
                let width = self.partial_width();
                // SAFETY: this is pair `i` of the item's range of `partials`, which begins at `partial` and has `rows *
                // width` elements. The plan gives each item a range of its own, and each item is computed once, so no
                // other thread writes these elements.
                let to = unsafe { partials.part(partial + i * width, width) };
                to[..dim].copy_from_slice(&mixed[..dim]);
                to[dim..].copy_from_slice(&[softmax.largest[i], softmax.sums[i]]);
            }
            return;
        }
        // SAFETY: this is the head of pair `i` in `[rows, heads · head_dim]`. An item without a partial result has all
        // keys of its pairs, so no other item has this pair. Each item is computed once, by one thread, and the slices
        // that `out` returns are used one after the other.
        let out = |i: usize| unsafe { outs.part(self.place(i).1, dim) };
        let mut joined = [Joined::default(); 14];
        for keys in runs_of_keys(self.keys.clone()) {
            softmax.largest = [LOWEST; 14];
            softmax.sums = [0.0; 14];
            mixed.fill(0.0);
            attend(level, &head, keys, rows, &queries, &mut softmax, &mut mixed);
            for (i, mixed) in mixed.chunks_exact(width).enumerate() {
                joined[i].add(level, out(i), &mixed[..dim], [softmax.largest[i], softmax.sums[i]]);
            }
        }
        (0..rows).for_each(|i| joined[i].finish(out(i)));
    }
}

/// Splits a range of keys into runs of at most [`KEYS`] keys.
fn runs_of_keys(keys: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let firsts = (keys.start / KEYS * KEYS..keys.end).step_by(KEYS);
    firsts.map(move |first| first.max(keys.start)..keys.end.min(first + KEYS))
}

/// Combines the partial results of the items of one tile into a softmax over all their keys.
fn join(level: Level, items: &[Item], partials: &[f32], out: &mut [f32]) {
    let Some(first) = items.first() else { return };
    let (dim, width) = (first.heads.head_dim, first.partial_width());
    for i in 0..first.rows {
        let to = &mut out[first.place(i).1..][..dim];
        let mut joined = Joined::default();
        for part in items.iter().filter_map(|item| Some(&partials[item.partial? + i * width..][..width])) {
            joined.add(level, to, &part[..dim], [part[dim], part[dim + 1]]);
        }
        joined.finish(to);
    }
}

/// The softmax of one row, combined from runs of keys.
#[derive(Clone, Copy)]
struct Joined {
    largest: f32,
    sum: f32,
}

impl Default for Joined {
    fn default() -> Self {
        Self { largest: LOWEST, sum: 0.0 }
    }
}

impl Joined {
    /// Adds the next run: its mixed values, its largest score and the sum of its weights. Changes nothing if the row
    /// sees no key of the run.
    fn add(&mut self, level: Level, to: &mut [f32], mixed: &[f32], [largest, sum]: [f32; 2]) {
        if self.sum == 0.0 {
            // `to` still holds values of another pass: overwrite it.
            to.copy_from_slice(mixed);
            *self = Self { largest, sum };
            return;
        }
        let above = self.largest.max(largest);
        let (kept, added) = ((self.largest - above).exp(), (largest - above).exp());
        to.iter_mut().for_each(|to| *to *= kept);
        add_scaled(level, to, mixed, added);
        *self = Self { largest: above, sum: self.sum * kept + sum * added };
    }

    fn finish(self, to: &mut [f32]) {
        to.iter_mut().for_each(|to| *to /= self.sum);
    }
}

/// Below every score, but finite: with it, the differences for a row that has not seen a key yet are not NaN.
const LOWEST: f32 = -1e30;

/// A softmax that is computed 32 keys at a time.
struct Softmax {
    /// Scores, then `e^(score − largest)`.
    scores: Tile,
    /// The keys that each row sees.
    seen: [Range<usize>; 14],
    largest: [f32; 14],
    /// Sums of the weights so far.
    sums: [f32; 14],
}

dispatch! {
    /// Adds to `mixed` (`[rows]`, each padded to whole blocks) the values of the given keys, weighted by the softmax
    /// over them.
    fn attend(
        head: &Head<'_>, keys: Range<usize>, rows: usize, queries: &[f32], softmax: &mut Softmax, mixed: &mut [f32],
    ) = attend_with
}

#[inline(always)]
fn attend_with<S: Simd>(
    simd: S,
    head: &Head<'_>,
    keys: Range<usize>,
    rows: usize,
    queries: &[f32],
    softmax: &mut Softmax,
    mixed: &mut [f32],
) {
    match head.planes {
        CachedRows::Full(planes) => by_rows(simd, planes, head.widths, keys, rows, queries, softmax, mixed),
        CachedRows::Half(planes) => by_rows(simd, planes, head.widths, keys, rows, queries, softmax, mixed),
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn by_rows<S: Simd, T: Number>(
    simd: S,
    planes: [&[T]; 2],
    widths: [usize; 2],
    keys: Range<usize>,
    rows: usize,
    queries: &[f32],
    softmax: &mut Softmax,
    mixed: &mut [f32],
) {
    macro_rules! by_rows {
        ($vectors:literal, $($rows:literal)*) => {
            match rows {
                $($rows => over::<S, T, $rows, $vectors>(simd, planes, widths, keys, queries, softmax, mixed),)*
                rows => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    match (S::TILE_VECTORS, S::TILE_ROWS) {
        (2, _) => by_rows!(2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        (_, 6) => by_rows!(1, 1 2 3 4 5 6),
        _ => by_rows!(1, 1 2 3 4),
    }
}

/// For `ROWS` rows, with `VECTORS` vectors of a block at a time.
#[inline(always)]
fn over<S: Simd, T: Number, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    planes: [&[T]; 2],
    widths: [usize; 2],
    keys: Range<usize>,
    queries: &[f32],
    softmax: &mut Softmax,
    mixed: &mut [f32],
) {
    let [key_plane, value_plane] = planes;
    let queries = queries.as_chunks::<ROWS>().0;
    for first in (keys.start / BLOCK * BLOCK..keys.end).step_by(BLOCK) {
        let dims = key_plane[first * widths[0]..][..BLOCK * widths[0]].as_chunks::<BLOCK>().0;
        for at in (0..BLOCK).step_by(VECTORS * LANES) {
            let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
            for (dim, query) in dims.iter().zip(queries) {
                multiply(simd, &dim[at..], query, &mut sums);
            }
            for (sums, scores) in sums.iter().zip(&mut softmax.scores) {
                for (v, sum) in sums.iter().enumerate() {
                    simd.store(*sum, &mut scores[at + v * LANES..]);
                }
            }
        }
        let mut weights = [[0.0; ROWS]; BLOCK];
        let mut shrink = [0.0; ROWS];
        for i in 0..ROWS {
            shrink[i] = soften(simd, softmax, i, first);
            for (weights, score) in weights.iter_mut().zip(&softmax.scores[i]) {
                weights[i] = *score;
            }
        }
        // The values after the last key were never written, or belong to tokens that were truncated: do not read them.
        let rows = &value_plane[first * widths[1]..keys.end.min(first + BLOCK) * widths[1]];
        for at in (0..widths[1]).step_by(VECTORS * LANES) {
            let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
            for (row, weights) in rows.chunks_exact(widths[1]).zip(&weights) {
                multiply(simd, &row[at..], weights, &mut sums);
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let to = &mut mixed[i * widths[1] + at + v * LANES..];
                    simd.store(simd.fma(simd.load(to), simd.splat(shrink[i]), *sum), to);
                }
            }
        }
    }
}

/// `sums += left · right`: the outer product of one number per row and some vectors.
#[inline(always)]
fn multiply<S: Simd, T: Number, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    right: &[T],
    left: &[f32; ROWS],
    sums: &mut [[S::V; VECTORS]; ROWS],
) {
    let right = &right[..VECTORS * LANES];
    let mut loaded = [simd.splat(0.0); VECTORS];
    for v in 0..VECTORS {
        loaded[v] = T::load(simd, &right[v * LANES..]);
    }
    for i in 0..ROWS {
        let left = simd.splat(left[i]);
        for v in 0..VECTORS {
            sums[i][v] = simd.fma(left, loaded[v], sums[i][v]);
        }
    }
}

/// Turns a row's scores of the keys from `first` on into weights. Returns the factor for all earlier weights, which is
/// below 1 if a larger score was found.
#[inline(always)]
fn soften<S: Simd>(simd: S, softmax: &mut Softmax, i: usize, first: usize) -> f32 {
    let (scores, seen) = (&mut softmax.scores[i], &softmax.seen[i]);
    if first < seen.start || first + BLOCK > seen.end {
        for (key, score) in (first..).zip(scores.iter_mut()) {
            *score = if seen.contains(&key) { *score } else { f32::NEG_INFINITY };
        }
    }
    let (low, high) = (simd.load(scores), simd.load(&scores[LANES..]));
    let before = softmax.largest[i];
    let largest = before.max(simd.max_lane(simd.max(low, high)));
    let low = simd.exp(simd.sub(low, simd.splat(largest)));
    let high = simd.exp(simd.sub(high, simd.splat(largest)));
    simd.store(low, scores);
    simd.store(high, &mut scores[LANES..]);
    let shrink = if largest == before { 1.0 } else { (before - largest).exp() };
    softmax.sums[i] = softmax.sums[i] * shrink + simd.sum(simd.add(low, high));
    softmax.largest[i] = largest;
    shrink
}
