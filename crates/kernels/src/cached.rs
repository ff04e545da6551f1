//! The KV cache.

use burn::tensor::{Device, Tensor};

#[cfg(feature = "flex")]
use crate::cpu::cached::Store;

/// The shape of a cache.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    /// DecoderKernel layers.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

/// Keys and values of a batch of sequences, an argument of the forward pass.
///
/// Sequences may have different lengths. Row `p` of a sequence holds the token at position `p`. Memory is allocated in
/// steps as the sequences grow.
#[derive(Clone, Debug)]
pub struct KvStore {
    pub(crate) store: Kind,
    pub(crate) lengths: Vec<usize>,
    /// The index of the model of each sequence.
    pub(crate) models: Vec<usize>,
    capacity: usize,
    pub(crate) shape: KvShape,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// One pair per layer, each `[batch, kv_heads, rows, head_dim]`.
    Tensors(Vec<(Tensor<4>, Tensor<4>)>),
    #[cfg(feature = "flex")]
    Native(Box<Store>),
}

/// A cache of tensors grows in steps of this number of rows.
pub(crate) const STEP: usize = 256;

impl KvStore {
    /// An empty cache for `batch` sequences of up to `capacity` tokens each.
    pub fn new(shape: KvShape, batch: usize, capacity: usize, device: &Device) -> Self {
        let KvShape { layers, kv_heads, head_dim } = shape;
        let device = device.clone().without_autodiff();
        #[cfg(feature = "flex")]
        if crate::flex::is_flex(&device) {
            let store = Kind::Native(Box::new(Store::new(layers, kv_heads, head_dim, batch, false)));
            return Self { store, lengths: vec![0; batch], models: vec![0; batch], capacity, shape };
        }
        let empty = || Tensor::zeros([batch, kv_heads, STEP, head_dim], &device);
        let store = Kind::Tensors((0..layers).map(|_| (empty(), empty())).collect());
        Self { store, lengths: vec![0; batch], models: vec![0; batch], capacity, shape }
    }

    /// Whether keys and values are rounded to half precision: half the memory, and half of what attention reads. A new
    /// cache does not round. Only the CPU kernels can round; on other devices this setting has no effect.
    ///
    /// # Panics
    /// When the cache holds a token.
    pub fn set_half(&mut self, half: bool) {
        assert!(self.lengths.iter().all(|&length| length == 0), "set_half: the cache holds tokens");
        #[cfg(feature = "flex")]
        if let Kind::Native(store) = &mut self.store {
            let KvShape { layers, kv_heads, head_dim } = self.shape;
            **store = Store::new(layers, kv_heads, head_dim, self.lengths.len(), half);
        }
        #[cfg(not(feature = "flex"))]
        let _ = half;
    }

    /// The number of tokens in each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The largest number of tokens that a sequence can have.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Empties a sequence and frees its memory. Its tokens to come belong to the decoder's model with this index; those of a
    /// new cache belong to model 0.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn begin(&mut self, sequence: usize, model: usize) {
        self.lengths[sequence] = 0;
        self.models[sequence] = model;
        #[cfg(feature = "flex")]
        if let Kind::Native(store) = &mut self.store {
            store.free(sequence);
        }
    }

    /// Removes the last tokens of each sequence, so that sequence `b` has `lengths[b]` tokens.
    ///
    /// # Panics
    /// When there is not one length per sequence, or a length is more than the sequence has.
    pub fn truncate(&mut self, lengths: &[usize]) {
        assert_eq!(lengths.len(), self.lengths.len(), "truncate: another number of sequences than the cache's");
        assert!(lengths.iter().zip(&self.lengths).all(|(new, old)| new <= old), "truncate: a sequence would grow");
        self.lengths.copy_from_slice(lengths);
    }

    /// Replaces a sequence by the first `rows` tokens of another one, of whose model it then is.
    ///
    /// # Panics
    /// When there is no such sequence, or `from` has fewer tokens.
    pub fn copy(&mut self, from: usize, to: usize, rows: usize) {
        assert!(rows <= self.lengths[from] && to < self.lengths.len(), "copy: sequence {from} holds fewer tokens");
        self.lengths[to] = rows;
        self.models[to] = self.models[from];
        if rows == 0 || from == to {
            return;
        }
        let KvShape { kv_heads, head_dim, .. } = self.shape;
        match &mut self.store {
            #[cfg(feature = "flex")]
            Kind::Native(store) => store.copy(from, to, rows),
            Kind::Tensors(layers) => {
                for (key, value) in layers {
                    for plane in [key, value] {
                        let source = plane.clone().slice([from..from + 1, 0..kv_heads, 0..rows, 0..head_dim]);
                        assign(plane, [to..to + 1, 0..kv_heads, 0..rows, 0..head_dim], source);
                    }
                }
            }
        }
    }
}

/// Writes in place: the tensor is moved out of the plane first, so that nothing else refers to its memory.
pub(crate) fn assign(plane: &mut Tensor<4>, place: [std::ops::Range<usize>; 4], rows: Tensor<4>) {
    let owned = std::mem::replace(plane, Tensor::empty([1, 1, 1, 1], &rows.device()));
    *plane = owned.slice_assign(place, rows);
}
