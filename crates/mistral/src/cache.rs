//! The KV cache.

use burn::tensor::Device;
use foehn_kernels::KvShape;

use crate::MistralConfig;

/// Keys and values of a batch of sequences, an argument of the forward pass.
///
/// Sequences may have different lengths. Row `p` of a sequence holds the token at position `p`. Memory is allocated in
/// steps as the sequences grow.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) inner: foehn_kernels::KvStore,
    pub(crate) exact: bool,
}

impl KvCache {
    /// An empty cache for `batch` sequences of up to `capacity` tokens each.
    pub fn new(config: &MistralConfig, batch: usize, capacity: usize, device: &Device) -> Self {
        let shape = KvShape {
            layers: config.num_hidden_layers,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        };
        Self { inner: foehn_kernels::KvStore::new(shape, batch, capacity, device), exact: true }
    }

    /// Whether [`Decoder::next_logits`](crate::Decoder::next_logits) computes in single precision throughout; this is
    /// the default. If not, keys, values and adapters are rounded to half precision. On a processor with integer dot
    /// products, the inputs of quantised weights are also rounded to eight bits.
    ///
    /// # Panics
    /// When this changes and the cache has a token.
    pub fn set_exact(&mut self, exact: bool) {
        if exact != self.exact {
            self.inner.set_half(!exact);
            self.exact = exact;
        }
    }

    /// The number of tokens in each sequence.
    pub fn lengths(&self) -> &[usize] {
        self.inner.lengths()
    }

    /// The largest number of tokens that a sequence can have.
    pub fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    /// Empties a sequence and frees its memory. Its tokens to come belong to the decoder's model with this index; those of a
    /// new cache belong to model 0.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn begin(&mut self, sequence: usize, model: usize) {
        self.inner.begin(sequence, model);
    }

    /// Removes the last tokens of each sequence, so that sequence `b` has `lengths[b]` tokens.
    ///
    /// # Panics
    /// When there is not one length per sequence, or a length is more than the sequence has.
    pub fn truncate(&mut self, lengths: &[usize]) {
        self.inner.truncate(lengths);
    }

    /// Replaces a sequence by the first `rows` tokens of another one, of whose model it then is.
    ///
    /// # Panics
    /// When there is no such sequence, or `from` has fewer tokens.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        self.inner.copy(from, to, rows);
    }
}
