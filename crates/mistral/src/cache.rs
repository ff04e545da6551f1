//! The keys and values of tokens already seen.

use burn::tensor::{Device, Tensor};

use crate::MistralConfig;

/// Preallocated keys and values of a batch of sequences, an argument of the forward pass.
///
/// Sequences may have different lengths; row `p` of a sequence holds the token at position `p`.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// A pair a layer, each `[batch, kv_heads, capacity, head_dim]`.
    layers: Vec<(Tensor<4>, Tensor<4>)>,
    lengths: Vec<usize>,
    capacity: usize,
}

impl KvCache {
    /// An empty cache for `batch` sequences of up to `capacity` tokens each.
    pub fn new(config: &MistralConfig, batch: usize, capacity: usize, device: &Device) -> Self {
        let shape = [batch, config.num_key_value_heads, capacity, config.head_dim];
        let layers = (0..config.num_hidden_layers)
            .map(|_| (Tensor::zeros(shape, device), Tensor::zeros(shape, device)))
            .collect();
        Self { layers, lengths: vec![0; batch], capacity }
    }

    /// How many tokens each sequence holds.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many tokens a sequence can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the last tokens of each sequence, so that sequence `b` holds `lengths[b]`.
    ///
    /// # Panics
    /// When the number of lengths is not that of the sequences, or one is more than the sequence holds.
    pub fn truncate(&mut self, lengths: &[usize]) {
        assert_eq!(lengths.len(), self.lengths.len(), "truncate: another number of sequences than the cache's");
        assert!(lengths.iter().zip(&self.lengths).all(|(new, old)| new <= old), "truncate: a sequence would grow");
        self.lengths.copy_from_slice(lengths);
    }

    /// The device that the keys and values are on.
    pub fn device(&self) -> Device {
        self.layers[0].0.device()
    }

    pub(crate) fn layer(&mut self, index: usize) -> LayerCache<'_> {
        LayerCache { pair: &mut self.layers[index], lengths: &self.lengths }
    }

    /// Counts the rows that a pass has appended.
    pub(crate) fn advance(&mut self, new: &[usize]) {
        for (length, new) in self.lengths.iter_mut().zip(new) {
            *length += new;
        }
    }

    /// The rows that a pass of `new` rows a sequence attends to.
    pub(crate) fn used(&self, new: usize) -> usize {
        self.lengths.iter().max().map_or(0, |length| length + new)
    }
}

/// One layer's share of a [`KvCache`] during a pass.
pub(crate) struct LayerCache<'a> {
    pair: &'a mut (Tensor<4>, Tensor<4>),
    lengths: &'a [usize],
}

impl LayerCache<'_> {
    /// Writes each sequence's new rows behind its old ones; returns all rows up to the longest sequence's end.
    pub fn append(&mut self, key: Tensor<4>, value: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let new = key.dims()[2];
        let used = self.lengths.iter().max().map_or(0, |length| length + new);
        let (key_store, value_store) = &mut *self.pair;
        for (store, rows) in [(key_store, key), (value_store, value)] {
            let [_, kv_heads, _, head_dim] = rows.dims();
            for (sequence, &past) in self.lengths.iter().enumerate() {
                // The store is moved out so that the assignment can happen in place.
                let owned = std::mem::replace(store, Tensor::empty([1, 1, 1, 1], &rows.device()));
                let place = [sequence..sequence + 1, 0..kv_heads, past..past + new, 0..head_dim];
                *store = owned.slice_assign(place, rows.clone().narrow(0, sequence, 1));
            }
        }
        (self.pair.0.clone().narrow(2, 0, used), self.pair.1.clone().narrow(2, 0, used))
    }
}
