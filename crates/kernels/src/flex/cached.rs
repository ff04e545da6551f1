//! The stack of layers over a cache: Burn's tensors in and out, and none between.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::record::{Operand, Values, record};
use super::{Pair, PairValues};
use crate::cached::CachedPass;
use crate::cpu::{attention::Heads, cached, few, integer, linear, matrix::Matrix, simd::Level};
use crate::{DecoderLayer, Linear, LowRank};

/// [`crate::forward_cached`]: nothing of it is ever tracked.
pub fn forward_cached(
    layers: &[DecoderLayer<'_>],
    x: &Tensor<2>,
    pass: &CachedPass<'_>,
    store: &mut cached::Store,
    held: &mut Held,
) -> Tensor<2> {
    if !held.is_of(layers) {
        *held = Held::new(layers);
    }
    let held = &held.0;
    let borrowed: Vec<cached::Layer<'_>> = held.iter().map(|layer| layer.borrow(pass.rounded)).collect();
    let [cos, sin] = crate::rotary::tables(pass.position_ids, pass.head_dim, pass.rope_theta);
    let first = &held[0].linears;
    let heads = Heads {
        heads: first[0].weight.out() / pass.head_dim,
        kv_heads: first[1].weight.out() / pass.head_dim,
        head_dim: pass.head_dim,
    };
    let level = Level::best();
    let integers = pass.rounded && integer::is_fast(level);
    let native = cached::Pass { heads, runs: pass.runs, rotary: [&cos, &sin], window: pass.window, integers };
    let input = Operand::new(x).constant();
    let mut y = input.values().to_vec();
    native.forward(level, &borrowed, store, &mut y);
    record([&input], y, x.dims(), || unreachable!("nothing is tracked"))
}

/// The values of a stack's layers, kept from one pass to the next: most passes are of the same layers.
#[derive(Clone, Default)]
pub struct Held(Arc<[HeldLayer]>);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.0.len()).finish()
    }
}

impl Held {
    fn new(layers: &[DecoderLayer<'_>]) -> Self {
        Self(layers.iter().map(HeldLayer::new).collect())
    }

    /// Whether these are the values of the layers. A tensor whose values are held is not changed in place, so values that
    /// lie where those that are held lie are the same.
    fn is_of(&self, layers: &[DecoderLayer<'_>]) -> bool {
        self.0.len() == layers.len() && self.0.iter().zip(layers).all(|(held, layer)| held.is_of(layer))
    }
}

struct HeldLayer {
    norms: [Values; 2],
    eps: f32,
    /// q, k, v, o, gate, up, down
    linears: [HeldLinear; 7],
}

struct HeldLinear {
    weight: Arc<Matrix>,
    pair: Pair,
    halves: Option<few::Halves>,
}

/// q, k, v, o, gate, up, down
fn linears<'a>(layer: &DecoderLayer<'a>) -> [Linear<'a>; 7] {
    let DecoderLayer { attention, feed_forward } = layer;
    [
        attention.q_proj,
        attention.k_proj,
        attention.v_proj,
        attention.o_proj,
        feed_forward.gate_proj,
        feed_forward.up_proj,
        feed_forward.down_proj,
    ]
}

/// Before attention, and before the feed-forward half.
fn norms(layer: &DecoderLayer<'_>) -> [Values; 2] {
    [&layer.attention.norm, &layer.feed_forward.norm].map(|norm| Operand::new(norm).into_values())
}

impl HeldLayer {
    fn new(layer: &DecoderLayer<'_>) -> Self {
        Self { norms: norms(layer), eps: layer.attention.eps as f32, linears: linears(layer).map(HeldLinear::new) }
    }

    fn is_of(&self, layer: &DecoderLayer<'_>) -> bool {
        self.eps == layer.attention.eps as f32
            && norms(layer).iter().zip(&self.norms).all(|(norm, held)| norm.is_at(held))
            && linears(layer).iter().zip(&self.linears).all(|(linear, held)| held.is_of(*linear))
    }

    /// With `halves`, adapters are taken in half precision where there are few rows.
    fn borrow(&self, halves: bool) -> cached::Layer<'_> {
        let [q, k, v, output, gate, up, down] = self.linears.each_ref().map(|linear| linear.borrow(halves));
        let [norm, post_norm] = &self.norms;
        cached::Layer { norms: [norm, post_norm], eps: self.eps, input: [q, k, v], output, gates: [gate, up], down }
    }
}

impl HeldLinear {
    fn new(linear: Linear<'_>) -> Self {
        let pair = Pair(linear.adapter.map(|LowRank { a, b, scale, .. }| PairValues {
            a: Operand::new(a).into_values(),
            b: Operand::new(b).into_values(),
            r: a.dims()[0],
            scale: *scale as f32,
            mask: None,
        }));
        let halves = pair.0.as_ref().map(|pair| few::Halves::new(Level::best(), &pair.a, &pair.b, pair.r));
        Self { weight: linear.weight.to_matrix(), pair, halves }
    }

    fn is_of(&self, linear: Linear<'_>) -> bool {
        let is_pair = match (&self.pair.0, linear.adapter) {
            (None, None) => true,
            (Some(pair), Some(LowRank { a, b, scale, .. })) => {
                let [a, b] = [a, b].map(|parameter| Operand::new(parameter).into_values());
                a.is_at(&pair.a) && b.is_at(&pair.b) && *scale as f32 == pair.scale
            }
            _ => false,
        };
        is_pair && linear.weight.matrix().is_some_and(|weight| Arc::ptr_eq(weight, &self.weight))
    }

    fn borrow(&self, halves: bool) -> linear::Linear<'_> {
        let mut linear = self.pair.borrow(&self.weight);
        if let Some(adapter) = &mut linear.adapter {
            adapter.halves = self.halves.as_ref().filter(|_| halves);
        }
        linear
    }
}
