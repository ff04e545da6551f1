//! Passes over a KV cache, for generation.

use foehn_kernels::Ends;

use crate::{KvCache, Mistral, MistralConfig};

/// A model for passes over caches of keys and values. It borrows the model, so the model cannot change between passes.
/// Data that a pass needs is prepared once and stays valid.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a Mistral,
    inner: foehn_kernels::DecoderKernel<'a>,
}

impl Mistral {
    /// Prepares the model for passes over caches.
    pub fn decoder(&self) -> Decoder<'_> {
        let layers = self.layers.iter().map(|layer| layer.kernels(false)).collect();
        let MistralConfig { sliding_window, rms_norm_eps: eps, .. } = self.config;
        let ends = Ends { embed_tokens: &self.embed_tokens, norm: self.norm.val(), eps, lm_head: self.head() };
        Decoder {
            model: self,
            inner: foehn_kernels::DecoderKernel::new(layers, ends, self.config.rope(), sliding_window),
        }
    }
}

impl Decoder<'_> {
    /// The borrowed model.
    pub fn model(&self) -> &Mistral {
        self.model
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
