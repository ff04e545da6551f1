//! Passes over a cache: what generation runs.

use foehn_kernels::Ends;

use crate::{KvCache, Mistral, MistralConfig};

/// A model for passes over caches of keys and values. It borrows the model: what a pass needs of it is made ready once, and
/// stays true.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a Mistral,
    inner: foehn_kernels::Decoder<'a>,
}

impl Mistral {
    /// The model for passes over caches.
    pub fn decoder(&self) -> Decoder<'_> {
        let layers = self.layers.iter().map(|layer| layer.kernels(false)).collect();
        let MistralConfig { rope_theta, sliding_window, rms_norm_eps: eps, .. } = self.config;
        let ends = Ends { embed_tokens: &self.embed_tokens, norm: self.norm.val(), eps, lm_head: self.head() };
        Decoder { model: self, inner: foehn_kernels::Decoder::new(layers, ends, rope_theta, sliding_window) }
    }
}

impl Decoder<'_> {
    /// The model that it borrows.
    pub fn model(&self) -> &Mistral {
        self.model
    }

    /// Appends `new[b]` tokens to sequence `b` of a cache; `input_ids` has those of the first sequence, then of the second, …
    ///
    /// It computes in single precision, whatever the cache says; what a cache that need not be exact keeps is rounded.
    ///
    /// # Panics
    /// When the number of sequences is not the cache's, one does not fit, there is no token, they are not as many as `new` says,
    /// or one is not in the vocabulary.
    pub fn append(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache) {
        self.inner.append(input_ids, new, &mut cache.inner);
    }

    /// As [`append`](Self::append), and replaces `logits` by those of what comes after the last new token of each sequence that
    /// brings any: `[sequences, vocab]`.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn prompt_logits(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache, logits: &mut Vec<f32>) {
        self.inner.next_logits(input_ids, new, &mut cache.inner, false, logits);
    }

    /// As [`prompt_logits`](Self::prompt_logits), for tokens that the model gave: unless the cache has to be exact, what meets
    /// a quantised weight is rounded. What becomes of a sequence is the same whatever others there are, and however much they
    /// bring.
    ///
    /// # Panics
    /// As [`append`](Self::append).
    pub fn next_logits(&self, input_ids: &[u32], new: &[usize], cache: &mut KvCache, logits: &mut Vec<f32>) {
        self.inner.next_logits(input_ids, new, &mut cache.inner, !cache.exact, logits);
    }
}
