//! One decoder layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use foehn_kernels::rms_norm;

use crate::attention::Pass;
use crate::cache::LayerCache;
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
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &Pass, cache: Option<LayerCache<'_>>) -> Tensor<2> {
        let normed = rms_norm(x.clone(), self.input_layernorm.val(), self.rms_norm_eps);
        let x = x.add(self.self_attn.forward(normed, pass, cache));
        let normed = rms_norm(x.clone(), self.post_attention_layernorm.val(), self.rms_norm_eps);
        x.add(self.mlp.forward(normed))
    }
}
