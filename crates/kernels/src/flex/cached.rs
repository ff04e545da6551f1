//! A model's passes over a KV cache, without tensors and without a tape.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::record::{Operand, Values};
use super::{PairValues, bias_of};
use crate::cpu::product::Pairs;
use crate::cpu::{attention::Heads, cached, few, integer, linear::BaseView, matrix::Matrix, simd::Level};
use crate::decoder::{CachedPass, DecoderLayerParts, Ends, Wanted};
use crate::{Compute, Linear, LowRank};

/// The values of a model's parts but for its adapters, extracted once for all passes.
pub struct Held {
    embed_tokens: Arc<Matrix>,
    layers: Vec<HeldLayer>,
    norm: Values,
    eps: f32,
    lm_head: Arc<Matrix>,
    /// What products of passes that are not rounded otherwise round to.
    compute: Compute,
}

/// The values of a model's adapters: for each layer q, k, v, o, gate, up, down.
pub struct HeldAdapters {
    layers: Vec<[Option<PairValues>; 7]>,
    /// The adapters in half precision, for passes that need not be exact. They are made before the first such pass.
    halves: OnceLock<Vec<[Option<few::Halves>; 7]>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.layers.len()).finish()
    }
}

impl fmt::Debug for HeldAdapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeldAdapters").field(&self.layers.len()).finish()
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
            compute: ends.lm_head.compute(),
        }
    }

    /// Computes [`crate::DecoderKernel::append`], and the logits that are wanted. `adapters` gives those of a model by its index.
    pub fn pass<'a>(
        &self,
        pass: &CachedPass<'_>,
        adapters: &dyn Fn(usize) -> &'a HeldAdapters,
        store: &mut cached::Store,
        wanted: Wanted<'_>,
    ) {
        let level = Level::best();
        let mut scratch = std::mem::take(&mut store.scratch);
        let cached::PassScratch { runs, spans, rotary, x, layers: work } = &mut scratch;
        runs.clear();
        spans.clear();
        let brought = pass.new.iter().zip(pass.past).enumerate().filter(|(_, (new, _))| **new > 0);
        for (sequence, (&new, &past)) in brought {
            runs.push(cached::NewRows { sequence, past, new });
            let model = pass.models[sequence];
            match spans.last_mut().filter(|span| span.model == model) {
                Some(span) => span.rows += new,
                None => spans.push(cached::PassSpan { model, rows: new }),
            }
        }
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
            spans,
            rotary: &*rotary,
            window: pass.window,
            integers: pass.rounded && integer::is_fast(level),
            pairs: (self.compute == Compute::Bf16 && !pass.rounded).then(Pairs::best),
        };
        let layers = self.layers.iter().enumerate().map(|(index, layer)| {
            layer.borrow(move |span: &cached::PassSpan| adapters(span.model).borrow(index, pass.rounded))
        });
        native.forward(level, layers, store, x, work);
        let norm = (&*self.norm, self.eps);
        match wanted {
            Wanted::Nothing => {}
            Wanted::Last(logits) => native.logits(level, &native.last_rows(x), norm, &self.lm_head, logits, work),
            Wanted::Each(logits) => native.logits(level, x, norm, &self.lm_head, logits, work),
        }
        store.scratch = scratch;
    }

    fn heads(&self, head_dim: usize) -> Heads {
        let [q, k, ..] = &self.layers[0].linears;
        Heads { heads: q.weight.out() / head_dim, kv_heads: k.weight.out() / head_dim, head_dim }
    }
}

impl HeldAdapters {
    pub fn new(layers: &[DecoderLayerParts<'_>]) -> Self {
        let values = |linear: Linear<'_>| {
            linear.adapter.map(|LowRank { a, b, scale, .. }| PairValues {
                a: Operand::new(a).into_values(),
                b: Operand::new(b).into_values(),
                r: a.dims()[0],
                scale: *scale as f32,
                mask: None,
            })
        };
        let layers = layers.iter().map(|layer| layer.linears().map(values)).collect();
        Self { layers, halves: OnceLock::new() }
    }

    /// The adapters of a layer for the kernels. With `halved`, the kernels use them in half precision for few rows.
    fn borrow(&self, layer: usize, halved: bool) -> cached::LayerAdapters<'_> {
        let halves = halved.then(|| &self.halves.get_or_init(|| self.layers.iter().map(halves).collect())[layer]);
        std::array::from_fn(|index| {
            let mut adapter = self.layers[layer][index].as_ref()?.borrow();
            adapter.halves = halves.and_then(|halves| halves[index].as_ref());
            Some(adapter)
        })
    }
}

fn halves(adapters: &[Option<PairValues>; 7]) -> [Option<few::Halves>; 7] {
    let halved = |pair: &PairValues| few::Halves::new(Level::best(), &pair.a, &pair.b, pair.r);
    adapters.each_ref().map(|pair| pair.as_ref().map(halved))
}

struct HeldLayer {
    norms: [Values; 2],
    eps: f32,
    linears: [HeldBase; 7],
    head_norms: Option<[Values; 2]>,
    is_rotated: bool,
    is_windowed: bool,
}

struct HeldBase {
    weight: Arc<Matrix>,
    bias: Option<Values>,
}

impl HeldLayer {
    fn new(layer: &DecoderLayerParts<'_>) -> Self {
        let DecoderLayerParts { attention, feed_forward, is_windowed } = layer;
        Self {
            norms: [&attention.norm, &feed_forward.norm].map(|norm| Operand::new(norm).into_values()),
            eps: attention.eps as f32,
            linears: layer
                .linears()
                .map(|linear| HeldBase { weight: linear.weight.to_matrix(), bias: bias_of(linear) }),
            head_norms: super::values_of(attention.head_norms.as_ref()),
            is_rotated: attention.is_rotated,
            is_windowed: *is_windowed,
        }
    }

    /// The layer for the kernels, with what gives its adapters.
    fn borrow<A>(&self, adapters: A) -> cached::Layer<'_, A> {
        let base = |index: usize| {
            let HeldBase { weight, bias } = &self.linears[index];
            BaseView { weight, bias: bias.as_deref() }
        };
        let [norm, post_norm] = &self.norms;
        cached::Layer {
            norms: [norm, post_norm],
            eps: self.eps,
            input: [0, 1, 2].map(base),
            output: base(3),
            head_norms: self.head_norms.as_ref().map(|[q, k]| [&**q, &**k]),
            is_rotated: self.is_rotated,
            is_windowed: self.is_windowed,
            gates: [4, 5].map(base),
            down: base(6),
            adapters,
        }
    }
}
