//! Root mean square normalisation.

use burn::tensor::Tensor;

/// RMSNorm: `y = x / sqrt(mean(x²) + eps) · weight`, over the last axis.
///
/// Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization"; `MistralRMSNorm` of transformers.
///
/// # Shapes
/// - x, output: `[rows, d_model]`
/// - weight: `[d_model]`
///
/// # Panics
/// When `weight` does not have `x`'s last dimension.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let [_, d_model] = x.dims();
    assert_eq!(weight.dims(), [d_model], "rms_norm: weight is not [d_model]");
    #[cfg(feature = "flex")]
    if let Some(y) = crate::flex::rms_norm(&x, &weight, eps) {
        return y;
    }
    let mean_square = x.clone().square().mean_dim(1);
    let inverse = mean_square.add_scalar(eps).sqrt().recip();
    x.mul(inverse).mul(weight.unsqueeze())
}
