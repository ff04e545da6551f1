//! Passes over a cache: what generation runs.

use burn::tensor::{Int, Tensor, TensorData};
use foehn_kernels::{Linear, projection, projection_rounded};

use crate::{KvCache, Mistral, MistralConfig};

/// A model for passes over caches of keys and values. It borrows the model: what a pass needs of it is made ready once, and
/// stays true.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a Mistral,
    layers: foehn_kernels::Decoder<'a>,
}

impl Mistral {
    /// The model for passes over caches.
    pub fn decoder(&self) -> Decoder<'_> {
        let layers = self.layers.iter().map(|layer| layer.kernels(false)).collect();
        let MistralConfig { rope_theta, sliding_window, .. } = self.config;
        Decoder { model: self, layers: foehn_kernels::Decoder::new(layers, rope_theta, sliding_window) }
    }
}

impl Decoder<'_> {
    /// The model that it borrows.
    pub fn model(&self) -> &Mistral {
        self.model
    }

    /// Appends tokens to each sequence of a cache: `input_ids[b]` continues sequence `b`, and may be empty. Returns the
    /// hidden state of the last new token of each sequence that brings any, after the last norm: `[sequences, d_model]`.
    ///
    /// It computes in single precision, whatever the cache says; what a cache that need not be exact keeps is rounded.
    ///
    /// # Panics
    /// When the number of sequences is not the cache's, one does not fit, or no token is brought.
    pub fn forward(&self, input_ids: &[&[u32]], cache: &mut KvCache) -> Tensor<2> {
        self.forward_last(input_ids, cache, false)
    }

    /// As [`forward`](Self::forward), to the next-token logits: `[sequences, vocab]`. Where each sequence brings one token
    /// at most and the cache need not be exact, what meets a quantised weight is rounded.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn next_logits(&self, input_ids: &[&[u32]], cache: &mut KvCache) -> Tensor<2> {
        let rounded = !cache.exact && input_ids.iter().all(|ids| ids.len() <= 1);
        let hidden = self.forward_last(input_ids, cache, rounded);
        let head = Linear { weight: self.model.head(), adapter: None };
        if rounded { projection_rounded(hidden, head) } else { projection(hidden, head) }
    }

    fn forward_last(&self, input_ids: &[&[u32]], cache: &mut KvCache, rounded: bool) -> Tensor<2> {
        let new: Vec<usize> = input_ids.iter().map(|ids| ids.len()).collect();
        let ids = input_ids.concat();
        assert!(!ids.is_empty(), "forward: no sequence brings a token");
        let hidden = self.layers.forward(self.model.embed(&ids), &new, &mut cache.inner, rounded);
        let mut end = 0;
        let last: Vec<i32> = new
            .iter()
            .filter(|&&new| new > 0)
            .map(|new| {
                end += new;
                end as i32 - 1
            })
            .collect();
        // Where each sequence brings one token, all rows are last ones.
        let hidden = match last.len() == ids.len() {
            true => hidden,
            false => {
                hidden.select(0, Tensor::<1, Int>::from_data(TensorData::from(last.as_slice()), &self.model.device()))
            }
        };
        self.model.normed(hidden)
    }
}
