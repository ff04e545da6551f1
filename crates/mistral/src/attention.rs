//! Self-attention with grouped queries.

use burn::module::Module;
use foehn_kernels::{Rotary, Visibility};

use crate::Projection;

/// The projections of multi-head self-attention.
#[derive(Module, Debug)]
pub struct SelfAttention {
    pub(crate) q_proj: Projection,
    pub(crate) k_proj: Projection,
    pub(crate) v_proj: Projection,
    pub(crate) o_proj: Projection,
    #[module(skip)]
    pub(crate) head_dim: usize,
}

/// The inputs that all layers of a pass share.
pub(crate) struct Pass {
    pub rotary: Rotary,
    pub visibility: Visibility,
    /// Whether the backward pass computes each block's inner values again.
    pub recompute: bool,
}
