//! The stack of layers over a cache: Burn's tensors in and out, and none between.

use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::tensor::Tensor;

use super::record::{Operand, Values, record};
use super::{Pair, PairValues};
use crate::cached::CachedPass;
use crate::cpu::{attention::Heads, cached, few, integer, matrix::Matrix, simd::Level};
use crate::{DecoderLayer, Linear, LowRank};

/// A stack's layers, their values opened once for all passes.
pub struct Held {
    layers: Vec<HeldLayer>,
    /// The adapters in half precision, for passes that need not be exact: made for the first one.
    halves: OnceLock<Vec<[Option<few::Halves>; 7]>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.layers.len()).finish()
    }
}

impl Held {
    pub fn new(layers: &[DecoderLayer<'_>]) -> Self {
        Self { layers: layers.iter().map(HeldLayer::new).collect(), halves: OnceLock::new() }
    }

    /// [`crate::Decoder::forward`]: nothing of it is ever tracked.
    pub fn forward(&self, x: &Tensor<2>, pass: &CachedPass<'_>, store: &mut cached::Store) -> Tensor<2> {
        let halves =
            pass.rounded.then(|| self.halves.get_or_init(|| self.layers.iter().map(HeldLayer::halves).collect()));
        let layers =
            self.layers.iter().enumerate().map(|(index, layer)| layer.borrow(halves.map(|halves| &halves[index])));
        let [cos, sin] = crate::rotary::tables(pass.position_ids, pass.head_dim, pass.rope_theta);
        let first = &self.layers[0].linears;
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
        native.forward(level, layers, store, &mut y);
        record([&input], y, x.dims(), || unreachable!("nothing is tracked"))
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
            norms: [&attention.norm, &feed_forward.norm].map(|norm| Operand::new(norm).into_values()),
            eps: attention.eps as f32,
            linears: linears.map(HeldLinear::new),
        }
    }

    fn halves(&self) -> [Option<few::Halves>; 7] {
        self.linears
            .each_ref()
            .map(|linear| linear.pair.0.as_ref().map(|pair| few::Halves::new(Level::best(), &pair.a, &pair.b, pair.r)))
    }

    /// The layer for the kernels; with `halves`, its adapters are taken in half precision where there are few rows.
    fn borrow<'a>(&'a self, halves: Option<&'a [Option<few::Halves>; 7]>) -> cached::Layer<'a> {
        let linear = |index: usize| {
            let mut linear = self.linears[index].pair.borrow(&self.linears[index].weight);
            if let Some(adapter) = &mut linear.adapter {
                adapter.halves = halves.and_then(|halves| halves[index].as_ref());
            }
            linear
        };
        let [norm, post_norm] = &self.norms;
        cached::Layer {
            norms: [norm, post_norm],
            eps: self.eps,
            input: [0, 1, 2].map(linear),
            output: linear(3),
            gates: [4, 5].map(linear),
            down: linear(6),
        }
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
        Self { weight: linear.weight.to_matrix(), pair }
    }
}
