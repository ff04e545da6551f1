//! The keys and values of tokens already seen.

use burn::tensor::Device;
use foehn_kernels::KvShape;

use crate::MistralConfig;

/// Keys and values of a batch of sequences, an argument of the forward pass.
///
/// Sequences may have different lengths; row `p` of a sequence holds the token at position `p`. Room is made in steps, as the
/// sequences grow.
#[derive(Clone, Debug)]
pub struct KvCache {
    pub(crate) inner: foehn_kernels::KvCache,
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
        Self { inner: foehn_kernels::KvCache::new(shape, batch, capacity, device), exact: true }
    }

    /// Whether [`Decoder::next_logits`](crate::Decoder::next_logits) computes in single precision throughout, as it does
    /// at first. If not, its tokens are rounded to eight bits before they meet a quantised weight, where the processor has
    /// integer dot products, and keys, values and adapters are taken in half precision.
    ///
    /// # Panics
    /// When this changes and the cache holds a token.
    pub fn set_exact(&mut self, exact: bool) {
        if exact != self.exact {
            self.inner.set_half(!exact);
            self.exact = exact;
        }
    }

    /// How many tokens each sequence holds.
    pub fn lengths(&self) -> &[usize] {
        self.inner.lengths()
    }

    /// How many tokens a sequence can hold.
    pub fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    /// Forgets the last tokens of each sequence, so that sequence `b` holds `lengths[b]`.
    ///
    /// # Panics
    /// When the number of lengths is not that of the sequences, or one is more than the sequence holds.
    pub fn truncate(&mut self, lengths: &[usize]) {
        self.inner.truncate(lengths);
    }

    /// Makes a sequence hold the first `rows` tokens of another one.
    ///
    /// # Panics
    /// When there is no such sequence, or `from` holds fewer tokens.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        self.inner.copy(from, to, rows);
    }
}
