//! Self-attention with grouped queries.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foehn_kernels::{Rotary, Visibility};

use crate::Projection;

/// The projections of multi-head self-attention.
#[derive(Module, Debug)]
pub struct SelfAttention {
    pub(crate) q_proj: Projection,
    pub(crate) k_proj: Projection,
    pub(crate) v_proj: Projection,
    pub(crate) o_proj: Projection,
    /// The weights of the norms of each head of q and of k.
    pub(crate) head_norms: Option<[Param<Tensor<1>>; 2]>,
    #[module(skip)]
    pub(crate) head_dim: usize,
    #[module(skip)]
    pub(crate) is_rotated: bool,
    #[module(skip)]
    pub(crate) is_windowed: bool,
}

/// The inputs that all layers of a pass share.
pub(crate) struct Pass {
    pub rotary: Rotary,
    /// Of the layers without a window, and of those with one.
    pub visibility: [Visibility; 2],
    /// Whether the backward pass computes each block's inner values again.
    pub recompute: bool,
}
