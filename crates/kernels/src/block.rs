//! The two halves of a decoder layer, each one operation. On the CPU they run fused, with hand-written backward passes.

use burn::tensor::Tensor;

use crate::{Linear, Rotary, Visibility, attention, projection, rms_norm, swiglu};

/// Pre-norm self-attention with its residual connection.
#[derive(Clone, Debug)]
pub struct AttentionHalf<'a> {
    /// The weight of the norm before attention, `[d_model]`.
    pub norm: Tensor<1>,
    /// The epsilon of the norm, added to the mean square.
    pub eps: f64,
    /// `[heads · head_dim, d_model]`
    pub q_proj: Linear<'a>,
    /// `[kv_heads · head_dim, d_model]`
    pub k_proj: Linear<'a>,
    /// `[kv_heads · head_dim, d_model]`
    pub v_proj: Linear<'a>,
    /// `[d_model, heads · head_dim]`
    pub o_proj: Linear<'a>,
    /// Width of a head.
    pub head_dim: usize,
    /// The weights of the norms of each head of the queries and of the keys, `[head_dim]` each.
    pub head_norms: Option<[Tensor<1>; 2]>,
    /// Whether queries and keys are rotated.
    pub is_rotated: bool,
    /// Whether the backward pass computes the block's inner values again. If not, the forward pass keeps them.
    pub recompute: bool,
}

/// Pre-norm SwiGLU feed-forward with its residual connection.
#[derive(Clone, Debug)]
pub struct FeedForward<'a> {
    /// The weight of the norm before the feed-forward block, `[d_model]`.
    pub norm: Tensor<1>,
    /// The epsilon of the norm, added to the mean square.
    pub eps: f64,
    /// `[intermediate, d_model]`
    pub gate_proj: Linear<'a>,
    /// `[intermediate, d_model]`
    pub up_proj: Linear<'a>,
    /// `[d_model, intermediate]`
    pub down_proj: Linear<'a>,
    /// Whether the backward pass computes the block's inner values again. If not, the forward pass keeps them.
    pub recompute: bool,
}

/// Appends the new keys and values, and returns all that the queries may see; each is `[batch, kv_heads, rows,
/// head_dim]`.
pub type Cache<'a> = dyn FnMut(Tensor<4>, Tensor<4>) -> (Tensor<4>, Tensor<4>) + 'a;

impl AttentionHalf<'_> {
    /// `x + o(attention(rotary(q(norm(x))), rotary(k(norm(x))), v(norm(x))))`, where each head of q and k may be
    /// normalised before its rotation.
    ///
    /// # Shapes
    /// - x, output: `[rows, d_model]`. `rows` is the batch size of `rotary` times the rows of each sequence
    ///
    /// # Panics
    /// When the shapes do not fit together.
    pub fn forward(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        visibility: &Visibility,
        cache: Option<&mut Cache<'_>>,
    ) -> Tensor<2> {
        #[cfg(feature = "flex")]
        if let (None, Some(y)) = (&cache, crate::flex::self_attention(&x, self, rotary, visibility)) {
            return y;
        }
        let normed = rms_norm(x.clone(), self.norm.clone(), self.eps);
        let batch = rotary.batch();
        let heads = |projected: Tensor<2>| {
            let [rows, width] = projected.dims();
            projected.reshape([batch, rows / batch, width / self.head_dim, self.head_dim]).swap_dims(1, 2)
        };
        let query = self.head_normed(0, heads(projection(normed.clone(), self.q_proj)));
        let key = self.head_normed(1, heads(projection(normed.clone(), self.k_proj)));
        let (query, key) = match self.is_rotated {
            true => (rotary.rotate_queries(query), rotary.rotate_keys(key)),
            false => (query, key),
        };
        let value = heads(projection(normed, self.v_proj));
        let (key, value) = match cache {
            Some(cache) => cache(key, value),
            None => (key, value),
        };
        let mixed = attention(query, key, value, visibility);
        let [_, heads, rows, head_dim] = mixed.dims();
        let mixed = mixed.swap_dims(1, 2).reshape([batch * rows, heads * head_dim]);
        x.add(projection(mixed, self.o_proj))
    }

    /// Normalises each head of the queries (0) or of the keys (1), if the block has such norms.
    fn head_normed(&self, index: usize, heads: Tensor<4>) -> Tensor<4> {
        let Some(norms) = &self.head_norms else { return heads };
        let [batch, count, rows, head_dim] = heads.dims();
        let flat = heads.reshape([batch * count * rows, head_dim]);
        rms_norm(flat, norms[index].clone(), self.eps).reshape([batch, count, rows, head_dim])
    }
}

impl FeedForward<'_> {
    /// `x + down(silu(gate(norm(x))) · up(norm(x)))`.
    ///
    /// # Shapes
    /// - x, output: `[rows, d_model]`
    ///
    /// # Panics
    /// When the shapes do not fit together.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "flex")]
        if let Some(y) = crate::flex::feed_forward(&x, self) {
            return y;
        }
        let normed = rms_norm(x.clone(), self.norm.clone(), self.eps);
        let gate = projection(normed.clone(), self.gate_proj);
        let up = projection(normed, self.up_proj);
        x.add(projection(swiglu(gate, up), self.down_proj))
    }
}
