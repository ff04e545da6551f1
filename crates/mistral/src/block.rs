//! One decoder layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foehn_kernels::FeedForward;

use crate::attention::Pass;
use crate::{Mlp, SelfAttention};

/// Pre-norm attention and feed-forward, each added to the residual stream.
#[derive(Module, Debug)]
pub struct DecoderLayer {
    pub(crate) input_layernorm: Param<Tensor<1>>,
    pub(crate) self_attn: SelfAttention,
    pub(crate) post_attention_layernorm: Param<Tensor<1>>,
    pub(crate) mlp: Mlp,
    #[module(skip)]
    pub(crate) rms_norm_eps: f64,
}

impl DecoderLayer {
    /// # Shapes
    /// - x, output: `[rows, d_model]`
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &Pass) -> Tensor<2> {
        let foehn_kernels::DecoderLayerParts { attention, feed_forward, is_windowed } = self.kernels(pass.recompute);
        let visibility = &pass.visibility[usize::from(is_windowed)];
        feed_forward.forward(attention.forward(x, &pass.rotary, visibility, None))
    }

    /// The layer in the form that the kernels take.
    pub(crate) fn kernels(&self, recompute: bool) -> foehn_kernels::DecoderLayerParts<'_> {
        let Self { self_attn, mlp, rms_norm_eps: eps, .. } = self;
        foehn_kernels::DecoderLayerParts {
            attention: foehn_kernels::AttentionHalf {
                norm: self.input_layernorm.val(),
                eps: *eps,
                q_proj: self_attn.q_proj.linear(),
                k_proj: self_attn.k_proj.linear(),
                v_proj: self_attn.v_proj.linear(),
                o_proj: self_attn.o_proj.linear(),
                head_dim: self_attn.head_dim,
                head_norms: self_attn.head_norms.as_ref().map(|norms| norms.each_ref().map(Param::val)),
                is_rotated: self_attn.is_rotated,
                recompute,
            },
            feed_forward: FeedForward {
                norm: self.post_attention_layernorm.val(),
                eps: *eps,
                gate_proj: mlp.gate_proj.linear(),
                up_proj: mlp.up_proj.linear(),
                down_proj: mlp.down_proj.linear(),
                recompute,
            },
            is_windowed: self_attn.is_windowed,
        }
    }
}
