//! A stack of decoder layers over a cache of keys and values: what generation runs.

use super::attention::Heads;
use super::buffer::Buffer;
use super::few::{FEW, project_few};
use super::linear::{Linear, project};
use super::matrix::BLOCK;
use super::pool::{Parts, parallel};
use super::product::{EMPTY, Term, Tile, sum_tile};
use super::rows::{rms_norm, rotate, swiglu};
use super::simd::{LANES, Level, Simd, dispatch};

/// A sequence's new rows.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub sequence: usize,
    /// Rows that the cache holds of it.
    pub past: usize,
    /// Rows that it brings.
    pub new: usize,
}

/// The keys and values of all layers, for a number of sequences. Room is made as it is needed.
#[derive(Clone, Debug)]
pub struct Store {
    kv_heads: usize,
    head_dim: usize,
    sequences: usize,
    /// Rows that there is room for, of each sequence.
    rows: usize,
    /// Of each layer the keys, `[sequences][kv_heads][rows/32][head_dim][32]`, and the values,
    /// `[sequences][kv_heads][rows][head_dim]` with each row filled up to whole blocks.
    layers: Vec<[Vec<f32>; 2]>,
}

/// Room is made for so many rows at least.
const STEP: usize = 256;

impl Store {
    pub fn new(layers: usize, kv_heads: usize, head_dim: usize, sequences: usize) -> Self {
        Self { kv_heads, head_dim, sequences, rows: 0, layers: vec![[Vec::new(), Vec::new()]; layers] }
    }

    /// Elements of a row of keys, and of values.
    fn widths(&self) -> [usize; 2] {
        [self.head_dim, self.head_dim.next_multiple_of(BLOCK)]
    }

    /// Makes room for so many rows of each sequence: by half as much again, or what is asked for.
    pub fn reserve(&mut self, rows: usize) {
        if rows <= self.rows {
            return;
        }
        let (old, new) = (self.rows, rows.max(self.rows * 3 / 2).next_multiple_of(STEP));
        let runs = self.sequences * self.kv_heads;
        let widths = self.widths();
        for layer in &mut self.layers {
            for (plane, width) in layer.iter_mut().zip(widths) {
                let mut larger = vec![0.0; runs * new * width];
                if old > 0 {
                    for (to, from) in larger.chunks_exact_mut(new * width).zip(plane.chunks_exact(old * width)) {
                        to[..from.len()].copy_from_slice(from);
                    }
                }
                *plane = larger;
            }
        }
        self.rows = new;
    }

    /// Copies the first rows of a sequence to another one.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        let widths = self.widths();
        for layer in &mut self.layers {
            for (plane, width) in layer.iter_mut().zip(widths) {
                let len = self.rows * width;
                for head in 0..self.kv_heads {
                    let start = (from * self.kv_heads + head) * len;
                    // Whole blocks: keys lie in panels of 32.
                    let source = start..start + rows.next_multiple_of(BLOCK) * width;
                    plane.copy_within(source, (to * self.kv_heads + head) * len);
                }
            }
        }
    }

    fn write(&mut self, layer: usize, run: &Run, key: &[f32], value: &[f32]) {
        let [key_width, value_width] = self.widths();
        let (dim, row_width) = (self.head_dim, self.kv_heads * self.head_dim);
        let [keys, values] = &mut self.layers[layer];
        for head in 0..self.kv_heads {
            let start = (run.sequence * self.kv_heads + head) * self.rows;
            for i in 0..run.new {
                let row = run.past + i;
                let from = &key[i * row_width + head * dim..][..dim];
                let panel = &mut keys[(start + row / BLOCK * BLOCK) * key_width..];
                for (lanes, &value) in panel.chunks_exact_mut(BLOCK).zip(from) {
                    lanes[row % BLOCK] = value;
                }
                let from = &value[i * row_width + head * dim..][..dim];
                values[(start + row) * value_width..][..dim].copy_from_slice(from);
            }
        }
    }
}

/// One decoder layer.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// Of the norms before attention and feed-forward.
    pub norms: [&'a [f32]; 2],
    pub eps: f32,
    /// q, k, v
    pub input: [Linear<'a>; 3],
    pub output: Linear<'a>,
    /// gate, up
    pub gates: [Linear<'a>; 2],
    pub down: Linear<'a>,
}

/// What all layers of a pass share.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub heads: Heads,
    /// The rows' sequences, in the order of the rows.
    pub runs: &'a [Run],
    /// Cosines and sines, `[rows, head_dim / 2]`.
    pub rotary: [&'a [f32]; 2],
    pub window: Option<usize>,
    /// Whether quantised weights are multiplied as integers.
    pub integers: bool,
}

impl Pass<'_> {
    fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.new).sum()
    }

    /// Runs the layers on `x` (`[rows, d_model]`), which becomes their output, and appends to the store.
    ///
    /// # Panics
    /// When the lengths do not fit together.
    pub fn forward(&self, level: Level, layers: &[Layer<'_>], store: &mut Store, x: &mut [f32]) {
        let (rows, heads) = (self.rows(), self.heads);
        store.reserve(self.runs.iter().map(|run| run.past + run.new).max().unwrap_or(0));
        let mut normed = Buffer::new(x.len());
        let [mut query, mut key, mut value] =
            [heads.query_width(), heads.key_width(), heads.key_width()].map(|width| Buffer::new(rows * width));
        let mut mixed = Buffer::new(query.len());
        for (index, layer) in layers.iter().enumerate() {
            rms_norm(level, x, layer.norms[0], layer.eps, &mut normed);
            self.project(level, &normed, layer.input, [&mut query, &mut key, &mut value], false);
            let [cos, sin] = self.rotary;
            rotate(level, &mut query, cos, sin, heads.head_dim / 2, heads.query_width(), false);
            rotate(level, &mut key, cos, sin, heads.head_dim / 2, heads.key_width(), false);
            let mut first = 0;
            for run in self.runs {
                let width = heads.key_width();
                store.write(index, run, &key[first * width..], &value[first * width..]);
                first += run.new;
            }
            self.attention(level, &query, store, index, &mut mixed);
            self.project(level, &mixed, [layer.output], [x], true);
            rms_norm(level, x, layer.norms[1], layer.eps, &mut normed);
            let [mut gate, mut up] = layer.gates.map(|linear| Buffer::new(rows * linear.weight.out()));
            self.project(level, &normed, layer.gates, [&mut gate, &mut up], false);
            let mut hidden = Buffer::new(gate.len());
            swiglu(level, &gate, &up, &mut hidden);
            self.project(level, &hidden, [layer.down], [x], true);
        }
    }

    fn project<const N: usize>(
        &self,
        level: Level,
        x: &[f32],
        linears: [Linear<'_>; N],
        outs: [&mut [f32]; N],
        add: bool,
    ) {
        let rows = self.rows();
        // What is rounded is so for any number of rows: a sequence is continued as if it were alone.
        match rows <= FEW || self.integers {
            true => project_few(level, x, rows, linears, outs, add, self.integers),
            false => drop(project(level, x, rows, linears, outs, add)),
        }
    }

    /// `softmax(q·kᵀ / sqrt(head_dim))·v` of every row over its sequence's keys up to its own, `[rows, heads · head_dim]`.
    fn attention(&self, level: Level, query: &[f32], store: &Store, layer: usize, out: &mut [f32]) {
        let heads = self.heads;
        let group = heads.heads / heads.kv_heads;
        let tile_rows = level.tile_rows();
        // Each run's first row and first tile; a tile is some heads of some rows.
        let (mut row, mut tile) = (0, 0);
        let mut starts = Vec::with_capacity(self.runs.len());
        for run in self.runs {
            starts.push((row, tile));
            row += run.new;
            tile += (run.new * group).div_ceil(tile_rows);
        }
        let out = Parts::new(out);
        parallel(tile * heads.kv_heads, |item| {
            let (at, kv_head) = (item / heads.kv_heads, item % heads.kv_heads);
            let index = starts.iter().rposition(|start| start.1 <= at).expect("the first begins at 0");
            let (run, (first_row, first_tile)) = (&self.runs[index], starts[index]);
            let first = (at - first_tile) * tile_rows;
            let rows = tile_rows.min(run.new * group - first);
            let tile = AttentionTile { heads, run, first_row, kv_head, first, rows, window: self.window };
            tile.compute(level, query, store, layer, &out);
        });
    }
}

/// Some query heads of some rows of one sequence, which share a key head.
struct AttentionTile<'a> {
    heads: Heads,
    run: &'a Run,
    /// The run's first row among all.
    first_row: usize,
    kv_head: usize,
    /// Among the run's pairs of a row and a head of the group, the first one and how many.
    first: usize,
    rows: usize,
    window: Option<usize>,
}

impl AttentionTile<'_> {
    /// The position of a pair, and where its head is in `[rows, heads · head_dim]`.
    fn place(&self, i: usize) -> (usize, usize) {
        let group = self.heads.heads / self.heads.kv_heads;
        let (row, head) = ((self.first + i) / group, self.kv_head * group + (self.first + i) % group);
        let at = (self.first_row + row) * self.heads.query_width() + head * self.heads.head_dim;
        (self.run.past + row, at)
    }

    /// The positions that a pair sees.
    fn seen(&self, i: usize) -> std::ops::Range<usize> {
        let position = self.place(i).0;
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
    }

    fn compute(&self, level: Level, query: &[f32], store: &Store, layer: usize, out: &Parts<'_>) {
        let (dim, rows) = (self.heads.head_dim, self.rows);
        let scale = 1.0 / (dim as f32).sqrt();
        let mut left = Buffer::new(dim.div_ceil(BLOCK) * rows * BLOCK);
        for i in 0..rows {
            let from = &query[self.place(i).1..][..dim];
            for (block, from) in from.chunks(BLOCK).enumerate() {
                let to = &mut left[(block * rows + i) * BLOCK..];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from * scale);
            }
        }
        let [keys, values] = &store.layers[layer];
        let [key_width, value_width] = store.widths();
        let start = (self.run.sequence * store.kv_heads + self.kv_head) * store.rows;
        let mut softmax = Softmax { scores: EMPTY, largest: [LOWEST; 14], sums: [0.0; 14], shrink: [0.0; 14] };
        let mut mixed = vec![EMPTY; dim.div_ceil(BLOCK)];
        let seen = self.seen(0).start..self.seen(rows - 1).end;
        for panel in seen.start / BLOCK..seen.end.div_ceil(BLOCK) {
            let first = panel * BLOCK;
            let term = Term {
                left: &left,
                left_stride: rows * BLOCK,
                right: &keys[(start + first) * key_width..],
                right_stride: BLOCK,
                depth: dim,
            };
            sum_tile(level, &[term], rows, &mut softmax.scores);
            for (i, scores) in softmax.scores.iter_mut().take(rows).enumerate() {
                let seen = self.seen(i);
                if first < seen.start || first + BLOCK > seen.end {
                    for (key, score) in (first..).zip(scores) {
                        *score = if seen.contains(&key) { *score } else { f32::NEG_INFINITY };
                    }
                }
            }
            soften(level, &mut softmax, rows);
            let weights = softmax.scores.as_flattened();
            for (at, mixed) in mixed.iter_mut().enumerate() {
                let term = Term {
                    left: weights,
                    left_stride: 0,
                    right: &values[(start + first) * value_width + at * BLOCK..],
                    right_stride: value_width,
                    // What lies behind the last key was never written, or by a sequence that was cut.
                    depth: BLOCK.min(seen.end - first),
                };
                let mut more = EMPTY;
                sum_tile(level, &[term], rows, &mut more);
                blend(level, mixed, &more, &softmax.shrink, rows);
            }
        }
        for i in 0..rows {
            // SAFETY: a head of a row belongs to one tile, and each tile is computed once.
            let to = unsafe { out.part(self.place(i).1, dim) };
            for (to, mixed) in to.chunks_mut(BLOCK).zip(&mixed) {
                to.iter_mut().zip(mixed[i]).for_each(|(to, mixed)| *to = mixed / softmax.sums[i]);
            }
        }
    }
}

/// Below every score, and finite: a row that has seen no key yet turns no difference into NaN.
const LOWEST: f32 = -1e30;

/// A softmax that is computed 32 keys at a time.
struct Softmax {
    /// Scores, then `e^(score − largest)`.
    scores: Tile,
    largest: [f32; 14],
    /// Of the weights so far.
    sums: [f32; 14],
    /// What all earlier weights are multiplied by, since a larger score was met.
    shrink: [f32; 14],
}

dispatch! {
    fn soften(softmax: &mut Softmax, rows: usize) = soften_with
}

#[inline(always)]
fn soften_with<S: Simd>(simd: S, softmax: &mut Softmax, rows: usize) {
    for (i, scores) in softmax.scores.iter_mut().take(rows).enumerate() {
        let (low, high) = (simd.load(scores), simd.load(&scores[LANES..]));
        let largest = softmax.largest[i].max(simd.max_lane(simd.max(low, high)));
        let low = simd.exp(simd.sub(low, simd.splat(largest)));
        let high = simd.exp(simd.sub(high, simd.splat(largest)));
        simd.store(low, scores);
        simd.store(high, &mut scores[LANES..]);
        let shrink = (softmax.largest[i] - largest).exp();
        softmax.sums[i] = softmax.sums[i] * shrink + simd.sum(simd.add(low, high));
        softmax.shrink[i] = shrink;
        softmax.largest[i] = largest;
    }
}

dispatch! {
    /// `mixed = mixed · shrink + more`
    fn blend(mixed: &mut Tile, more: &Tile, shrink: &[f32; 14], rows: usize) = blend_with
}

#[inline(always)]
fn blend_with<S: Simd>(simd: S, mixed: &mut Tile, more: &Tile, shrink: &[f32; 14], rows: usize) {
    for ((mixed, more), &shrink) in mixed.iter_mut().zip(more).zip(shrink).take(rows) {
        for at in [0, LANES] {
            let sum = simd.fma(simd.load(&mixed[at..]), simd.splat(shrink), simd.load(&more[at..]));
            simd.store(sum, &mut mixed[at..]);
        }
    }
}
