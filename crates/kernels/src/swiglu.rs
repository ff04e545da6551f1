//! The gated activation of the feed-forward block.

use burn::tensor::{Tensor, activation::silu};

/// SwiGLU: `silu(gate) · up`, with `silu(x) = x / (1 + e^(-x))`.
///
/// Source: Shazeer 2020, "GLU Variants Improve Transformer".
///
/// # Shapes
/// - gate, up, output: `[rows, intermediate]`
///
/// # Panics
/// When the two shapes differ.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(gate.dims(), up.dims(), "swiglu: gate and up differ in shape");
    silu(gate).mul(up)
}
