//! The two halves of a decoder layer, with hand-written backward passes. The forward pass saves only what the backward
//! pass needs.

use super::attention::{Heads, Saved, Seen, attention, attention_backward};
use super::buffer::Buffer;
use super::linear::{Gradients, LinearView, Low, project, project_backward};
use super::product::Operand;
use super::rows::{rms_norm, rms_norm_backward, rotate, swiglu, swiglu_backward};
use super::simd::Level;

/// `x + o(attention(q(norm(x)), k(norm(x)), v(norm(x))))`.
#[derive(Clone, Copy)]
pub struct AttentionBlock<'a> {
    pub norm: &'a [f32],
    pub eps: f32,
    /// q, k, v
    pub input: [LinearView<'a>; 3],
    pub output: LinearView<'a>,
    pub heads: Heads,
    /// The weights of the norms of each head of q and k, `[head_dim]` each.
    pub head_norms: Option<[&'a [f32]; 2]>,
    /// Cosines and sines for q and k, `[rows, head_dim / 2]`; `None` for a layer without rotation.
    pub rotary: Option<[[&'a [f32]; 2]; 2]>,
    pub seen: &'a Seen,
}

/// The values of [`AttentionBlock::forward`] that its backward pass needs.
#[derive(Debug)]
pub struct SavedAttention {
    /// q and k, normalised and rotated, and v.
    input: [Buffer; 3],
    /// q and k before the norms of their heads.
    plain: Option<[Buffer; 2]>,
    mixed: Buffer,
    log_sums: Buffer,
    lows: ([Low; 3], [Low; 1]),
}

impl AttentionBlock<'_> {
    /// The block's output for `x`, `[rows, d_model]`.
    pub fn forward<O: Operand>(&self, level: Level, operand: O, x: &[f32]) -> (Vec<f32>, SavedAttention) {
        let rows = self.seen.rows();
        let heads = self.heads;
        let of_norm = normed(level, x, self.norm, self.eps);
        let [mut query, mut key, mut value] =
            [heads.query_width(), heads.key_width(), heads.key_width()].map(|width| Buffer::new(rows * width));
        let lows = project(level, operand, &of_norm, rows, self.input, [&mut query, &mut key, &mut value], false);
        drop(of_norm);
        let plain = self.head_norms.map(|norms| {
            let [q_norm, k_norm] = norms;
            [(&mut query, q_norm), (&mut key, k_norm)]
                .map(|(x, weight)| std::mem::replace(x, normed(level, x, weight, self.eps)))
        });
        self.rotate(level, [&mut query, &mut key], false);
        let mut mixed = Buffer::new(query.len());
        let mut log_sums = Buffer::new(rows * heads.heads);
        attention(level, heads, [&query, &key, &value], self.seen, &mut mixed, &mut log_sums);
        let mut out = x.to_vec();
        let low = project(level, operand, &mixed, rows, [self.output], [&mut out], true);
        (out, SavedAttention { input: [query, key, value], plain, mixed, log_sums, lows: (lows, low) })
    }

    /// The gradients, given that of the output: those of the adapters of q, k, v and o, and, with `wants_dx`, that of
    /// `x`.
    pub fn backward<O: Operand>(
        &self,
        level: Level,
        operand: O,
        x: &[f32],
        saved: &SavedAttention,
        d_out: &[f32],
        wants_dx: bool,
    ) -> (Option<Vec<f32>>, [Gradients; 4]) {
        let rows = self.seen.rows();
        let heads = self.heads;
        let mut d_mixed = Buffer::new(saved.mixed.len());
        let (lows, low) = &saved.lows;
        let [of_output] =
            project_backward(level, operand, &saved.mixed, rows, [self.output], low, [d_out], Some(&mut d_mixed));
        let [query, key, value] = &saved.input;
        let [mut d_query, mut d_key, mut d_value] = [query, key, value].map(|forward| Buffer::new(forward.len()));
        let forward = Saved { query, key, value, out: &saved.mixed, log_sums: &saved.log_sums };
        attention_backward(level, heads, forward, self.seen, &d_mixed, [&mut d_query, &mut d_key, &mut d_value]);
        self.rotate(level, [&mut d_query, &mut d_key], true);
        if let (Some(norms), Some(plain)) = (self.head_norms, &saved.plain) {
            for ((d, x), weight) in [&mut d_query, &mut d_key].into_iter().zip(plain).zip(norms) {
                let mut dx = Buffer::new(d.len());
                dx.fill(0.0);
                rms_norm_backward(level, x, weight, self.eps, d, &mut dx);
                *d = dx;
            }
        }
        let normed = normed(level, x, self.norm, self.eps);
        let mut d_normed = wants_dx.then(|| Buffer::new(x.len()));
        let d_input = [&d_query[..], &d_key, &d_value];
        let [q, k, v] =
            project_backward(level, operand, &normed, rows, self.input, lows, d_input, d_normed.as_deref_mut());
        let dx = d_normed.map(|d_normed| through_norm(level, x, self.norm, self.eps, &d_normed, d_out));
        (dx, [q, k, v, of_output])
    }

    /// Rotates q and k, or their gradients back.
    fn rotate(&self, level: Level, [query, key]: [&mut [f32]; 2], back: bool) {
        let heads = self.heads;
        let Some([of_query, of_key]) = self.rotary else { return };
        for (x, [cos, sin], width) in [(query, of_query, heads.query_width()), (key, of_key, heads.key_width())] {
            rotate(level, x, cos, sin, heads.head_dim / 2, width, back);
        }
    }
}

/// `x + down(silu(gate(norm(x))) · up(norm(x)))`.
#[derive(Clone, Copy)]
pub struct FeedForwardBlock<'a> {
    pub norm: &'a [f32],
    pub eps: f32,
    /// gate, up
    pub input: [LinearView<'a>; 2],
    pub down: LinearView<'a>,
}

/// The values of [`FeedForwardBlock::forward`] that its backward pass needs.
#[derive(Debug)]
pub struct SavedFeedForward {
    gate: Buffer,
    up: Buffer,
    lows: [Low; 2],
    low: Low,
}

impl FeedForwardBlock<'_> {
    /// The block's output for `x`, `[rows, d_model]`.
    pub fn forward<O: Operand>(&self, level: Level, operand: O, x: &[f32]) -> (Vec<f32>, SavedFeedForward) {
        let rows = x.len() / self.norm.len();
        let [mut gate, mut up] = [0, 1].map(|_| Buffer::new(rows * self.down.weight.input()));
        let lows = {
            let normed = normed(level, x, self.norm, self.eps);
            project(level, operand, &normed, rows, self.input, [&mut gate, &mut up], false)
        };
        let mut hidden = Buffer::new(gate.len());
        swiglu(level, &gate, &up, &mut hidden);
        let mut out = x.to_vec();
        let [low] = project(level, operand, &hidden, rows, [self.down], [&mut out], true);
        (out, SavedFeedForward { gate, up, lows, low })
    }

    /// The gradients, given that of the output: those of the adapters of gate, up and down, and, with `wants_dx`, that
    /// of `x`.
    pub fn backward<O: Operand>(
        &self,
        level: Level,
        operand: O,
        x: &[f32],
        saved: SavedFeedForward,
        d_out: &[f32],
        wants_dx: bool,
    ) -> (Option<Vec<f32>>, [Gradients; 3]) {
        let rows = x.len() / self.norm.len();
        let SavedFeedForward { mut gate, mut up, lows, low } = saved;
        let mut d_hidden = Buffer::new(gate.len());
        let [of_down] = {
            let mut hidden = Buffer::new(gate.len());
            swiglu(level, &gate, &up, &mut hidden);
            project_backward(level, operand, &hidden, rows, [self.down], &[low], [d_out], Some(&mut d_hidden))
        };
        swiglu_backward(level, &mut gate, &mut up, &d_hidden);
        drop(d_hidden);
        let normed = normed(level, x, self.norm, self.eps);
        let mut d_normed = wants_dx.then(|| Buffer::new(x.len()));
        let [of_gate, of_up] =
            project_backward(level, operand, &normed, rows, self.input, &lows, [&gate, &up], d_normed.as_deref_mut());
        let dx = d_normed.map(|d_normed| through_norm(level, x, self.norm, self.eps, &d_normed, d_out));
        (dx, [of_gate, of_up, of_down])
    }
}

fn normed(level: Level, x: &[f32], weight: &[f32], eps: f32) -> Buffer {
    let mut normed = Buffer::new(x.len());
    rms_norm(level, x, weight, eps, &mut normed);
    normed
}

/// The gradient of the block's input: the residual's gradient plus the gradient through the norm.
fn through_norm(level: Level, x: &[f32], weight: &[f32], eps: f32, d_normed: &[f32], d_out: &[f32]) -> Vec<f32> {
    let mut dx = d_out.to_vec();
    rms_norm_backward(level, x, weight, eps, d_normed, &mut dx);
    dx
}
