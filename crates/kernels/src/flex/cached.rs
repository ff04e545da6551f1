//! The stack of layers over a cache: Burn's tensors in and out, and none between.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::record::{Operand, Values, record};
use super::{Pair, PairValues};
use crate::cached::CachedPass;
use crate::cpu::{attention::Heads, cached, integer, matrix::Matrix, simd::Level};
use crate::{DecoderLayer, LowRank};

/// [`crate::forward_cached`]: nothing of it is ever tracked.
pub fn forward_cached(
    layers: &[DecoderLayer<'_>],
    x: &Tensor<2>,
    pass: &CachedPass<'_>,
    store: &mut cached::Store,
) -> Tensor<2> {
    let held: Vec<HeldLayer> = layers.iter().map(HeldLayer::new).collect();
    let borrowed: Vec<cached::Layer<'_>> = held.iter().map(HeldLayer::borrow).collect();
    let [cos, sin] = crate::rotary::tables(pass.position_ids, pass.head_dim, pass.rope_theta);
    let first = &held[0].linears;
    let heads = Heads {
        heads: first[0].weight.out() / pass.head_dim,
        kv_heads: first[1].weight.out() / pass.head_dim,
        head_dim: pass.head_dim,
    };
    let level = Level::best();
    let integers = pass.integers && integer::is_fast(level);
    let native = cached::Pass { heads, runs: pass.runs, rotary: [&cos, &sin], window: pass.window, integers };
    let input = Operand::new(x).constant();
    let mut y = input.values().to_vec();
    native.forward(level, &borrowed, store, &mut y);
    record([&input], y, x.dims(), || unreachable!("nothing is tracked"))
}

/// A layer's values, for as long as a pass takes.
struct HeldLayer {
    norms: [Values; 2],
    eps: f32,
    /// q, k, v, o, gate, up, down
    linears: [HeldLinear; 7],
}

struct HeldLinear {
    weight: Arc<Matrix>,
    pair: Pair,
}

impl HeldLayer {
    fn new(layer: &DecoderLayer<'_>) -> Self {
        let DecoderLayer { attention, feed_forward } = layer;
        let linears = [
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
            feed_forward.gate_proj,
            feed_forward.up_proj,
            feed_forward.down_proj,
        ];
        Self {
            norms: [&attention.norm, &feed_forward.norm].map(|norm| Operand::new(norm).values()),
            eps: attention.eps as f32,
            linears: linears.map(|linear| HeldLinear {
                weight: linear.weight.to_matrix(),
                pair: Pair(linear.adapter.map(|LowRank { a, b, scale, .. }| PairValues {
                    a: Operand::new(&a.val()).values(),
                    b: Operand::new(&b.val()).values(),
                    r: a.dims()[0],
                    scale: *scale as f32,
                    mask: None,
                })),
            }),
        }
    }

    fn borrow(&self) -> cached::Layer<'_> {
        let [q, k, v, output, gate, up, down] =
            self.linears.each_ref().map(|linear| linear.pair.borrow(&linear.weight));
        let [norm, post_norm] = &self.norms;
        cached::Layer { norms: [norm, post_norm], eps: self.eps, input: [q, k, v], output, gates: [gate, up], down }
    }
}
