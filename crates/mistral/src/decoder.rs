//! Passes over a KV cache, for generation.

use std::borrow::Cow;

use foehn_kernels::{DecoderKernel, DecoderLayerParts, DecoderModel, Ends};

use crate::{KvCache, Mistral, MistralConfig};

/// A base, alone and with adapters, for passes over caches of keys and values. It borrows or owns its models, so they
/// cannot change between passes. Data that a pass needs is prepared once and stays valid.
#[derive(Debug)]
pub struct Decoder<'a> {
    inner: DecoderKernel<Cow<'a, Mistral>>,
}

impl Mistral {
    /// Prepares the model for passes over caches.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder::new(Cow::Borrowed(self))
    }

    /// As [`decoder`](Self::decoder), for a decoder that owns the model. A model's clone shares its weights.
    pub fn into_decoder(self) -> Decoder<'static> {
        Decoder::new(Cow::Owned(self))
    }
}

impl DecoderModel for Mistral {
    fn layers(&self) -> Vec<DecoderLayerParts<'_>> {
        self.layers.iter().map(|layer| layer.kernels(false)).collect()
    }

    fn ends(&self) -> Ends<'_> {
        let MistralConfig { rms_norm_eps: eps, .. } = self.config;
        Ends { embed_tokens: &self.embed_tokens, norm: self.norm.val(), eps, lm_head: self.head() }
    }
}

impl<'a> Decoder<'a> {
    fn new(model: Cow<'a, Mistral>) -> Self {
        let (rope, window) = (model.config.rope(), model.config.sliding_window);
        Self { inner: DecoderKernel::new(model, rope, window) }
    }

    /// The first model.
    pub fn model(&self) -> &Mistral {
        self.inner.model(0).expect("the first model is never removed")
    }

    /// Adds a clone of the first model with an adapter attached, and returns its index; the first model has index 0, and the
    /// index of a removed one is used again. `None` if its weights are others than the first model's.
    ///
    /// [`KvCache::begin`] says which sequence belongs to which model. All of them are computed in one pass, which reads each
    /// weight once.
    pub fn add(&mut self, model: Mistral) -> Option<usize> {
        let model = Cow::Owned(model);
        self.inner.has_base_of(&model).then(|| self.inner.add(model))
    }

    /// Removes a model. No pass may have new tokens for a sequence of it any more.
    ///
    /// # Panics
    /// When it is the first one.
    pub fn remove(&mut self, index: usize) {
        self.inner.remove(index);
    }

    /// Appends `new[b]` tokens to sequence `b` of a cache. `input_ids` has the tokens of the first sequence, then those
    /// of the second, and so on.
    ///
    /// The pass computes in single precision, whether the cache is exact or not. A cache that is not exact stores
    /// rounded keys and values.
    ///
    /// # Panics
    /// When the number of sequences is not the cache's, when a sequence has no room, when there is no token, when the
    /// number of tokens is not the sum of `new`, or when a token is not in the vocabulary.
    pub fn append(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache) {
        self.inner.append(input_ids, new, &mut cache.inner);
    }

    /// As [`append`](Self::append). Also replaces `logits` by the logits after the last new token of each sequence that
    /// has new tokens: `[sequences, vocab]`.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn prompt_logits(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache, logits: &mut Vec<f32>) {
        self.inner.next_logits(input_ids, new, &mut cache.inner, false, logits);
    }

    /// As [`prompt_logits`](Self::prompt_logits), with the logits after every new token: `[tokens, vocab]`.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn each_logits(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache, logits: &mut Vec<f32>) {
        self.inner.each_logits(input_ids, new, &mut cache.inner, logits);
    }

    /// As [`prompt_logits`](Self::prompt_logits), for tokens that the model generated. Unless the cache is exact, the
    /// inputs of quantised weights are rounded. The result for a sequence does not depend on the other sequences, nor
    /// on the number of new tokens.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn next_logits(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache, logits: &mut Vec<f32>) {
        self.inner.next_logits(input_ids, new, &mut cache.inner, !cache.exact, logits);
    }
}
