//! The whole network.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use foehn_kernels::{Compute, EmbeddingNoise, Linear, Rotary, Visibility, Weight, projection, rms_norm};

use crate::attention::Pass;
use crate::{DecoderLayer, MistralConfig, Projection};

/// A Mistral-family language model with frozen weights.
#[derive(Module, Debug)]
pub struct Mistral {
    #[module(skip)]
    pub(crate) embed_tokens: Weight,
    pub(crate) layers: Vec<DecoderLayer>,
    pub(crate) norm: Param<Tensor<1>>,
    /// `None` if the head is tied to the embedding.
    #[module(skip)]
    pub(crate) lm_head: Option<Weight>,
    #[module(skip)]
    pub(crate) config: MistralConfig,
    #[module(skip)]
    pub(crate) recompute: bool,
}

/// A packed batch: segments in depth-first order, in the layout of `foehn-tokens`.
///
/// Row `k` is visible from row `q` when `k <= q < subtree_ends[k]`.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    /// The token of each row.
    pub input_ids: &'a [u32],
    /// The position of each row along its path.
    pub position_ids: &'a [u32],
    /// The exclusive end of each row's subtree: the rows that descend from it.
    pub subtree_ends: &'a [u32],
}

impl Mistral {
    /// The configuration.
    pub fn config(&self) -> &MistralConfig {
        &self.config
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.embed_tokens.device()
    }

    /// The output head, `[vocab, d_model]`; the embedding if the two are tied.
    pub fn head(&self) -> &Weight {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Whether training keeps only the outputs of the embedding and of each block. Then the backward pass computes the
    /// inner values of a block again: less memory for a third more work. The result is the same.
    pub fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
    }

    /// What matrix products round their operands to; at first [`Compute::F32`], the reference. It concerns training, scoring
    /// and prompts. A decoder keeps what the model had when the decoder was made, and decoding has a rounding of its own.
    ///
    /// # Panics
    /// When the model's device does not have it ([`Compute::is_available_on`]).
    pub fn set_compute(&mut self, compute: Compute) {
        self.embed_tokens.set_compute(compute);
        if let Some(head) = &mut self.lm_head {
            head.set_compute(compute);
        }
        for (_, projection) in self.projections_mut() {
            projection.set_compute(compute);
        }
    }

    /// What matrix products round their operands to.
    pub fn compute(&self) -> Compute {
        self.head().compute()
    }

    /// The hidden state of every row of a packed batch, after the last norm: `[rows, d_model]`.
    ///
    /// # Panics
    /// When the three slices differ in length or are empty, or an id is not below `vocab_size`.
    pub fn forward(&self, packed: Packed<'_>) -> Tensor<2> {
        self.blocks(self.embed(packed.input_ids), packed)
    }

    /// As [`forward`](Self::forward), with noise on the embeddings, for training.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_with_noise(&self, packed: Packed<'_>, noise: EmbeddingNoise) -> Tensor<2> {
        let embedded = noise.add(self.embed(packed.input_ids), packed.position_ids, packed.subtree_ends);
        self.blocks(embedded, packed)
    }

    /// The hidden states after the embedding and after each block, `[rows, d_model]` each, for comparing this
    /// implementation with others layer by layer.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_blocks(&self, packed: Packed<'_>) -> Vec<Tensor<2>> {
        let pass = self.pass(packed);
        let mut states = vec![self.embed(packed.input_ids)];
        for layer in &self.layers {
            let hidden = layer.forward(states[states.len() - 1].clone(), &pass);
            states.push(hidden);
        }
        states
    }

    fn blocks(&self, embedded: Tensor<2>, packed: Packed<'_>) -> Tensor<2> {
        let pass = self.pass(packed);
        self.normed(self.layers.iter().fold(embedded, |hidden, layer| layer.forward(hidden, &pass)))
    }

    /// The inputs that all layers of a pass share.
    fn pass(&self, packed: Packed<'_>) -> Pass {
        let rows = packed.input_ids.len();
        assert_eq!(packed.position_ids.len(), rows, "forward: positions and ids differ in length");
        let device = self.device();
        let window = self.config.sliding_window;
        Pass {
            rotary: self.rotary(packed.position_ids, 1, &device),
            visibility: [None, window]
                .map(|window| Visibility::segments(packed.position_ids, packed.subtree_ends, window, &device)),
            recompute: self.recompute,
        }
    }

    /// Next-token logits of hidden states: `[rows, d_model]` to `[rows, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        projection(hidden, Linear { weight: self.head(), bias: None, adapter: None })
    }

    /// Every projection except the head, with its name in transformers (`model.layers.0.self_attn.q_proj`), in the order of
    /// the forward pass.
    pub fn projections(&self) -> Vec<(String, &Projection)> {
        let named = |(index, layer): (usize, _)| {
            let DecoderLayer { self_attn, mlp, .. }: &DecoderLayer = layer;
            [
                ("self_attn.q_proj", &self_attn.q_proj),
                ("self_attn.k_proj", &self_attn.k_proj),
                ("self_attn.v_proj", &self_attn.v_proj),
                ("self_attn.o_proj", &self_attn.o_proj),
                ("mlp.gate_proj", &mlp.gate_proj),
                ("mlp.up_proj", &mlp.up_proj),
                ("mlp.down_proj", &mlp.down_proj),
            ]
            .map(|(name, projection)| (self.config.module_name(&format!("model.layers.{index}.{name}")), projection))
        };
        self.layers.iter().enumerate().flat_map(named).collect()
    }

    /// As [`projections`](Self::projections), for attaching and detaching adapters.
    pub fn projections_mut(&mut self) -> Vec<(String, &mut Projection)> {
        let config = &self.config;
        let named = |(index, layer): (usize, _)| {
            let DecoderLayer { self_attn, mlp, .. }: &mut DecoderLayer = layer;
            [
                ("self_attn.q_proj", &mut self_attn.q_proj),
                ("self_attn.k_proj", &mut self_attn.k_proj),
                ("self_attn.v_proj", &mut self_attn.v_proj),
                ("self_attn.o_proj", &mut self_attn.o_proj),
                ("mlp.gate_proj", &mut mlp.gate_proj),
                ("mlp.up_proj", &mut mlp.up_proj),
                ("mlp.down_proj", &mut mlp.down_proj),
            ]
            .map(|(name, projection)| (config.module_name(&format!("model.layers.{index}.{name}")), projection))
        };
        self.layers.iter_mut().enumerate().flat_map(named).collect()
    }

    fn normed(&self, hidden: Tensor<2>) -> Tensor<2> {
        rms_norm(hidden, self.norm.val(), self.config.rms_norm_eps)
    }

    fn rotary(&self, position_ids: &[u32], batch: usize, device: &Device) -> Rotary {
        Rotary::new(position_ids, batch, &self.config.rope(), device)
    }

    fn embed(&self, input_ids: &[u32]) -> Tensor<2> {
        let vocab = self.config.vocab_size as u32;
        assert!(input_ids.iter().all(|&id| id < vocab), "embed: an id is not below vocab_size");
        self.embed_tokens.select(input_ids)
    }
}
