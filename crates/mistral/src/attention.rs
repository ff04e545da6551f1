//! Self-attention with grouped queries.

use burn::module::Module;
use burn::tensor::Tensor;
use foehn_kernels::{Rotary, Visibility, attention};

use crate::Projection;
use crate::cache::LayerCache;

/// Multi-head self-attention with rotary positions.
#[derive(Module, Debug)]
pub struct SelfAttention {
    pub(crate) q_proj: Projection,
    pub(crate) k_proj: Projection,
    pub(crate) v_proj: Projection,
    pub(crate) o_proj: Projection,
    #[module(skip)]
    pub(crate) head_dim: usize,
}

/// What all layers of one pass share.
pub(crate) struct Pass {
    pub batch: usize,
    pub rotary: Rotary,
    pub visibility: Visibility,
}

impl SelfAttention {
    /// # Shapes
    /// - x, output: `[rows, d_model]`, where `rows` is `batch` runs of equal length
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &Pass, cache: Option<LayerCache<'_>>) -> Tensor<2> {
        let [rows, _] = x.dims();
        let query = self.heads(self.q_proj.forward(x.clone()), pass.batch);
        let key = self.heads(self.k_proj.forward(x.clone()), pass.batch);
        let value = self.heads(self.v_proj.forward(x), pass.batch);
        let query = pass.rotary.apply(query);
        let key = pass.rotary.apply(key);
        let (key, value) = match cache {
            Some(cache) => cache.append(key, value),
            None => (key, value),
        };
        let mixed = attention(query, key, value, &pass.visibility);
        let [_, heads, _, head_dim] = mixed.dims();
        self.o_proj.forward(mixed.swap_dims(1, 2).reshape([rows, heads * head_dim]))
    }

    /// `[rows, heads · head_dim]` to `[batch, heads, rows / batch, head_dim]`.
    fn heads(&self, x: Tensor<2>, batch: usize) -> Tensor<4> {
        let [rows, width] = x.dims();
        x.reshape([batch, rows / batch, width / self.head_dim, self.head_dim]).swap_dims(1, 2)
    }
}
