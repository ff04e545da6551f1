//! The allocations of a training step, in the order in which the code makes them.
//!
//! Sources: `foehn-kernels` (`cpu/block.rs`, `cpu/linear.rs`, `cpu/attention.rs`, `cpu/cross_entropy.rs`,
//! `flex/mod.rs`), `foehn-finetune` (`step.rs`, `optim.rs`, `trainer.rs`). Each function names the one that it follows.
//! Lengths are counts of single-precision numbers.

use super::heap::{Block, Buffer, Heap};
use super::{Network, Part, Pass};

/// Side of a block of a packed matrix (`cpu/matrix.rs`, `BLOCK`).
const BLOCK: usize = 32;
/// Rows of a tile of the left side of a product. A multiple of what any processor uses would only add padding.
const TILE: usize = 6;
/// The same for pairs of bfloat16 (`cpu/product/x86.rs`, `TILE_ROWS`).
const TILE_OF_PAIRS: usize = 32;
/// Rows whose logits are in memory at once (`cpu/cross_entropy.rs`, `CHUNK`).
const CHUNK: usize = 128;
/// Queries of a tile of the attention (`cpu/attention.rs`, `TILE`).
pub(super) const QUERIES: usize = 64;
/// The depth that is summed at once (`cpu/product.rs`, `DEPTH`).
const DEPTH: usize = 1536;
/// Words of the left side that one item of a product reads (`cpu/product/operand.rs`, `LEFT_BYTES`).
const LEFT: usize = (384 << 10) / 4;
/// The same for pairs of bfloat16.
const LEFT_OF_PAIRS: usize = (768 << 10) / 4;

/// A projection, as the products see it.
#[derive(Clone, Copy)]
struct Linear {
    out: usize,
    input: usize,
    /// The rank of its adapter; 0 without one.
    r: usize,
}

/// What a half of a layer keeps for its backward pass.
#[derive(Default)]
struct Saved {
    buffers: Vec<Buffer>,
    lows: Vec<Block>,
}

/// Replays the steps of a run on a heap.
pub(super) struct Replay<'a> {
    pub heap: Heap,
    pub network: &'a Network,
    /// Whether the inner values of a half are computed again in the backward pass.
    pub recompute: bool,
    /// Whether the adapters' inputs have dropout.
    pub dropout: bool,
    /// Gradients of the adapter's matrices, summed over the micro-batches of the step.
    pub gradients: Vec<Block>,
}

impl Replay<'_> {
    /// `finetune::gradients` for one micro-batch.
    pub fn micro_batch(&mut self, pass: &Pass) {
        let (rows, d_model) = (pass.rows, self.network.d_model);
        // `Mistral::forward`: the rotary tables and their copies as tensors, the masks of the attention, the embeddings.
        // Queries with a factor of their own have tables of their own.
        let tables = self
            .take(Part::Activations, (2 + 2 * usize::from(self.network.query_scale)) * rows * self.network.head_dim);
        let masks: usize = pass.keys.iter().map(|keys| keys + QUERIES * keys.div_ceil(BLOCK)).sum();
        let masks = self.take(Part::Activations, masks);
        let mut inputs = vec![self.take(Part::Activations, rows * d_model)];
        let mut kept = Vec::new();
        for layer in 0..self.network.ranks.len() {
            let attention = self.attention_forward(pass, layer);
            kept.push(self.after_forward(attention));
            // The output, which is the next half's input.
            inputs.push(self.take(Part::Activations, rows * d_model));
            let feed_forward = self.feed_forward(rows, layer);
            kept.push(self.after_forward(feed_forward));
            inputs.push(self.take(Part::Activations, rows * d_model));
        }
        let hidden = self.take(Part::Activations, rows * d_model);
        let mut d_out = self.head(pass, hidden);
        // The backward pass of the last norm.
        let dx = self.take(Part::Activations, rows * d_model);
        self.heap.give(std::mem::replace(&mut d_out, dx));
        self.heap.give(inputs.pop().expect("one per half"));
        let mut fresh = Vec::new();
        for layer in (0..self.network.ranks.len()).rev() {
            for half in [1, 0] {
                let is_first = layer == 0 && half == 0;
                let saved = kept.pop().expect("one per half");
                let saved = match (self.recompute, half) {
                    (false, _) => saved,
                    (true, 1) => self.feed_forward_again(rows, layer),
                    (true, _) => self.attention_again(pass, layer),
                };
                let dx = match half {
                    1 => self.feed_forward_backward(rows, layer, saved, &mut fresh),
                    _ => self.attention_backward(pass, layer, saved, !is_first, &mut fresh),
                };
                self.heap.give(std::mem::replace(&mut d_out, dx));
                self.heap.give(inputs.pop().expect("one per half"));
            }
        }
        self.heap.give(d_out);
        self.heap.give(tables);
        self.heap.give(masks);
        self.sum(fresh);
    }

    /// Adds a micro-batch's gradients to the step's.
    fn sum(&mut self, fresh: Vec<Block>) {
        match self.gradients.is_empty() {
            true => self.gradients = fresh,
            false => fresh.into_iter().for_each(|block| self.heap.give(block)),
        }
    }

    /// `AttentionBlock::forward`; the output is allocated by the caller.
    fn attention_forward(&mut self, pass: &Pass, layer: usize) -> Saved {
        let (rows, [q, k, v, o]) = (pass.rows, self.attention_linears(layer));
        let normed = self.buffer(Part::Scratch, rows * q.input);
        let mut buffers: Vec<Buffer> = [q, k, v].map(|linear| self.buffer(Part::Activations, rows * linear.out)).into();
        let mut lows = self.project(rows, &[q, k, v]);
        self.heap.keep(normed);
        if self.network.qk_norm {
            // q and k before the norms of their heads are kept too.
            buffers.extend([q, k].map(|linear| self.buffer(Part::Activations, rows * linear.out)));
        }
        buffers.push(self.buffer(Part::Activations, rows * o.input));
        buffers.push(self.buffer(Part::Activations, rows * self.network.heads));
        self.attend(pass);
        lows.extend(self.project(rows, &[o]));
        Saved { buffers, lows }
    }

    /// `FeedForwardBlock::forward`.
    fn feed_forward(&mut self, rows: usize, layer: usize) -> Saved {
        let [gate, up, down] = self.feed_forward_linears(layer);
        let buffers: Vec<Buffer> = [gate, up].map(|linear| self.buffer(Part::Activations, rows * linear.out)).into();
        let normed = self.buffer(Part::Scratch, rows * gate.input);
        let mut lows = self.project(rows, &[gate, up]);
        self.heap.keep(normed);
        let hidden = self.buffer(Part::Scratch, rows * down.input);
        lows.extend(self.project(rows, &[down]));
        self.heap.keep(hidden);
        Saved { buffers, lows }
    }

    fn attention_again(&mut self, pass: &Pass, layer: usize) -> Saved {
        let saved = self.attention_forward(pass, layer);
        let out = self.take(Part::Scratch, pass.rows * self.network.d_model);
        self.heap.give(out);
        saved
    }

    fn feed_forward_again(&mut self, rows: usize, layer: usize) -> Saved {
        let saved = self.feed_forward(rows, layer);
        let out = self.take(Part::Scratch, rows * self.network.d_model);
        self.heap.give(out);
        saved
    }

    /// With `recompute` nothing is kept but the input.
    fn after_forward(&mut self, saved: Saved) -> Saved {
        if !self.recompute {
            return saved;
        }
        self.release(saved);
        Saved::default()
    }

    fn release(&mut self, saved: Saved) {
        saved.buffers.into_iter().for_each(|buffer| self.heap.keep(buffer));
        saved.lows.into_iter().for_each(|block| self.heap.give(block));
    }

    /// `FeedForwardBlock::backward`. Returns the gradient of the input.
    fn feed_forward_backward(&mut self, rows: usize, layer: usize, saved: Saved, fresh: &mut Vec<Block>) -> Block {
        let [gate, up, down] = self.feed_forward_linears(layer);
        let d_hidden = self.buffer(Part::Scratch, rows * down.input);
        let hidden = self.buffer(Part::Scratch, rows * down.input);
        fresh.extend(self.project_backward(rows, &[down], true));
        self.heap.keep(hidden);
        self.heap.keep(d_hidden);
        let normed = self.buffer(Part::Scratch, rows * gate.input);
        let d_normed = self.buffer(Part::Scratch, rows * gate.input);
        fresh.extend(self.project_backward(rows, &[gate, up], true));
        let dx = self.take(Part::Activations, rows * gate.input);
        self.heap.keep(d_normed);
        self.heap.keep(normed);
        self.release(saved);
        dx
    }

    /// `AttentionBlock::backward`. Returns the gradient of the input. The first half of the model needs none, and gets
    /// an empty block.
    fn attention_backward(
        &mut self,
        pass: &Pass,
        layer: usize,
        saved: Saved,
        wants_dx: bool,
        fresh: &mut Vec<Block>,
    ) -> Block {
        let (rows, [q, k, v, o]) = (pass.rows, self.attention_linears(layer));
        let d_mixed = self.buffer(Part::Scratch, rows * o.input);
        fresh.extend(self.project_backward(rows, &[o], true));
        let d_inputs = [q, k, v].map(|linear| self.buffer(Part::Scratch, rows * linear.out));
        self.attend_backward(pass);
        if self.network.qk_norm {
            for linear in [q, k] {
                let through = self.buffer(Part::Scratch, rows * linear.out);
                self.heap.keep(through);
            }
        }
        let normed = self.buffer(Part::Scratch, rows * q.input);
        let d_normed = self.buffer(Part::Scratch, if wants_dx { rows * q.input } else { 0 });
        fresh.extend(self.project_backward(rows, &[q, k, v], wants_dx));
        let dx = self.take(Part::Activations, if wants_dx { rows * q.input } else { 0 });
        self.heap.keep(d_normed);
        self.heap.keep(normed);
        d_inputs.into_iter().for_each(|buffer| self.heap.keep(buffer));
        self.heap.keep(d_mixed);
        self.release(saved);
        dx
    }

    /// `linear::project`. Returns the low-rank values.
    fn project(&mut self, rows: usize, linears: &[Linear]) -> Vec<Block> {
        let width = linears[0].input;
        let left = self.left(rows, width);
        let lows = self.lows(rows, width, linears);
        for linear in linears {
            let low = self.left(rows, linear.r);
            let b = self.packed(linear.out, linear.r);
            self.expand_right(linear.input);
            self.heap.keep(b);
            self.heap.keep(low);
        }
        self.heap.keep(left);
        lows
    }

    /// `linear::lows`.
    fn lows(&mut self, rows: usize, width: usize, linears: &[Linear]) -> Vec<Block> {
        let total: usize = if self.dropout { 0 } else { linears.iter().map(|linear| linear.r).sum() };
        let together = self.take(Part::Scratch, rows * total);
        // Collected from slices, so it grows by doubling.
        let a = self.take(Part::Scratch, if total > 0 { grown(width, total * width) } else { 0 });
        let packed = self.packed(total, width);
        self.heap.keep(packed);
        self.heap.give(a);
        let mut lows = Vec::new();
        for linear in linears.iter().filter(|linear| linear.r > 0) {
            lows.push(self.take(Part::Activations, rows * linear.r));
            if self.dropout {
                let masked = self.buffer(Part::Scratch, rows * width);
                let left = self.left(rows, width);
                let a = self.packed(linear.r, width);
                [a, left, masked].into_iter().for_each(|buffer| self.heap.keep(buffer));
            }
        }
        self.heap.give(together);
        lows
    }

    /// `linear::project_backward`. Returns the gradients of the adapters' matrices.
    fn project_backward(&mut self, rows: usize, linears: &[Linear], wants_dx: bool) -> Vec<Block> {
        let (mut parts, mut gradients) = (Vec::new(), Vec::new());
        for &Linear { out, input, r } in linears {
            parts.push(self.packed_rows(rows, out));
            if r == 0 {
                continue;
            }
            let b = self.packed(out, r);
            let d_low = self.take(Part::Scratch, rows * r);
            gradients.push(self.take(Part::Gradients, r * input));
            let masked = self.buffer(Part::Scratch, if self.dropout { rows * input } else { 0 });
            self.turned(rows, r);
            gradients.push(self.take(Part::Gradients, out * r));
            self.turned(rows, r);
            parts.push(self.packed_rows(rows, r));
            parts.push(self.packed(r, input));
            self.heap.keep(masked);
            self.heap.give(d_low);
            self.heap.keep(b);
        }
        if wants_dx {
            let deepest = linears.iter().map(|linear| linear.out).max().unwrap_or(0);
            let left = if self.network.is_paired { LEFT_OF_PAIRS } else { LEFT };
            self.expand(left * DEPTH / deepest.clamp(1, DEPTH), linears.len());
            if self.dropout && linears.iter().any(|linear| linear.r > 0) {
                let path = [0, 1].map(|_| self.buffer(Part::Scratch, rows * linears[0].input));
                path.into_iter().for_each(|buffer| self.heap.keep(buffer));
            }
        }
        parts.into_iter().for_each(|buffer| self.heap.keep(buffer));
        gradients
    }

    /// `linear::turned`.
    fn turned(&mut self, rows: usize, r: usize) {
        let columns = self.take(Part::Scratch, r * rows);
        let left = self.buffer(Part::Scratch, r.next_multiple_of(TILE) * rows.next_multiple_of(BLOCK));
        self.heap.keep(left);
        self.heap.give(columns);
    }

    /// `attention::attention`: each thread gathers the keys and values that a tile of queries sees, the last tile first.
    fn attend(&mut self, pass: &Pass) {
        let stride = self.network.head_dim.next_multiple_of(BLOCK);
        for &keys in pass.keys.iter().rev() {
            let keys = keys.next_multiple_of(BLOCK);
            let mut taken = Vec::new();
            let mut buffers = Vec::new();
            for _ in 0..self.network.threads {
                taken.extend([0, 1].map(|_| self.take(Part::Scratch, keys * stride)));
                buffers.extend([0, 1].map(|_| self.buffer(Part::Scratch, keys * stride)));
                taken.push(self.take(Part::Scratch, keys * 8));
                buffers.push(self.buffer(Part::Scratch, QUERIES * stride));
            }
            self.release(Saved { buffers, lows: taken });
        }
    }

    /// `attention::attention_backward`: the heads' gradients of keys and values, and what each thread gathers.
    fn attend_backward(&mut self, pass: &Pass) {
        let stride = self.network.head_dim.next_multiple_of(BLOCK);
        let partial = self.buffer(Part::Scratch, 2 * self.network.heads * pass.rows * stride);
        for &keys in &pass.keys {
            let keys = keys.next_multiple_of(BLOCK);
            let mut taken = Vec::new();
            let mut buffers = Vec::new();
            for _ in 0..self.network.threads {
                taken.extend([0, 1].map(|_| self.take(Part::Scratch, keys * stride)));
                buffers.extend([0, 1].map(|_| self.buffer(Part::Scratch, keys * stride)));
                taken.extend([0, 1].map(|_| self.take(Part::Scratch, QUERIES * stride)));
                buffers.extend([0, 1].map(|_| self.buffer(Part::Scratch, QUERIES * stride)));
                taken.extend([0, 1].map(|_| self.take(Part::Scratch, keys * QUERIES)));
                taken.extend([0, 1].map(|_| self.take(Part::Scratch, keys * BLOCK / 2)));
            }
            self.release(Saved { buffers, lows: taken });
        }
        self.heap.keep(partial);
    }

    /// `flex::linear_cross_entropy` and its backward pass. Takes the hidden states, returns their gradient.
    fn head(&mut self, pass: &Pass, hidden: Block) -> Block {
        let (d_model, vocab, targets) = (self.network.d_model, self.network.vocab, pass.targets);
        // Collected from slices, so it grows by doubling.
        let gathered = self.take(Part::Head, grown(d_model, targets * d_model));
        let gradient = self.take(Part::Head, targets * d_model);
        let mut logits = self.heap.buffer(Part::Head, packed_len(targets.min(CHUNK), vocab));
        let mut rows_of_logits = targets.min(CHUNK);
        for first in (0..targets).step_by(CHUNK) {
            let rows = CHUNK.min(targets - first);
            if rows != rows_of_logits {
                // The new ones are allocated before the old ones are released.
                let fewer = self.heap.buffer(Part::Head, packed_len(rows, vocab));
                self.heap.keep(std::mem::replace(&mut logits, fewer));
                rows_of_logits = rows;
            }
            let left = self.left(rows, d_model);
            self.expand_right(d_model);
            if self.network.is_paired {
                let words = self.heap.buffer(Part::Head, packed_len(rows, vocab) / 2);
                self.expand(LEFT_OF_PAIRS, 1);
                self.heap.keep(words);
            } else {
                self.expand(LEFT, 1);
            }
            self.heap.keep(left);
        }
        self.heap.keep(logits);
        self.heap.give(gathered);
        let dx = self.take(Part::Activations, pass.rows * d_model);
        self.heap.give(gradient);
        self.heap.give(hidden);
        dx
    }

    /// `AdamW::step` after `clip_global_norm`: for each matrix its new moments and values, while the model still holds
    /// the old values. `parameters` are the model's, and `moments` two for each.
    pub fn optimizer(&mut self, parameters: &mut Vec<Block>, moments: &mut [[Block; 2]], lens: &[usize]) {
        let mut updated = Vec::with_capacity(lens.len());
        let gradients = std::mem::take(&mut self.gradients);
        for ((gradient, moments), &len) in gradients.into_iter().zip(moments).zip(lens) {
            for moment in moments {
                let (scaled, term) = (self.take(Part::Moments, len), self.take(Part::Scratch, len));
                self.heap.give(std::mem::replace(moment, scaled));
                self.heap.give(term);
            }
            self.heap.give(gradient);
            let denominator = self.take(Part::Scratch, len);
            let update = self.take(Part::Scratch, len);
            updated.push(self.take(Part::Adapter, len));
            [denominator, update].into_iter().for_each(|block| self.heap.give(block));
        }
        for old in std::mem::replace(parameters, updated) {
            self.heap.give(old);
        }
    }

    /// `Operand::open_right`: a panel of a weight, and for pairs its numbers before they are rounded.
    fn expand_right(&mut self, depth: usize) {
        let numbers = depth.min(DEPTH) * BLOCK;
        match self.network.is_paired {
            true => self.expand(numbers + numbers / 2, 1),
            false => self.expand(numbers, 1),
        }
    }

    /// Weights that are not stored as they are multiplied are expanded for each item of a product, by each thread.
    fn expand(&mut self, len: usize, weights: usize) {
        if self.network.is_expanded {
            let count = self.network.threads * weights;
            let buffers: Vec<Buffer> = (0..count).map(|_| self.buffer(Part::Scratch, len)).collect();
            buffers.into_iter().for_each(|buffer| self.heap.keep(buffer));
        }
    }

    /// `Left::new`
    fn left(&mut self, rows: usize, depth: usize) -> Buffer {
        let len = match self.network.is_paired {
            true => rows.next_multiple_of(TILE_OF_PAIRS) * depth.next_multiple_of(BLOCK) / 2,
            false => rows.next_multiple_of(TILE) * depth.next_multiple_of(BLOCK),
        };
        self.buffer(Part::Scratch, len)
    }

    /// `PackedMatrix::new` of a gradient.
    fn packed_rows(&mut self, rows: usize, width: usize) -> Buffer {
        let len = packed_len(rows, width);
        self.buffer(Part::Scratch, if self.network.is_paired { len / 2 } else { len })
    }

    /// `PackedMatrix::new` of an adapter's matrix.
    fn packed(&mut self, out: usize, input: usize) -> Buffer {
        self.buffer(Part::Scratch, packed_len(out, input))
    }

    fn buffer(&mut self, part: Part, len: usize) -> Buffer {
        self.heap.buffer(part, len)
    }

    fn take(&mut self, part: Part, len: usize) -> Block {
        self.heap.take(part, 4 * len)
    }

    fn attention_linears(&self, layer: usize) -> [Linear; 4] {
        let Network { d_model, heads, kv_heads, head_dim, .. } = *self.network;
        let [q, k, v, o, ..] = self.network.ranks[layer];
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let linear = |out, input, r| Linear { out, input, r };
        [linear(queries, d_model, q), linear(keys, d_model, k), linear(keys, d_model, v), linear(d_model, queries, o)]
    }

    fn feed_forward_linears(&self, layer: usize) -> [Linear; 3] {
        let Network { d_model, intermediate, .. } = *self.network;
        let [.., gate, up, down] = self.network.ranks[layer];
        let linear = |out, input, r| Linear { out, input, r };
        [linear(intermediate, d_model, gate), linear(intermediate, d_model, up), linear(d_model, intermediate, down)]
    }
}

/// Numbers of a packed matrix: both sides are whole blocks.
pub(super) fn packed_len(out: usize, input: usize) -> usize {
    out.next_multiple_of(BLOCK) * input.next_multiple_of(BLOCK)
}

/// The capacity of a vector that began with `first` elements and grew by doubling to at least `len`.
fn grown(first: usize, len: usize) -> usize {
    let mut capacity = first.max(4);
    while capacity < len {
        capacity *= 2;
    }
    capacity
}
