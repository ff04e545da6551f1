//! A model's passes over a KV cache, without tensors and without a tape.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::record::{Operand, Values};
use super::{Pair, PairValues, bias_of};
use crate::cpu::{attention::Heads, cached, few, integer, matrix::Matrix, simd::Level};
use crate::decoder::{CachedPass, DecoderLayerParts, Ends};
use crate::{Linear, LowRank};

/// The values of a model's parts, extracted once for all passes.
pub struct Held {
    embed_tokens: Arc<Matrix>,
    layers: Vec<HeldLayer>,
    norm: Values,
    eps: f32,
    lm_head: Arc<Matrix>,
    /// The adapters in half precision, for passes that need not be exact. They are made before the first such pass.
    halves: OnceLock<Vec<[Option<few::Halves>; 7]>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.layers.len()).finish()
    }
}

impl Held {
    pub fn new(layers: &[DecoderLayerParts<'_>], ends: &Ends<'_>) -> Self {
        Self {
            embed_tokens: ends.embed_tokens.to_matrix(),
            layers: layers.iter().map(HeldLayer::new).collect(),
            norm: Operand::new(&ends.norm).into_values(),
            eps: ends.eps as f32,
            lm_head: ends.lm_head.to_matrix(),
            halves: OnceLock::new(),
        }
    }

    /// Computes [`crate::DecoderKernel::next_logits`], or without `logits` [`crate::DecoderKernel::append`].
    pub fn pass(&self, pass: &CachedPass<'_>, store: &mut cached::Store, logits: Option<&mut Vec<f32>>) {
        let level = Level::best();
        let mut scratch = std::mem::take(&mut store.scratch);
        let cached::PassScratch { runs, rotary, x, layers: work } = &mut scratch;
        runs.clear();
        let brought = pass.new.iter().zip(pass.past).enumerate().filter(|(_, (new, _))| **new > 0);
        runs.extend(brought.map(|(sequence, (&new, &past))| cached::NewRows { sequence, past, new }));
        let position_ids = runs.iter().flat_map(|run| run.past as u32..(run.past + run.new) as u32);
        rotary.fill(position_ids, pass.rope);
        let d_model = self.embed_tokens.input();
        x.resize(pass.input_ids.len() * d_model, 0.0);
        for (&id, row) in pass.input_ids.iter().zip(x.chunks_exact_mut(d_model)) {
            self.embed_tokens.copy_row(level, id as usize, row);
        }
        let native = cached::Pass {
            heads: self.heads(pass.head_dim),
            runs,
            rotary: &*rotary,
            window: pass.window,
            integers: pass.rounded && integer::is_fast(level),
        };
        native.forward(level, self.borrow(pass.rounded), store, x, work);
        if let Some(logits) = logits {
            native.logits(level, x, (&self.norm, self.eps), &self.lm_head, logits, work);
        }
        store.scratch = scratch;
    }

    fn heads(&self, head_dim: usize) -> Heads {
        let [q, k, ..] = &self.layers[0].linears;
        Heads { heads: q.weight.out() / head_dim, kv_heads: k.weight.out() / head_dim, head_dim }
    }

    /// The layers for the kernels. With `halved`, the kernels use their adapters in half precision for few rows.
    fn borrow(&self, halved: bool) -> impl Iterator<Item = cached::Layer<'_>> + Clone {
        let halves = halved.then(|| self.halves.get_or_init(|| self.layers.iter().map(HeldLayer::halves).collect()));
        self.layers.iter().enumerate().map(move |(index, layer)| layer.borrow(halves.map(|halves| &halves[index])))
    }
}

struct HeldLayer {
    norms: [Values; 2],
    eps: f32,
    /// q, k, v, o, gate, up, down
    linears: [HeldLinear; 7],
    head_norms: Option<[Values; 2]>,
    is_rotated: bool,
    is_windowed: bool,
}

struct HeldLinear {
    weight: Arc<Matrix>,
    pair: Pair,
}

impl HeldLayer {
    fn new(layer: &DecoderLayerParts<'_>) -> Self {
        let DecoderLayerParts { attention, feed_forward, is_windowed } = layer;
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
            head_norms: super::values_of(attention.head_norms.as_ref()),
            is_rotated: attention.is_rotated,
            is_windowed: *is_windowed,
        }
    }

    fn halves(&self) -> [Option<few::Halves>; 7] {
        self.linears.each_ref().map(|linear| {
            linear.pair.adapter.as_ref().map(|pair| few::Halves::new(Level::best(), &pair.a, &pair.b, pair.r))
        })
    }

    /// The layer for the kernels. With `halves`, the kernels use its adapters in half precision for few rows.
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
            head_norms: self.head_norms.as_ref().map(|[q, k]| [&**q, &**k]),
            is_rotated: self.is_rotated,
            is_windowed: self.is_windowed,
            gates: [4, 5].map(linear),
            down: linear(6),
        }
    }
}

impl HeldLinear {
    fn new(linear: Linear<'_>) -> Self {
        let adapter = linear.adapter.map(|LowRank { a, b, scale, .. }| PairValues {
            a: Operand::new(a).into_values(),
            b: Operand::new(b).into_values(),
            r: a.dims()[0],
            scale: *scale as f32,
            mask: None,
        });
        let pair = Pair { adapter, bias: bias_of(linear) };
        Self { weight: linear.weight.to_matrix(), pair }
    }
}
